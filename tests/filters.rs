//! Filters in the kernel: processes with later threads, cgroups with their descendants, names,
//! namespaces.
#![allow(clippy::unwrap_used)]

mod common;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::cgroup::Cgroup;
use common::{Recorded, Recording, Running, alone, compile, directory, pause, record};

/// Name of a command before its exec, when it is a copy of this program.
const BEFORE_EXEC: &str = "everytick";

/// Returns the names of the sampled processes.
fn processes(recorded: &Recorded) -> Vec<String> {
    let mut names: Vec<String> =
        recorded.folded().into_iter().map(|(stack, _)| stack[0].clone()).collect();
    names.dedup();
    names
}

#[test]
fn process_filter_includes_later_threads() {
    let _alone = alone();
    let temp = directory();
    let threads = Running::start(&compile("threads.c", temp.path(), "threads"));
    let _other = Running::start(&compile("chain.c", temp.path(), "other"));
    let recorded =
        record(&["-F", "199", "-d", "1.5", "--by", "thread", "-p", &threads.pid()]).succeeded();
    assert_eq!(processes(&recorded), ["threads"]);
    assert!(
        recorded.samples_through(&["threads", "late", "late_work"]) > 10,
        "{:#?}",
        recorded.folded()
    );
}

/// Returns a thread of a process that is not the main one, once there is one.
fn other_thread(process: &Running) -> String {
    let tasks = format!("/proc/{}/task", process.pid());
    loop {
        let tids = fs::read_dir(&tasks).unwrap().map(|entry| entry.unwrap().file_name());
        let tids = tids.map(|tid| tid.into_string().unwrap());
        if let Some(tid) = tids.into_iter().find(|tid| *tid != process.pid()) {
            return tid;
        }
        pause(10);
    }
}

#[test]
fn thread_filter_excludes_the_other_threads() {
    let _alone = alone();
    let temp = directory();
    let threads = Running::start(&compile("threads.c", temp.path(), "threads"));
    let other = Running::start(&compile("chain.c", temp.path(), "other"));
    let tid = other_thread(&threads);
    let recorded = record(&["-F", "199", "-d", "1", "--by", "thread", "-t", &tid]).succeeded();
    let stacks = recorded.folded();
    assert!(stacks.iter().all(|(stack, _)| stack[..2] == ["threads", "late"]), "{stacks:#?}");
    assert!(recorded.ledger()["emitted"] > 30, "{}", recorded.stderr);

    // Threads and processes are alternatives; main does not work, and is no other thread.
    let both = format!("{},{tid}", threads.pid());
    let recorded = record(&["-F", "199", "-d", "1", "-t", &both, "-p", &other.pid()]).succeeded();
    let mut names = processes(&recorded);
    names.sort();
    assert_eq!(names, ["other", "threads"]);
    let tids: Vec<String> =
        recorded.traces().into_iter().map(|t| t.labels["tid"].clone()).collect();
    assert!(tids.iter().all(|found| [&tid, &other.pid()].contains(&found)), "{tids:?}");
}

#[test]
fn recording_ends_with_its_threads() {
    let _alone = alone();
    let temp = directory();
    let mut threads = Running::start(&compile("threads.c", temp.path(), "threads"));
    let tid = other_thread(&threads);
    let recording = Recording::start(&["-t", &tid]);
    pause(500);
    threads.0.kill().unwrap();
    threads.0.wait().unwrap();
    recording.finish().succeeded();
}

#[test]
fn only_selected_cpus_are_sampled_and_due() {
    let _alone = alone();
    let temp = directory();
    let program = compile("chain.c", temp.path(), "pinned");
    let cpus = rustix::thread::sched_getaffinity(None).unwrap();
    let cpus: Vec<usize> = (0..1024).filter(|cpu| cpus.is_set(*cpu)).collect();
    assert!(cpus.len() > 1, "this test needs two CPUs");
    let [first, second] = [cpus[0].to_string(), cpus[1].to_string()];
    let script = format!("exec taskset -c {second} {}", program.display());
    let pinned = Running::start_with(Path::new("/bin/sh"), &["-c".into(), script.into()]);
    while !fs::read_to_string(format!("/proc/{}/comm", pinned.pid())).unwrap().starts_with("pinned")
    {
        pause(10);
    }
    let on =
        |cpu: &str| record(&["-F", "199", "-d", "1", "-C", cpu, "-p", &pinned.pid()]).succeeded();
    let recorded = on(&first);
    assert!(recorded.folded().is_empty(), "{:#?}", recorded.folded());
    let due = recorded.ledger()["due"];
    assert!((150..320).contains(&due), "not the ticks of one CPU: {}", recorded.stderr);
    assert!(recorded.stderr.contains("\neverytick: 1 selected CPU in "), "{}", recorded.stderr);
    let recorded = on(&second);
    assert!(recorded.samples_through(&["pinned", "main", "a", "b", "c", "spin"]) > 20);
    let both = format!("{first},{second}");
    assert!(on(&both).ledger()["due"] > 320);
}

#[test]
fn stacks_start_with_the_number_or_the_command_line_of_a_process() {
    let _alone = alone();
    let temp = directory();
    let program = compile("chain.c", temp.path(), "chain");
    let running = Running::start_with(&program, &["--port".into(), "80;x".into()]);
    let root = |by: &str| {
        let arguments = ["-F", "199", "-d", "1", "--by", by, "-p", &running.pid()];
        processes(&record(&arguments).succeeded())
    };
    assert_eq!(root("pid"), [format!("chain-{}", running.pid())]);
    assert_eq!(root("cmdline"), [format!("{} --port 80:x", program.display())]);
}

#[test]
fn machine_is_recorded_while_a_command_runs() {
    let _alone = alone();
    let temp = directory();
    let _other = Running::start(&compile("chain.c", temp.path(), "other"));
    let recorded = record(&["-F", "199", "-a", "-g", "sleep", "1"]).succeeded();
    assert!(recorded.samples_through(&["other"]) > 20, "{}", recorded.stderr);
    assert!(recorded.stderr.contains("profiling the whole machine at 199 Hz until sleep exits"));
}

#[test]
fn duration_ends_a_command() {
    let _alone = alone();
    let recorded = record(&["-d", "500ms", "--", "sh", "-c", "echo begun; exec sleep 600"]);
    assert_eq!(recorded.status, 0, "{}", recorded.stderr);
    let expected = " and its descendants at 99 Hz for 500ms, then terminating sh";
    assert!(recorded.stderr.contains(expected), "{}", recorded.stderr);
}

/// A worker that starts while COMMAND does is no part of it.
#[test]
fn command_is_recorded_without_our_workers() {
    let _alone = alone();
    for _ in 0..8 {
        let recorded = record(&["-F", "4999", "--", "sh", "-c", "true"]).succeeded();
        for (stack, _) in recorded.folded() {
            let is_ours = [BEFORE_EXEC, "exe"].contains(&&*stack[0]);
            let is_worker = is_ours && stack.iter().any(|frame| frame == "_start");
            assert!(!is_worker, "{stack:?}");
        }
    }
}

#[test]
fn process_and_command_are_both_recorded() {
    let _alone = alone();
    let temp = directory();
    let given = Running::start(&compile("chain.c", temp.path(), "given"));
    let program = compile("brief.c", temp.path(), "brief");
    let arguments = ["-F", "499", "-p", &given.pid(), "--", program.to_str().unwrap()];
    let recorded = record(&arguments);
    let mut names = processes(&recorded);
    names.sort();
    names.dedup();
    names.retain(|name| name != BEFORE_EXEC);
    assert_eq!(names, ["brief", "given"], "{}", recorded.stderr);
    let announced = format!("and its descendants, process {} at 499 Hz until", given.pid());
    assert!(recorded.stderr.contains(&announced), "{}", recorded.stderr);
}

#[test]
fn name_that_no_thread_has_is_said_at_the_start() {
    let _alone = alone();
    let temp = directory();
    let _program = Running::start(&compile("chain.c", temp.path(), "everychain"));
    pause(200);
    let recorded = record(&["-d", "0.3", "--comm", "everychian"]).succeeded();
    let expected = "no process or thread has the name everychian yet (did you mean everychain?)";
    assert!(recorded.stderr.contains(expected), "{}", recorded.stderr);
    let announced = recorded.stderr.find("profiling name everychian").unwrap();
    assert!(recorded.stderr.find(expected).unwrap() > announced);
}

#[test]
fn comm_filter_matches_processes_and_threads() {
    let _alone = alone();
    let temp = directory();
    let _threads = Running::start(&compile("threads.c", temp.path(), "threads"));
    let _other = Running::start(&compile("chain.c", temp.path(), "other"));
    pause(700);
    for name in ["late", "threads"] {
        let recorded = record(&["-F", "199", "-d", "1", "--comm", name]).succeeded();
        assert_eq!(processes(&recorded), ["threads"], "--comm {name}");
    }
}

#[test]
fn filters_of_different_kinds_narrow_each_other() {
    let _alone = alone();
    let temp = directory();
    let busy = Running::start(&compile("chain.c", temp.path(), "busy"));
    let recorded =
        record(&["-F", "199", "-d", "0.5", "-p", &busy.pid(), "--comm", "other"]).succeeded();
    assert!(recorded.folded().is_empty());
    assert!(recorded.stderr.contains("no samples: "), "{}", recorded.stderr);
    assert!(recorded.ledger()["other name"] > 5, "{}", recorded.stderr);
}

/// Returns the mount points of the cgroup hierarchies of a kind.
fn hierarchies(kind: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let of_kind = mounts.lines().filter(|line| line.split(' ').nth(2) == Some(kind));
    of_kind.map(|line| line.split(' ').nth(1).unwrap().into()).collect()
}

#[test]
fn cgroup_filter_includes_descendants_in_each_hierarchy() {
    let _alone = alone();
    let temp = directory();
    let program = compile("chain.c", temp.path(), "inside");
    let _outside = Running::start(&compile("chain.c", temp.path(), "outside"));
    let all = [hierarchies("cgroup2"), hierarchies("cgroup")].concat();
    assert!(!all.is_empty(), "no cgroup hierarchy is mounted");
    for hierarchy in all {
        if hierarchy.ends_with("cpuset") {
            continue; // a new cpuset accepts no process before it has CPUs
        }
        let name = format!("everytick-test-{}", std::process::id());
        let parent = Cgroup::below(&hierarchy, &name);
        let child = Cgroup::below(parent.path(), "child");
        let inside = Running::start(&program);
        child.add(inside.0.id());
        let directory = parent.path().to_str().unwrap();
        for path in [directory, &format!("/{name}")] {
            let recorded = record(&["-F", "199", "-d", "0.5", "--cgroup", path]).succeeded();
            assert_eq!(
                processes(&recorded),
                ["inside"],
                "--cgroup {path} in {}",
                hierarchy.display()
            );
        }
        drop(inside);
        drop(child);
    }
}

#[test]
fn unfiltered_program_is_sampled_without_kernel_stacks() {
    let _alone = alone();
    let temp = directory();
    let _program = Running::start(&compile("chain.c", temp.path(), "unnamed"));
    let recorded = record(&["-F", "199", "-d", "1", "--no-kernel"]).succeeded();
    // Whole or cut: its rows may be loaded after those of other programs.
    assert!(recorded.samples_through(&["unnamed"]) > 30, "{:#?}", recorded.folded());
}

#[test]
fn pids_are_those_of_the_agents_namespace() {
    let _alone = alone();
    let temp = directory();
    let program = compile("chain.c", temp.path(), "inside");
    let _outside = Running::start(&compile("chain.c", temp.path(), "outside"));
    let script = format!(
        "{} & {} record -F 199 -d 1 -p $! -o out.pb.gz -o out.folded; \
         status=$?; kill $!; exit $status",
        program.display(),
        env!("CARGO_BIN_EXE_everytick"),
    );
    let output = directory();
    let unshare = ["--pid", "--fork", "--mount-proc", "sh", "-c", &script];
    let ran = Command::new("unshare").args(unshare).current_dir(output.path()).output().unwrap();
    let recorded = common::recorded(output, ran).succeeded();
    assert_eq!(processes(&recorded), ["inside"], "{}", recorded.stderr);
    assert!(recorded.samples_through(&["inside", "main", "a", "b", "c", "spin"]) > 10);
    let pids: Vec<String> =
        recorded.traces().into_iter().map(|t| t.labels["pid"].clone()).collect();
    assert!(pids.iter().all(|pid| pid == "2"), "not the second process of its namespace: {pids:?}");
}

#[test]
fn command_is_followed_in_a_pid_namespace() {
    let _alone = alone();
    let temp = directory();
    let brief = compile("brief.c", temp.path(), "brief");
    let script = format!(
        "exec {} record -F 499 -o out.pb.gz -o out.folded -- sh -c {}",
        env!("CARGO_BIN_EXE_everytick"),
        brief.display(),
    );
    let output = directory();
    let unshare = ["--pid", "--fork", "--mount-proc", "sh", "-c", &script];
    let ran = Command::new("unshare").args(unshare).current_dir(output.path()).output().unwrap();
    let recorded = common::recorded(output, ran);
    assert_eq!(recorded.status, 3, "{}", recorded.stderr);
    assert!(
        recorded.samples_through(&["brief", "main", "brief_work"]) > 80,
        "{:#?}",
        recorded.folded()
    );
}

#[test]
fn proc_of_another_namespace_is_rejected() {
    let _alone = alone();
    let script = format!("{} record -d 1; exit $?", env!("CARGO_BIN_EXE_everytick"));
    let output = directory();
    let unshare = ["--pid", "--fork", "sh", "-c", &script];
    let ran = Command::new("unshare").args(unshare).current_dir(output.path()).output().unwrap();
    let recorded = common::recorded(output, ran);
    assert_eq!(recorded.status, 1);
    assert!(
        recorded.stderr.contains("/proc shows another pid namespace than ours; run `mount"),
        "{}",
        recorded.stderr
    );
}
