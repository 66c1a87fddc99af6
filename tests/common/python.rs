//! Programs of Python that write their own stacks, `tests/programs/python`, and their recordings.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::known_stacks::{KnownStacks, Stack, compare, describe, known_stacks, stacks};
use super::{Recorded, Recording, Running, TempDir, directory, wait_until};

/// The interpreter that every machine has.
pub const PYTHON: &str = "/usr/bin/python3";

/// Returns the interpreters of a version that are installed, in `PATH` or by pyenv.
pub fn installed(version: &str) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let root = std::env::var_os("PYENV_ROOT").map_or(home.join(".pyenv"), PathBuf::from);
    let versions = fs::read_dir(root.join("versions")).into_iter().flatten();
    directories.extend(versions.map(|entry| entry.unwrap().path().join("bin")));
    let files = directories.into_iter().map(|directory| directory.join(format!("python{version}")));
    // Scripts that start an interpreter are none.
    let is_program = |path: &PathBuf| fs::read(path).is_ok_and(|file| file.starts_with(b"\x7fELF"));
    files.filter(is_program).collect()
}
/// Frequency of the recordings.
const HZ: u64 = 997;
/// Seconds of a window.
const WINDOW_SECONDS: f64 = 0.1;
/// Seconds of work before the first window, in which the interpreter is read. Of a whole machine it
/// is not the only file.
const WARM_UP_SECONDS: f64 = 0.3;
const WARM_UP_OF_MACHINE_SECONDS: f64 = 3.0;
/// One of this many samples may be wrong.
const ONE_OF: u64 = 1000;
/// Samples of the shortest program, on a busy machine, are more.
const LEAST_SAMPLES: u64 = 20;
/// Samples that may be wrong in any run: between windows, and of code objects whose names were
/// beyond the limit of a tick.
const WRONG_MAX: u64 = 10;
/// Samples of a thread that may be wrong: before and after its first function of Python.
const WRONG_OF_THREAD_MAX: u64 = 2;
/// Seconds at the start of a child process in which it has no window, and in which its memory may
/// not be known to the kernel side yet: its stacks have no functions of Python then.
const CHILD_START_SECONDS: f64 = 0.3;

/// Returns the path of a program.
pub fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/python").join(name)
}

/// A program of Python to be recorded.
#[derive(Clone, Debug)]
pub struct Program {
    command: Vec<String>,
    environment: Vec<(String, String)>,
    /// Whether it has child processes.
    has_children: bool,
    /// Whether the whole machine is recorded.
    has_others: bool,
    /// Whether interpreters start while it is recorded, whose own code has no windows.
    starts_interpreters: bool,
    /// Beginnings of functions. If there are any, only samples with one of them count, and each of
    /// these must be right.
    functions: Vec<&'static str>,
    /// Samples that may be wrong even if they are few.
    wrong_max: u64,
}

impl Program {
    /// Returns a program that runs a file of `tests/programs/python`.
    pub fn new(file: &str, arguments: &[&str]) -> Self {
        let mut command = vec![PYTHON.to_owned(), source(file).to_str().unwrap().to_owned()];
        command.extend(arguments.iter().map(|&argument| argument.to_owned()));
        Self::of(command)
    }

    /// Returns a program that runs a file of `tests/programs/python` by another interpreter.
    pub fn by(interpreter: &Path, file: &str) -> Self {
        let command = [interpreter, &source(file)].map(|path| path.to_str().unwrap().to_owned());
        Self::of(command.into())
    }

    /// Returns a program that is run by a command.
    pub fn of(command: Vec<String>) -> Self {
        Self {
            command,
            environment: Vec::new(),
            has_children: false,
            has_others: false,
            starts_interpreters: false,
            functions: Vec::new(),
            wrong_max: WRONG_MAX,
        }
    }

    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    pub fn with_children(self) -> Self {
        Self { has_children: true, ..self }
    }

    pub fn with_all_others(self) -> Self {
        Self { has_others: true, ..self }
    }

    pub fn with_started_interpreters(self) -> Self {
        Self { starts_interpreters: true, ..self }
    }

    pub fn with_functions(self, functions: &[&'static str]) -> Self {
        Self { functions: functions.to_vec(), wrong_max: 0, ..self }
    }

    /// As [`Program::with_functions`], but for windows with ticks between them.
    pub fn with_windows_of(self, functions: &[&'static str]) -> Self {
        Self { functions: functions.to_vec(), ..self }
    }

    /// Starts the program. It writes its stacks to a file, and waits for
    /// [`Started::run_windows`].
    pub fn start(&self) -> Started {
        let place = directory();
        let path = place.path().join("stacks");
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).env("STACKS", &path);
        command.env("WINDOW_SECONDS", WINDOW_SECONDS.to_string()).envs(self.environment.clone());
        let warm_up = if self.has_others { WARM_UP_OF_MACHINE_SECONDS } else { WARM_UP_SECONDS };
        command.env("WARM_UP_SECONDS", warm_up.to_string());
        command.env("CHILD_START_SECONDS", CHILD_START_SECONDS.to_string());
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command.current_dir(place.path()).stdin(Stdio::piped()).stdout(Stdio::null());
        let running = Running(command.spawn().unwrap());
        let is_ready = || fs::read_to_string(&path).is_ok_and(|text| text.contains("\tready\t"));
        wait_until("a program that is ready", is_ready);
        Started { running, place }
    }

    /// Records the program while it runs its windows.
    pub fn record(&self) -> KnownRun {
        self.record_with(&[])
    }

    /// Records as [`Program::record`] does, with more arguments.
    pub fn record_with(&self, more: &[&str]) -> KnownRun {
        let mut started = self.start();
        let (hz, pid) = (HZ.to_string(), started.running.pid());
        // Load on the machine must not cut stacks: the test is about where a walk leads.
        let mut arguments = vec!["-F", &hz, "--no-kernel", "--tick-limit", "50000"];
        arguments.extend(more);
        match (self.has_others, self.has_children) {
            (true, _) => {}
            (_, true) => arguments.extend(["--comm", "python3"]),
            _ => arguments.extend(["-p", &pid]),
        }
        let recording = Recording::start(&arguments);
        started.run_windows();
        let recorded = recording.stop().succeeded();
        started.finish();
        KnownRun::read(self.clone(), recorded, &started.path())
    }

    /// Records the program, and asserts that its samples are those that it has written.
    pub fn check(&self) -> KnownRun {
        let run = self.record();
        run.assert_exact();
        run
    }
}

/// A program that waits, or runs its windows.
pub struct Started {
    running: Running,
    place: TempDir,
}

impl Started {
    /// Returns the path of the stacks that it writes.
    pub fn path(&self) -> PathBuf {
        self.place.path().join("stacks")
    }

    /// Lets the program run its windows, and waits for their end. The program then waits.
    pub fn run_windows(&mut self) {
        let path = self.path();
        let child = &mut self.running.0;
        child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        let has_ended = || {
            let is_done = fs::read_to_string(&path).unwrap().contains("\tdone\t");
            is_done || child.try_wait().unwrap().is_some()
        };
        wait_until("the end of all windows", has_ended);
    }

    /// Lets the program end.
    pub fn finish(&mut self) {
        let child = &mut self.running.0;
        drop(child.stdin.take());
        let status = child.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

/// A recorded program with the stacks that it has written.
pub struct KnownRun {
    program: Program,
    pub recorded: Recorded,
    pub known: KnownStacks,
}

/// The samples of a program.
#[derive(Debug, Default)]
pub struct Score {
    pub all: u64,
    pub exact: u64,
    /// Wrong stacks with their samples.
    pub wrong: Vec<(u64, String)>,
    /// Samples of each window.
    pub windows: BTreeMap<String, u64>,
    /// Samples of each window whose leaf is in the expected file, and all of them.
    pub leaves: BTreeMap<String, (u64, u64)>,
}

impl KnownRun {
    /// Reads what a program has written that was recorded elsewhere.
    pub fn read(program: Program, recorded: Recorded, stacks: &Path) -> Self {
        Self { program, recorded, known: known_stacks(stacks) }
    }

    /// Returns the stacks of the program, without those between windows.
    pub fn stacks(&self) -> Vec<Stack> {
        let is_counted = |stack: &Stack| {
            let Program { starts_interpreters, functions, .. } = &self.program;
            self.known.contains_key(&(stack.pid, stack.tid))
                && !stack.is_harness()
                && (!starts_interpreters || stack.is_in_program())
                && (functions.is_empty() || functions.iter().any(|f| stack.has_function(f)))
        };
        let mut stacks = stacks(&self.recorded.pprof());
        stacks.retain(is_counted);
        let Program { has_children, has_others, .. } = self.program;
        if has_children || has_others {
            remove_starts(&mut stacks);
        }
        stacks
    }

    /// Compares each sample with the stacks that its thread has written.
    pub fn score(&self) -> Score {
        let mut score = Score::default();
        for known in self.known.values().flatten() {
            score.windows.entry(known.window.clone()).or_default();
        }
        for stack in self.stacks() {
            let (known, fault) = compare(&stack, &self.known[&(stack.pid, stack.tid)]);
            score.all += stack.count;
            match fault {
                None => score.exact += stack.count,
                Some(fault) => score.wrong.push((stack.count, describe(&stack, &fault))),
            }
            if let Some(known) = known {
                *score.windows.entry(known.window.clone()).or_default() += stack.count;
                if let Some(file) = known.leaf() {
                    let leaf = score.leaves.entry(known.window.clone()).or_default();
                    let is_in_file = stack.native_runs()[0].iter().any(|f| f.matches(file));
                    leaf.0 += if is_in_file { stack.count } else { 0 };
                    leaf.1 += stack.count;
                }
            }
        }
        score.wrong.sort_by(|a, b| b.cmp(a));
        score
    }

    /// Asserts that 99.9 % of the samples are exact, or all of them if only some functions count,
    /// and that each window has a tenth of the samples that an average one has: how many that are
    /// depends on what else the machine does.
    pub fn assert_exact(&self) {
        let Self { program, recorded, .. } = self;
        let Score { all, exact, wrong, windows, leaves } = &self.score();
        let command = program.command.join(" ");
        let wrong = wrong.iter().take(20).map(|(count, text)| format!("\n  {count} {text}"));
        let wrong: String = wrong.collect();
        let (limit, least) = match program.wrong_max {
            0 => (0, 0),
            max => {
                let max = max + WRONG_OF_THREAD_MAX * self.known.len() as u64;
                ((all / ONE_OF).max(max), (all / windows.len().max(1) as u64 / 10).max(1))
            }
        };
        let is_exact = *all > LEAST_SAMPLES && all - exact <= limit.min(all / 10);
        assert!(is_exact, "{command}: {exact} of {all} exact:{wrong}\n{}", recorded.stderr);
        let few: Vec<_> = windows.iter().filter(|(_, count)| **count < least).collect();
        assert!(few.is_empty(), "{command}: windows with few samples: {few:?}");
        for (window, (inside, count)) in leaves {
            assert!(inside * 2 >= *count, "{command}: {window}: {inside} of {count} in C code");
        }
    }
}

/// Removes samples without functions of Python of the start of each process: as many as there are
/// ticks in that time at most.
fn remove_starts(stacks: &mut Vec<Stack>) {
    let mut left = BTreeMap::new();
    for stack in stacks.iter_mut().filter(|stack| stack.python().is_empty()) {
        let left = left.entry(stack.pid).or_insert((CHILD_START_SECONDS * HZ as f64) as u64);
        let removed = stack.count.min(*left);
        *left -= removed;
        stack.count -= removed;
    }
    stacks.retain(|stack| stack.count > 0);
}
