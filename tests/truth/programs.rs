//! Builds the programs: each source by several compilers at several levels of optimisation.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A built program and what its frames are called by.
#[derive(Clone, Debug)]
pub struct Program {
    pub name: String,
    pub path: PathBuf,
    pub arguments: Vec<PathBuf>,
}

impl Program {
    pub fn with_argument(mut self, argument: &Path) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }
}

/// Frames that are no lines of the source would blur the chain; frame pointers would help too much.
const PLAIN: [&str; 4] = ["-w", "-pthread", "-fomit-frame-pointer", "-fno-optimize-sibling-calls"];
/// Each compiler at each level.
pub const EVERYWHERE: [(&str, &str); 6] = [
    ("gcc", "-O0"),
    ("gcc", "-O2"),
    ("gcc", "-O3"),
    ("clang", "-O0"),
    ("clang", "-O2"),
    ("clang", "-O3"),
];

/// Where sources lie.
pub fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/truth").join(name)
}

/// Compiles one source to a program of this name.
pub fn build(
    place: &Path,
    name: &str,
    compiler: &str,
    source_name: &str,
    more: &[&str],
) -> Program {
    let path = place.join(name);
    let mut command = Command::new(compiler);
    // What more says comes last: it may take back what is said before.
    command.args(PLAIN).arg(source(source_name)).arg("-o").arg(&path).args(more);
    run(&mut command);
    Program { name: name.into(), path, arguments: Vec::new() }
}

/// Compiles one source in each of these ways: `gcc-O2` and the like.
pub fn build_all(place: &Path, ways: &[(&str, &str)], source: &str, more: &[&str]) -> Vec<Program> {
    let build_one = |(compiler, level): &(&str, &str)| {
        let name = format!("{compiler}{level}");
        let compiler = match (*compiler, source.ends_with(".cpp")) {
            ("gcc", true) => "g++",
            ("clang", true) => "clang++",
            (compiler, _) => compiler,
        };
        build(place, &name, compiler, source, &[&[*level], more].concat())
    };
    ways.iter().map(build_one).collect()
}

/// Runs a tool that must succeed.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
