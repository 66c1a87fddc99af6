//! The agent on a hostile or poor host: floods of its HTTP port, a log that no process reads, and
//! what the host lacks.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::agent::Agent;
use common::cgroup::Cgroup;
use common::lines::Lines;
use common::{Running, alone, compile, everytick, pause, signal, wait_until};
use rustix::process::Signal;

/// A user without privileges.
const OTHER_USER: u32 = 65534;
/// Time from SIGTERM to the end, with a second for a busy machine.
const STOP_MAX: Duration = Duration::from_secs(6);

/// Compiles a flood of requests to an agent, which another user runs.
fn flood(agent: &Agent) -> Command {
    let place = agent.place.path();
    fs::set_permissions(place, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(compile("http_flood.c", place, "http_flood"));
    command.arg(agent.address().rsplit_once(':').unwrap().1).uid(OTHER_USER).gid(OTHER_USER);
    command.stdin(Stdio::null());
    command
}

/// Probes of each page that are answered during a flood.
const PROBES: usize = 5;

/// Checks for some seconds of a flood that probes are answered, that windows are closed, and what
/// CPU time the HTTP port takes.
fn check_during(flood: &mut Command, agent: &Agent) {
    let cpu = || agent.series("everytick_cause_cpu_seconds_total", "http");
    let (before, started, windows) = (cpu(), Instant::now(), agent.windows().len());
    let running = Running(flood.spawn().unwrap());
    for _ in 0..PROBES {
        // The flood fills all places while this process waits for a CPU, and the connection of a
        // probe may be closed before its request arrives.
        agent.probe("/healthz");
        agent.probe("/readyz");
    }
    agent.wait_for_windows(windows + 3);
    drop(running);
    let time = started.elapsed().as_secs_f64();
    pause(1100); // a page is built once a second at most
    // Of both CPUs; a debug build takes several times as long as a release.
    let cpus = (cpu() - before) / time;
    assert!(cpus < 0.1, "{flood:?}: {cpus} CPUs");
    assert_eq!(agent.metric("everytick_sampling_frequency_hertz"), 99.0, "{}", agent.log());
}

#[test]
fn floods_by_another_user_take_nothing_from_sampling() {
    let _alone = alone();
    let mut agent = Agent::start("frequency = 99\nmax_cpu = 20");
    let _running = Running::start(&compile("chain.c", agent.place.path(), "chain"));
    agent.wait_for_windows(1);
    let floods = [
        (["/metrics", "8", "wait"], "client rate"),
        (["/healthz", "8", "wait"], ""),
        (["/metrics", "4", "drop"], ""),
        (["/", "1", "silent"], "connections"),
    ];
    for (how, reason) in floods {
        check_during(flood(&agent).args(how), &agent);
        if !reason.is_empty() {
            let refused = agent.series("everytick_http_refused_total", reason);
            assert!(refused > 0.0, "{how:?}: none refused for {reason}");
        }
    }
    let [_, _, lost] = agent.stop();
    assert_eq!(lost, 0, "{}", agent.log());
}

/// Returns both ends of a pipe that is full.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
    rustix::fs::fcntl_setfl(&writer, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    while (&writer).write(&[b'x'; 4096]).is_ok() {}
    while (&writer).write(b"x").is_ok() {}
    rustix::fs::fcntl_setfl(&writer, flags).unwrap();
    (reader, writer)
}

fn stop(mut child: Child) -> Duration {
    let started = Instant::now();
    signal(&child, Signal::TERM);
    let status = child.wait().unwrap();
    let elapsed = started.elapsed();
    assert!(status.success(), "{status} after {elapsed:?}");
    elapsed
}

#[test]
fn a_log_that_no_process_reads_stops_nothing() {
    let _alone = alone();
    let mut agent = Agent::not_started("frequency = 99\nmax_cpu = 100");
    let _running = Running::start(&compile("chain.c", agent.place.path(), "chain"));
    let (mut reader, writer) = full_pipe();
    agent.child = Some(agent.command().stdout(Stdio::null()).stderr(writer).spawn().unwrap());
    agent.wait_for_windows(3);
    for _ in 0..3 {
        agent.signal(Signal::HUP); // each is logged
        pause(300);
    }
    agent.wait_for_windows(agent.windows().len() + 2);
    let elapsed = stop(agent.child.take().unwrap());
    assert!(elapsed < STOP_MAX, "{elapsed:?}");
    let mut log = Vec::new();
    reader.read_to_end(&mut log).unwrap();
    assert!(log.iter().all(|byte| *byte == b'x'), "the pipe was full until the end");
}

#[test]
fn a_log_that_is_read_late_is_complete_or_says_what_is_missing() {
    let _alone = alone();
    let mut agent = Agent::not_started("frequency = 99\nmax_cpu = 100");
    let _running = Running::start(&compile("chain.c", agent.place.path(), "chain"));
    let (mut reader, writer) = full_pipe();
    agent.child = Some(agent.command().stdout(Stdio::null()).stderr(writer).spawn().unwrap());
    agent.wait_for_windows(1);
    let read = std::thread::spawn(move || {
        let mut log = String::new();
        reader.read_to_string(&mut log).unwrap();
        log
    });
    stop(agent.child.take().unwrap());
    let log = read.join().unwrap();
    for line in ["profiling the machine", "stopping", "stopped"] {
        assert!(log.contains(line), "{line} is not in {}", log.trim_start_matches('x'));
    }
}

#[test]
fn a_log_whose_reader_is_gone_stops_nothing() {
    let _alone = alone();
    let mut agent = Agent::not_started("frequency = 99\nmax_cpu = 100");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    agent.child = Some(agent.command().stdout(Stdio::null()).stderr(writer).spawn().unwrap());
    agent.wait_for_windows(2);
    assert!(stop(agent.child.take().unwrap()) < STOP_MAX);
}

/// Returns a command that runs `command` without some capabilities.
fn without(capabilities: &str, command: &Command) -> Command {
    let mut less = Command::new("setpriv");
    less.arg(format!("--bounding-set={capabilities}"));
    less.arg(format!("--inh-caps={capabilities}")).arg("--");
    less.arg(command.get_program()).args(command.get_args());
    less
}

#[test]
fn what_the_host_lacks_is_logged_counted_and_in_doctor() {
    let _alone = alone();
    let mut agent = Agent::not_started("frequency = 99\nmax_cpu = 100");
    let less = "-sys_ptrace,-dac_read_search,-dac_override,-syslog,-sys_admin";
    agent.spawn(&mut without(less, &agent.command()));
    agent.wait_for("the HTTP server", || agent.log().contains("serving").then_some(()));
    let doctor = without(less, everytick().arg("doctor")).output().unwrap();
    let doctor = String::from_utf8(doctor.stdout).unwrap();
    for missing in [
        "CAP_SYS_PTRACE missing: mappings, executables and labels of other users' processes",
        "CAP_DAC_READ_SEARCH missing: files that only their owner may read",
        "/proc/kallsyms hides addresses: kernel frames have no symbols",
    ] {
        assert!(doctor.contains(missing), "{missing}: {doctor}");
        let log = agent.log();
        assert_eq!(log.matches(missing).count(), 1, "{missing}: {log}");
    }
    for reason in ["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "kernel symbols"] {
        assert_eq!(agent.series("everytick_host_limitation", reason), 1.0, "{reason}");
    }
    assert_eq!(agent.series("everytick_host_limitation", "BTF"), 0.0);
    agent.stop();
}

#[test]
fn a_low_limit_of_open_files_is_explained() {
    let _alone = alone();
    let agent = Agent::not_started("frequency = 99\nmax_cpu = 100");
    for limit in ["64", "24"] {
        let command = agent.command();
        let mut limited = Command::new("prlimit");
        limited.arg(format!("--nofile={limit}:{limit}"));
        limited.arg(command.get_program()).args(command.get_args());
        let mut child = limited.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let lines = Lines::of(child.stderr.take().unwrap());
        let expected = format!("at most {limit} open files (RLIMIT_NOFILE), and ");
        wait_until("the limit in the log", || lines.text().contains(&expected));
        pause(1500); // one window may run into the limit
        signal(&child, Signal::TERM);
        child.wait().unwrap();
        let text = lines.finish();
        if text.contains("Too many open files") {
            let explained = format!("; the limit is {limit} (RLIMIT_NOFILE), and ");
            assert!(text.contains(&explained), "{text}");
        }
    }
}

#[test]
fn memory_defaults_to_a_part_of_the_cgroups_limit() {
    let _alone = alone();
    let cgroup = Cgroup::with_memory(320 << 20);
    let mut agent = Agent::not_started("frequency = 19\nmax_cpu = 100");
    agent.spawn(&mut cgroup.run(&agent.command()));
    agent.wait_for_windows(1);
    assert_eq!(agent.metric("everytick_budget_memory_limit_bytes"), f64::from(240 << 20));
    let expected = "memory is limited to 240 MiB, 75 % of the memory limit 320MiB of ";
    assert!(agent.log().contains(expected), "{}", agent.log());
    agent.stop();
    let checked = cgroup.run(agent.command().arg("--check-config")).output().unwrap();
    let checked = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.contains("max_memory = \"240MiB\""), "{checked}");
    assert!(checked.contains("# 75 % of the memory limit 320MiB of "), "{checked}");
}

#[test]
fn a_cgroup_below_the_least_memory_is_a_clear_error() {
    let _alone = alone();
    let cgroup = Cgroup::with_memory(64 << 20);
    let agent = Agent::not_started("frequency = 19");
    let output = cgroup.run(&agent.command()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let expected =
        "is too low: everytick takes 75 % of it, 48MiB, and needs 60MiB; raise the limit";
    assert!(text.contains(expected), "{text}");
}

/// A debug build takes about ten times the CPU time of a release, so this is a tenth of a CPU in
/// the place of a hundredth.
#[test]
fn a_small_part_of_a_cpu_is_enough_to_stop_in_time() {
    let _alone = alone();
    let mut agent = Agent::start("frequency = 19\nmax_cpu = 100");
    let _running = Running::start(&compile("chain.c", agent.place.path(), "chain"));
    agent.wait_for_windows(2);
    let cgroup = Cgroup::with_cpu(0.1);
    cgroup.add(agent.child.as_ref().unwrap().id());
    for _ in 0..5 {
        agent.probe("/healthz");
        pause(1000);
    }
    let windows = agent.windows().len();
    let elapsed = stop(agent.child.take().unwrap());
    assert!(elapsed < STOP_MAX, "{elapsed:?}: {}", agent.log());
    assert!(agent.windows().len() > windows, "the last window is missing: {}", agent.log());
    assert!(!agent.log().contains("lost: "), "{}", agent.log());
}

/// The file of the token belongs to another user, so the agent refuses to start and says why.
#[test]
fn a_token_of_another_user_is_refused() {
    let _alone = alone();
    let agent = Agent::not_started("frequency = 19");
    let token: PathBuf = agent.place.path().join("token");
    fs::write(&token, "hunter2").unwrap();
    std::os::unix::fs::chown(&token, Some(OTHER_USER), None).unwrap();
    agent.configure(&format!(
        "frequency = 19\n[sinks.s]\ntype = \"otlp\"\nurl = \"https://127.0.0.1:1\"\n\
         bearer_token_file = {token:?}"
    ));
    for command in [&mut agent.command(), agent.command().arg("--check-config")] {
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        let expected = format!("other users can change {}, ", token.display());
        assert!(text.contains(&expected) && text.contains("it belongs to user 65534"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
