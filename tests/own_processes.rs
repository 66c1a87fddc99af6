//! A user without privileges profiles own processes, as far as the kernel allows, and reads what is
//! missing.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Output;

use common::user::User;
use common::{Recorded, alone, compile_with, pause, wait_until};

const HZ: &str = "997";
const CHAIN: [&str; 7] = ["chain", "_start", "main", "a", "b", "c", "spin"];

/// Checks that the ledger closes, and returns what was due and how many samples there are.
fn due_and_samples(recorded: &Recorded) -> (u64, u64) {
    let ledger = recorded.ledger();
    let get = |name: &str| ledger[name];
    let due = get("due of tasks");
    assert_eq!(due, get("ticks") + get("missed") + get("not sampled"), "{}", recorded.stderr);
    assert_eq!(get("ticks"), get("emitted") + get("skipped"), "{}", recorded.stderr);
    assert_eq!(get("emitted"), get("aggregated") + get("lost"), "{}", recorded.stderr);
    (due, get("aggregated"))
}

/// CPU time of a process in seconds, by /proc.
fn cpu_seconds(pid: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: f64 = fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum();
    ticks / 100.0 // USER_HZ
}

#[test]
fn command_has_its_known_stack_in_every_sample() {
    let _alone = alone();
    let user = User::new();
    let chain = user.compile("chain.c", "chain");
    let recorded = user.record(&["-F", HZ, "-d", "2", "--", chain.to_str().unwrap()]).succeeded();
    let (due, samples) = due_and_samples(&recorded);
    assert!(samples > 200, "{}", recorded.stderr);
    assert!(samples * 10 >= due * 9, "{samples} of {due}: {}", recorded.stderr);
    // The dynamic loader has run before main.
    let complete = recorded.samples_through(&CHAIN);
    assert!(complete * 100 >= samples * 98, "{complete} of {samples}: {:?}", recorded.folded());
    assert!(recorded.stderr.contains("chain and its descendants, user code only at 997 Hz"));
    let note = "note          kernel code and other processes are not sampled without \
                capabilities; use sudo, or once `sudo setcap cap_bpf,";
    assert!(recorded.stderr.contains(note), "{}", recorded.stderr);
    assert!(recorded.stderr.contains("without perf's"), "{}", recorded.stderr);
    assert!(!recorded.stderr.contains("busy"), "{}", recorded.stderr);
}

#[test]
fn samples_are_the_cpu_time_of_a_running_process() {
    let _alone = alone();
    let user = User::new();
    let program = user.start(&user.compile("chain.c", "chain"), &[]);
    let pid = program.pid();
    let before = cpu_seconds(&pid);
    let recording = user.start_recording(&["-F", HZ, "-p", &pid]);
    let begin = cpu_seconds(&pid);
    pause(3000);
    let end = cpu_seconds(&pid);
    let recorded = recording.stop().succeeded();
    let after = cpu_seconds(&pid);
    let (_, samples) = due_and_samples(&recorded);
    let seconds = samples as f64 / 997.0;
    let range = 0.95 * (end - begin) - 0.02..=1.05 * (after - before) + 0.02;
    assert!(range.contains(&seconds), "{seconds} s of {range:?}: {}", recorded.stderr);
    let complete = recorded.samples_through(&CHAIN);
    assert!(complete * 1000 >= samples * 999, "{complete} of {samples}: {:?}", recorded.folded());
}

#[test]
fn threads_have_names_and_can_be_selected() {
    let _alone = alone();
    let user = User::new();
    let program = user.start(&user.compile("threads.c", "threads"), &[]);
    let pid = program.pid();
    let recorded = user.record(&["-F", HZ, "-d", "2", "--by", "thread", "-p", &pid]).succeeded();
    let late = recorded.samples_through(&["threads", "late", "late_work"]);
    let all = due_and_samples(&recorded).1;
    assert!(late > 50 && late * 100 >= all * 98, "{late} of {all}: {:?}", recorded.folded());

    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let tids = tasks.map(|task| task.unwrap().file_name().into_string().unwrap());
    let late_tid = tids.into_iter().find(|tid| *tid != pid).unwrap();
    let recorded = user.record(&["-F", HZ, "-d", "1", "-t", &late_tid]).succeeded();
    assert!(recorded.samples_through(&["threads", "late_work"]) > 20, "{}", recorded.stderr);
    let recorded = user.record(&["-F", HZ, "-d", "1", "-t", &pid]).succeeded();
    assert_eq!(due_and_samples(&recorded).1, 0, "the main thread sleeps: {}", recorded.stderr);
}

#[test]
fn descendants_of_a_command_are_sampled_through_fork_and_exec() {
    let _alone = alone();
    let user = User::new();
    for name in ["first", "second", "third"] {
        user.compile("short.c", name);
    }
    let directory = user.path().display();
    let script = "for i in 1 2 3 4 5 6; do ./first; ./second & wait; (exec ./third); done";
    let script = format!("cd {directory}; {script}");
    let recorded = user.record(&["-F", HZ, "--", "sh", "-c", &script]).succeeded();
    due_and_samples(&recorded);
    for name in ["first", "second", "third"] {
        let complete = recorded.samples_through(&[name, "_start", "main"]);
        assert!(complete >= 5, "{name}: {complete}: {:?}", recorded.folded());
    }
}

#[test]
fn child_of_a_selected_process_is_not_sampled() {
    let _alone = alone();
    let user = User::new();
    let short = user.compile("short.c", "short");
    let script = format!("while :; do {}; done", short.display());
    let shell = user.start(Path::new("/bin/sh"), &["-c", &script]);
    let recorded = user.record(&["-F", HZ, "-d", "1", "-p", &shell.pid()]).succeeded();
    due_and_samples(&recorded);
    let folded = recorded.folded();
    assert!(folded.iter().all(|(stack, _)| stack[0] == "sh"), "{folded:?}");
}

#[test]
fn samples_that_do_not_fit_into_the_ring_are_counted() {
    let _alone = alone();
    let user = User::new();
    let program = user.start(&user.compile("chain.c", "chain"), &[]);
    let tiny = ["-F", "max", "-d", "1", "--ring-size", "4KiB", "-p", &program.pid()];
    let recorded = user.record(&tiny);
    assert_eq!(recorded.status, 3, "{}", recorded.stderr);
    let (due, samples) = due_and_samples(&recorded);
    let lost = recorded.ledger()["ring full"];
    assert!(samples > 0 && lost > 0, "{}", recorded.stderr);
    assert!((samples + lost) * 10 >= due * 9 && samples + lost <= due + 2, "{}", recorded.stderr);
    assert!(recorded.stderr.contains("use a larger --ring-size"), "{}", recorded.stderr);
}

#[test]
fn rings_fit_into_the_memory_that_may_be_locked() {
    let _alone = alone();
    let user = User::new();
    let chain = user.compile("chain.c", "chain");
    let mut command = user.command("/usr/bin/prlimit");
    command.arg("--memlock=0").arg(user.program());
    command.args(["record", "-F", HZ, "-d", "1", "-o", "x.folded", "--"]).arg(&chain);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let folded = fs::read_to_string(user.path().join("x.folded")).unwrap();
    assert!(folded.contains(";main;a;b;c;spin "), "{folded}");
}

/// A setting of the kernel, which is restored when this is dropped.
struct Paranoid(String);

impl Paranoid {
    const FILE: &str = "/proc/sys/kernel/perf_event_paranoid";

    fn change_to(level: &str) -> Self {
        let original = fs::read_to_string(Self::FILE).unwrap();
        fs::write(Self::FILE, level).unwrap();
        Self(original)
    }
}

impl Drop for Paranoid {
    fn drop(&mut self) {
        fs::write(Self::FILE, &self.0).unwrap();
    }
}

#[test]
fn kernel_frames_are_sampled_where_the_kernel_allows() {
    let _alone = alone();
    let user = User::new();
    let program = user.start(&user.compile("syscalls.c", "syscalls"), &[]);
    let paranoid = Paranoid::change_to("1");
    let recorded = user.record(&["-F", HZ, "-d", "1", "-p", &program.pid()]).succeeded();
    let without = user.record(&["-F", HZ, "-d", "1", "--no-kernel", "-p", &program.pid()]);
    drop(paranoid);
    let (due, samples) = due_and_samples(&recorded);
    assert!(samples > 100 && samples * 10 >= due * 9, "{}", recorded.stderr);
    let through = recorded.samples_through(&["syscalls", "main", "reads", "vfs_read_[k]"]);
    assert!(through * 10 >= samples * 7, "{through} of {samples}: {:?}", recorded.folded());
    let note = "note          other processes are not sampled without capabilities";
    assert!(recorded.stderr.contains(note), "{}", recorded.stderr);
    // Ticks in the kernel still have their user stack.
    let (_, samples) = due_and_samples(&without.succeeded());
    assert!(samples > 100);

    let recorded = user.record(&["-F", HZ, "-d", "1", "-p", &program.pid()]).succeeded();
    let (due, samples) = due_and_samples(&recorded);
    assert_eq!(recorded.ledger()["kernel code or missed"], due - samples, "{}", recorded.stderr);
    assert!(samples * 2 < due, "it is mostly in the kernel: {}", recorded.stderr);
}

fn assert_refused(output: &Output, expected: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(expected), "{stderr:?} lacks {expected:?}");
    assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
}

#[test]
fn what_needs_capabilities_is_refused_with_the_next_step() {
    let _alone = alone();
    let user = User::new();
    let run = |arguments: &[&str]| {
        user.everytick().args(["record", "-o", "x.svg"]).args(arguments).output().unwrap()
    };
    let whole = run(&["-a", "sleep", "9"]);
    assert_refused(&whole, "profiling the whole machine needs CAP_BPF and CAP_PERFMON; run it as");
    assert_refused(&whole, "own processes can be profiled without: select them with -p or -t, or");
    let named = run(&["--comm", "sleep", "sleep", "9"]);
    assert_refused(&named, "--comm needs CAP_BPF and CAP_PERFMON; run it as root, as in `sudo");
    assert_refused(&named, "own processes can be profiled without --comm");
    let foreign = run(&["-p", &std::process::id().to_string()]);
    assert_refused(&foreign, "is not of a process of this user, or may not be traced; run it as");
    let missing = run(&["./nothing"]);
    assert_refused(&missing, "cannot run ./nothing; check its name and permissions: No such file");
    let left: Vec<_> = user.path().read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["everytick"], "a refused recording left files");
}

#[test]
fn denied_clocks_are_explained() {
    let _alone = alone();
    let user = User::new();
    let library = compile_with("deny_clock.c", user.path(), "deny.so", &["-shared", "-fPIC"]);
    let denied = || {
        let mut command = user.everytick();
        command.env("LD_PRELOAD", &library).env("DENY_CLOCK_CPU", "all");
        command.env("DENY_CLOCK_WHILE", "/").env("DENY_CLOCK_ERROR", "13"); // EACCES
        command.args(["record", "-o", "x.svg", "sleep", "9"]).output().unwrap()
    };
    assert_refused(&denied(), "the kernel denies perf_event_open(2): Permission denied");
    assert_refused(&denied(), "or allow perf_event_open in the seccomp profile");
    // Mainline allows own processes at this level. Debian's kernels do not.
    let paranoid = Paranoid::change_to("3");
    let output = denied();
    drop(paranoid);
    assert_refused(&output, "because kernel.perf_event_paranoid is 3; run it as root");
    assert_refused(&output, "own processes: `sudo sysctl kernel.perf_event_paranoid=2`");
}

#[test]
fn recording_ends_with_the_selected_process() {
    let _alone = alone();
    let user = User::new();
    let program = user.start(&user.compile("chain.c", "chain"), &[]);
    let mut recording = user.start_recording(&["-F", HZ, "-p", &program.pid()]);
    pause(300);
    drop(program);
    wait_until("the end of the recording", || !recording.is_running());
    let recorded = recording.finish().succeeded();
    assert!(due_and_samples(&recorded).1 > 0, "{}", recorded.stderr);
}
