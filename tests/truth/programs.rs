//! Builds the programs: each source by several compilers at several optimization levels.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::in_parallel;

/// A built program.
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

/// Flags of every program: each call has a frame, and no frame pointers help the unwinder.
const FLAGS: [&str; 4] = ["-w", "-pthread", "-fomit-frame-pointer", "-fno-optimize-sibling-calls"];
/// Each compiler at each optimization level.
pub const EVERYWHERE: [(&str, &str); 6] = [
    ("gcc", "-O0"),
    ("gcc", "-O2"),
    ("gcc", "-O3"),
    ("clang", "-O0"),
    ("clang", "-O2"),
    ("clang", "-O3"),
];

/// Returns the path of a source.
pub fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/truth").join(name)
}

/// Compiles a source into a program of this name.
pub fn build(dir: &Path, name: &str, compiler: &str, source_name: &str, more: &[&str]) -> Program {
    let path = dir.join(name);
    let mut command = Command::new(compiler);
    // `more` comes last, because it may override the other flags.
    command.args(FLAGS).arg(source(source_name)).arg("-o").arg(&path).args(more);
    run(&mut command);
    Program { name: name.into(), path, arguments: Vec::new() }
}

/// Compiles a source with each of these compilers and levels, into `gcc-O2` and so on.
pub fn build_all(dir: &Path, ways: &[(&str, &str)], source: &str, more: &[&str]) -> Vec<Program> {
    let build_one = |(compiler, level): &(&str, &str)| {
        let name = format!("{compiler}{level}");
        let compiler = match (*compiler, source.ends_with(".cpp")) {
            ("gcc", true) => "g++",
            ("clang", true) => "clang++",
            (compiler, _) => compiler,
        };
        build(dir, &name, compiler, source, &[&[*level], more].concat())
    };
    in_parallel(ways, build_one)
}

/// Runs a tool; panics if it fails.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
