//! Shared by the tests: programs with known stacks, recordings, and readers of their files.
//!
//! Every test profiles the real machine, so they run one at a time: each holds [`alone`].
// Each test binary uses a part of this, and a test may panic.
#![allow(dead_code, clippy::unwrap_used)]

pub mod agent;
pub mod cgroup;
pub mod elf;
pub mod jit;
pub mod known_stacks;
pub mod lines;
pub mod python;
pub mod recording;
pub mod user;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use recording::Recording;
pub use tempfile::TempDir;

/// Waits until no other test of this binary runs. Panics if profiling is not possible.
pub fn alone() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    let guard = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(
        rustix::process::geteuid().is_root(),
        "these tests profile the machine: run them as root"
    );
    guard
}

/// Names the optimized program, which `./dev bench-attacks` puts in the place of the tests' own.
const PROGRAM_UNDER_TEST: &str = "PROGRAM_UNDER_TEST";

/// Returns a command that runs the program under test.
pub fn everytick() -> Command {
    let given = std::env::var_os(PROGRAM_UNDER_TEST);
    Command::new(given.unwrap_or_else(|| env!("CARGO_BIN_EXE_everytick").into()))
}

/// Whether the program under test is optimized.
pub fn is_optimized() -> bool {
    std::env::var_os(PROGRAM_UNDER_TEST).is_some() || !cfg!(debug_assertions)
}

/// Returns the paths of the system's libraries and programs, and of Rust's libraries.
pub fn installed_files() -> Vec<PathBuf> {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().unwrap();
    let sysroot = String::from_utf8(sysroot.stdout).unwrap();
    let toolchain = Path::new(sysroot.trim()).join("lib");
    let directories = [Path::new("/usr/lib/x86_64-linux-gnu"), Path::new("/usr/bin"), &toolchain];
    let entries = directories.iter().filter_map(|directory| directory.read_dir().ok()).flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.symlink_metadata().unwrap().is_file()).collect()
}

/// Runs a command and returns its output; panics if it fails.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Creates an empty directory, which is removed when it is dropped.
pub fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Compiles `tests/programs/SOURCE` with frame pointers and debug information into `name`.
pub fn compile(source: &str, directory: &Path, name: &str) -> PathBuf {
    compile_with(source, directory, name, &[])
}

/// Compiles as [`compile`] does, with more arguments.
pub fn compile_with(source: &str, directory: &Path, name: &str, arguments: &[&str]) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(source);
    let out = directory.join(name);
    let mut compiler = match path.extension().and_then(|e| e.to_str()) {
        Some("rs") => {
            let mut rustc = Command::new("rustc");
            rustc.args(["-g", "-O", "-Cforce-frame-pointers=yes"]);
            rustc
        }
        extension => {
            let mut cc = Command::new(if extension == Some("cpp") { "g++" } else { "gcc" });
            cc.args([
                "-g",
                "-O1",
                "-fno-omit-frame-pointer",
                "-fno-optimize-sibling-calls",
                "-pthread",
            ]);
            cc
        }
    };
    let done = compiler.args(arguments).arg(&path).arg("-o").arg(&out).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    out
}

/// Calls a function for each item, all at the same time, as for programs that are compiled. Returns
/// the results in the order of the items.
pub fn in_parallel<T: Send, R: Send>(
    items: impl IntoIterator<Item = T>,
    run: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    std::thread::scope(|scope| {
        let run = &run;
        let start = |item| scope.spawn(move || run(item));
        let threads: Vec<_> = items.into_iter().map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// A program that is killed when it is dropped.
pub struct Running(pub Child);

impl Running {
    pub fn start(program: &Path) -> Self {
        Self::start_with(program, &[])
    }

    pub fn start_with(program: &Path, arguments: &[PathBuf]) -> Self {
        let mut command = Command::new(program);
        Self(command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    pub fn pid(&self) -> String {
        self.0.id().to_string()
    }

    /// Lowers its priority.
    pub fn give_way(&self) {
        let pid = rustix::process::Pid::from_raw(self.0.id() as i32);
        rustix::process::setpriority_process(pid, 5).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A finished `everytick record` that wrote `out.pb.gz` and `out.folded`.
pub struct Recorded {
    pub directory: TempDir,
    pub status: i32,
    pub stderr: String,
}

/// Runs `everytick record` with these arguments; `--` and what follows come last.
pub fn record(arguments: &[&str]) -> Recorded {
    Recording::spawn(arguments).finish()
}

/// Reads the result of a recording in a directory.
pub fn recorded(directory: TempDir, output: Output) -> Recorded {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Recorded { directory, status: output.status.code().unwrap_or(-1), stderr }
}

/// Waits until a condition holds. Panics after two minutes, in which a busy machine does anything.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(120), "timed out waiting for {what}");
        pause(50);
    }
}

/// Sleeps.
pub fn pause(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

pub fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Stacks, outermost frame first, as folded text has them, and their samples.
pub type Folded = Vec<(Vec<String>, u64)>;

pub fn parse_folded(text: &str) -> Folded {
    let split = |line: &str| {
        let (stack, count) = line.rsplit_once(' ').unwrap();
        (stack.split(';').map(str::to_owned).collect(), count.parse().unwrap())
    };
    text.lines().map(split).collect()
}

impl Recorded {
    pub fn succeeded(self) -> Self {
        assert_eq!(self.status, 0, "{}", self.stderr);
        self
    }

    pub fn pprof_path(&self) -> PathBuf {
        self.directory.path().join("out.pb.gz")
    }

    pub fn pprof(&self) -> profile::pprof::proto::Profile {
        let bytes = std::fs::read(self.pprof_path()).unwrap();
        profile::pprof::decode(&bytes, 1 << 30).unwrap()
    }

    pub fn folded(&self) -> Folded {
        let text = std::fs::read_to_string(self.directory.path().join("out.folded")).unwrap();
        parse_folded(&text)
    }

    /// Counts the samples whose stack contains all these frames, in this order from the outermost.
    pub fn samples_through(&self, frames: &[&str]) -> u64 {
        let contains = |stack: &[String]| {
            let mut rest = stack.iter();
            frames.iter().all(|frame| rest.any(|found| found == frame))
        };
        self.folded().iter().filter(|(stack, _)| contains(stack)).map(|(_, count)| count).sum()
    }

    /// Reads the ledger in the comments of the pprof file: `aggregated` and so on by name.
    pub fn ledger(&self) -> BTreeMap<String, u64> {
        let profile = self.pprof();
        let comments =
            profile.comment.iter().map(|index| profile.string_table[*index as usize].clone());
        let text: Vec<String> = comments.collect();
        parse_ledger(text.iter().map(String::as_str))
    }

    /// Returns the samples as `go tool pprof -traces -lines` prints them.
    pub fn traces(&self) -> Vec<Trace> {
        let path = self.pprof_path();
        let mut command = Command::new("go");
        command.args(["tool", "pprof", "-traces", "-lines", "-sample_index=samples"]).arg(path);
        let output = command.output().expect("go is installed by ./dev setup");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        parse_traces(&String::from_utf8(output.stdout).unwrap())
    }
}

/// Reads the ledger among the lines of a text: `aggregated` and so on by name.
pub fn parse_ledger<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeMap<String, u64> {
    let mut ledger = BTreeMap::new();
    let is_equation =
        |line: &&str| ["due ", "ticks ", "emitted "].iter().any(|w| line.starts_with(w));
    let lines = lines.map(|line| line.strip_prefix("# ").unwrap_or(line));
    for line in lines.filter(is_equation) {
        let (sums, reasons) = line.split_once(" (").unwrap_or((line, ""));
        for term in sums.split(['=', '+']) {
            let (name, count) = term.trim().rsplit_once(' ').unwrap();
            ledger.insert(name.to_owned(), count.parse().unwrap());
        }
        for reason in reasons.trim_end_matches(')').split(", ").filter(|r| !r.is_empty()) {
            let (name, count) = reason.rsplit_once(": ").unwrap();
            ledger.insert(name.to_owned(), count.parse().unwrap());
        }
    }
    ledger
}

/// One sample of `go tool pprof -traces`.
#[derive(Debug, Default)]
pub struct Trace {
    pub labels: BTreeMap<String, String>,
    pub count: u64,
    /// Innermost first: `function file:line`.
    pub frames: Vec<String>,
}

impl Trace {
    /// Returns the functions without their lines.
    pub fn functions(&self) -> Vec<&str> {
        self.frames
            .iter()
            .map(|frame| frame.rsplit_once(" /").map_or(frame.as_str(), |(name, _)| name))
            .collect()
    }
}

fn parse_traces(text: &str) -> Vec<Trace> {
    let blocks =
        text.split("-----------+-------------------------------------------------------\n");
    blocks.skip(1).map(parse_trace).filter(|trace| trace.count > 0).collect()
}

fn parse_trace(block: &str) -> Trace {
    let mut trace = Trace::default();
    for line in block.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if trace.count == 0 {
            if let Some((key, value)) = line.split_once(":  ") {
                trace.labels.insert(key.to_owned(), value.to_owned());
                continue;
            }
            let (count, frame) = line.split_once(' ').unwrap_or((line, ""));
            trace.count = count.parse().unwrap();
            trace.frames.push(frame.trim().to_owned());
        } else {
            trace.frames.push(line.to_owned());
        }
    }
    trace
}
