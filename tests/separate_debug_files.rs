//! Stripped programs get names and lines from the files with their debug info, wherever tools and
//! distributions put these: below the root of the process, which may be a container's, by build ID
//! or by the name in the program. What somebody else has put there does not count.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use common::{Recorded, Running, Trace, alone, compile_with, directory, record, succeed};
use object::Object;
use tempfile::TempDir;

/// Options that make a program of a root of its own.
const PROGRAM: &[&str] = &["-static", "-Wl,--build-id"];

/// A root directory with a program, as a container has.
struct Root(TempDir);

impl Root {
    /// Compiles `usr/bin/app`. Its debug info is to be at `debug` in the directory `work`.
    fn with_program(source: &str, options: &[&str]) -> Self {
        let root = Self(directory());
        fs::create_dir_all(root.path("usr/bin")).unwrap();
        fs::create_dir_all(root.path("work")).unwrap();
        let program = compile_with(source, &root.path("usr/bin"), "app", options);
        let debug = root.path("work/app.debug");
        succeed(Command::new("objcopy").arg("--only-keep-debug").arg(program).arg(debug));
        root
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn program(&self) -> PathBuf {
        self.path("usr/bin/app")
    }

    /// Returns where the debug info of a file is installed by its build ID.
    fn by_build_id(&self, file: &Path) -> PathBuf {
        let bytes = fs::read(file).unwrap();
        let id = object::File::parse(&*bytes).unwrap().build_id().unwrap().unwrap().to_vec();
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        self.path(&format!("usr/lib/debug/.build-id/{}/{}.debug", &id[..2], &id[2..]))
    }

    /// Strips the program, and has it name `app.debug` as it is in `work` now.
    fn link_and_strip(&self) {
        let mut objcopy = Command::new("objcopy");
        let link = "--add-gnu-debuglink=app.debug";
        succeed(objcopy.current_dir(self.path("work")).args(["-S", link]).arg(self.program()));
    }

    fn strip(&self) {
        succeed(Command::new("strip").arg(self.program()));
    }

    /// Copies `work/app.debug` to a path.
    fn install(&self, path: impl AsRef<Path>) {
        let to = self.0.path().join(path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(self.path("work/app.debug"), to).unwrap();
    }

    /// Runs the program in the root.
    fn start(&self) -> Running {
        let mut chroot = Command::new("chroot");
        Running(chroot.arg(self.0.path()).arg("/usr/bin/app").spawn().unwrap())
    }

    /// Records the program in the root. Returns its samples in `spin`: with a line, and all.
    fn record(&self) -> [u64; 2] {
        samples(&record_pid(&self.start().0))
    }
}

fn record_pid(child: &Child) -> Recorded {
    record(&["-F", "199", "-d", "1", "-p", &child.id().to_string()]).succeeded()
}

/// Returns the samples in `spin` of chain.c: with a line, and all.
fn samples(recorded: &Recorded) -> [u64; 2] {
    let count = |is_counted: &dyn Fn(&str) -> bool| {
        let traces = recorded.traces();
        let traces = traces.iter().filter(|trace| trace.frames.iter().any(|f| is_counted(f)));
        traces.map(|trace| trace.count).sum::<u64>()
    };
    let with_line = count(&|frame| frame.starts_with("spin ") && frame.contains("chain.c:"));
    println!("{with_line} with a line");
    [with_line, count(&|frame| frame == "spin" || frame.starts_with("spin "))]
}

#[track_caller]
fn assert_has_lines(root: &Root, place: &str) {
    let [lines, all] = root.record();
    assert!(lines > 50 && lines == all, "{place}: {lines} of {all} with a line");
}

#[track_caller]
fn assert_has_no_names(root: &Root, reason: &str) {
    let [_, all] = root.record();
    assert_eq!(all, 0, "{reason}");
}

#[test]
fn debug_files_below_the_root_of_a_process_are_found() {
    let _alone = alone();
    let root = Root::with_program("chain.c", PROGRAM);
    let by_id = root.by_build_id(&root.program());
    root.link_and_strip();
    let program = "usr/bin/app.debug";
    for place in [program, "usr/bin/.debug/app.debug", "usr/lib/debug/usr/bin/app.debug"] {
        root.install(place);
        assert_has_lines(&root, place);
        fs::remove_file(root.path(place)).unwrap();
    }
    root.install(&by_id);
    assert_has_lines(&root, "the build ID");
    // As distributions do: a link, which is followed below the root.
    fs::remove_file(&by_id).unwrap();
    root.install("usr/lib/debug/files/app");
    symlink("/usr/lib/debug/files/app", &by_id).unwrap();
    assert_has_lines(&root, "a link");
    fs::remove_file(&by_id).unwrap();
    assert_has_no_names(&root, "nothing is left");
}

#[test]
fn a_checksum_is_compared_where_there_is_no_build_id() {
    let _alone = alone();
    let root = Root::with_program("chain.c", &["-static", "-Wl,--build-id=none"]);
    root.link_and_strip();
    root.install("usr/bin/app.debug");
    assert_has_lines(&root, "the right checksum");
    let mut bytes = fs::read(root.path("usr/bin/app.debug")).unwrap();
    bytes.push(0);
    fs::write(root.path("usr/bin/app.debug"), bytes).unwrap();
    assert_has_no_names(&root, "another checksum");
}

#[test]
fn a_debug_file_with_another_build_id_is_passed_over() {
    let _alone = alone();
    let root = Root::with_program("chain.c", PROGRAM);
    let by_id = root.by_build_id(&root.program());
    root.link_and_strip();
    root.install("usr/bin/app.debug");
    fs::create_dir_all(by_id.parent().unwrap()).unwrap();
    let other = ["-static", "-DOTHER", "-Wl,--build-id=0x0123456789"];
    let other = compile_with("chain.c", &root.path("work"), "other", &other);
    fs::copy(other, &by_id).unwrap();
    assert_has_lines(&root, "the next place");
}

#[test]
fn what_others_have_put_below_a_root_does_not_count() {
    let _alone = alone();
    let root = Root::with_program("chain.c", PROGRAM);
    let by_id = root.by_build_id(&root.program());
    root.strip();
    root.install(&by_id);
    assert_has_lines(&root, "the owner of the program");
    std::os::unix::fs::chown(&by_id, Some(1234), None).unwrap();
    assert_has_no_names(&root, "another owner");
    std::os::unix::fs::chown(&by_id, Some(0), None).unwrap();
    // A user who mounts files of the host in a root cannot name them for the host, and who mounts
    // a file system that never answers delays no other.
    for mounted in ["usr/bin", "usr/lib/debug"] {
        let program = fs::read(root.program()).unwrap();
        let directory = root.path(mounted);
        succeed(
            Command::new("mount").args(["-t", "tmpfs", "-o", "mode=755", "test"]).arg(&directory),
        );
        fs::write(root.program(), program).unwrap();
        fs::set_permissions(root.program(), fs::Permissions::from_mode(0o755)).unwrap();
        root.install(&by_id);
        let counts = root.record();
        succeed(Command::new("umount").arg("--lazy").arg(&directory));
        assert_eq!(counts[1], 0, "{mounted} on another file system");
    }
}

/// A copy of a program whose debug file says something else is another program.
#[test]
fn roots_with_one_program_have_their_own_names() {
    let _alone = alone();
    let root = Root::with_program("chain.c", PROGRAM);
    let other = Root(directory());
    let by_id = root.by_build_id(&root.program());
    root.strip();
    succeed(Command::new("cp").arg("-a").arg(root.path("usr")).arg(other.0.path()));
    root.install(&by_id);
    let [one, second] = [root.start(), other.start()];
    let pids = format!("{},{}", one.pid(), second.pid());
    let recorded = record(&["-F", "199", "-d", "2", "-p", &pids]).succeeded();
    let [lines, all] = samples(&recorded);
    let processes = recorded.traces().iter().map(|trace| trace.count).sum::<u64>();
    println!("{lines} of {processes}");
    assert!(lines > 50 && lines == all && lines * 10 < processes * 8, "{lines} of {processes}");
}

#[test]
fn what_dwz_has_put_aside_is_found() {
    let _alone = alone();
    let root = Root::with_program("inlined.c", PROGRAM);
    let by_id = root.by_build_id(&root.program());
    // The same functions, so that they are moved.
    let options = [PROGRAM, &["-DSECOND"]].concat();
    let second = compile_with("inlined.c", &root.path("work"), "second", &options);
    fs::create_dir_all(root.path("usr/lib/debug/.dwz")).unwrap();
    let mut dwz = Command::new("dwz");
    dwz.args(["-m", "aside", "-M", "/usr/lib/debug/.dwz/aside", "app.debug"]).arg(second);
    succeed(dwz.current_dir(root.path("work")));
    fs::copy(root.path("work/aside"), root.path("usr/lib/debug/.dwz/aside")).unwrap();
    root.strip();
    root.install(&by_id);
    assert_inlined(&root);
    // By its build ID, wherever it lies.
    let aside = root.by_build_id(&root.path("work/aside"));
    fs::create_dir_all(aside.parent().unwrap()).unwrap();
    fs::rename(root.path("usr/lib/debug/.dwz/aside"), &aside).unwrap();
    assert_inlined(&root);
    fs::remove_file(aside).unwrap();
    let recorded = record_pid(&root.start().0);
    let functions = |trace: &Trace| trace.functions().contains(&"inner");
    assert!(!recorded.traces().iter().any(functions), "the test is about what was moved");
}

#[test]
fn a_package_of_split_units_is_found() {
    let _alone = alone();
    let root = Root::with_program("inlined.c", &["-static", "-gsplit-dwarf", "-gdwarf-5"]);
    let units = fs::read_dir(root.path("usr/bin")).unwrap().flatten().map(|entry| entry.path());
    let units: Vec<PathBuf> =
        units.filter(|path| path.extension().is_some_and(|ext| ext == "dwo")).collect();
    assert!(!units.is_empty(), "the compiler has split the debug info");
    let mut dwp = Command::new("llvm-dwp");
    succeed(dwp.args(&units).arg("-o").arg(root.path("usr/bin/app.dwp")));
    units.iter().for_each(|unit| fs::remove_file(unit).unwrap());
    assert_inlined(&root);
}

/// Records a program of inlined.c in its root, and checks that what is inlined has names.
#[track_caller]
fn assert_inlined(root: &Root) {
    let recorded = record_pid(&root.start().0);
    let traces = recorded.traces();
    let has = |name: &str| {
        let is_named = |frame: &String| frame.starts_with(name) && frame.contains("inlined.c:");
        traces.iter().filter(|t| t.frames.iter().any(is_named)).map(|t| t.count).sum::<u64>()
    };
    let counts = ["inner ", "middle ", "outer "].map(has);
    assert!(counts.iter().all(|count| *count > 30), "{counts:?}: {traces:#?}");
}
