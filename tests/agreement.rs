//! Agreement with an independent profiler: `perf record` at the same frequency and time.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;
use std::process::{Command, Stdio};

use common::{Running, alone, compile, directory, pause, record};
use rustix::time::{ClockId, clock_gettime};

const HZ: f64 = 199.0;
/// Length of our recording.
const SECONDS: f64 = 8.0;

fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[test]
fn counts_as_many_samples_of_loops_as_perf() {
    let _alone = alone();
    let place = directory();
    let program = compile("chain.c", place.path(), "loop");
    let cpus = std::thread::available_parallelism().unwrap().get();
    let loops: Vec<Running> = (0..cpus).map(|_| Running::start(&program)).collect();

    // perf starts before and ends after, so that starts and ends are outside of the comparison.
    let data = place.path().join("perf.data");
    let mut perf = Command::new("perf");
    perf.args(["record", "-e", "cpu-clock", "-F", "199", "-k", "CLOCK_MONOTONIC", "-a"])
        // perf may abort when it looks up a BPF program that is being unloaded.
        .args(["--no-bpf-event", "-o"])
        .arg(&data);
    let perf = perf.args(["--", "sleep", "11"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let perf = perf.spawn().unwrap();
    pause(1000);
    let recorded = record(&["-F", &HZ.to_string(), "-d", &SECONDS.to_string()]).succeeded();
    let perf = perf.wait_with_output().unwrap();
    assert!(perf.status.success(), "perf: {}", String::from_utf8_lossy(&perf.stderr));

    let profile = recorded.pprof();
    let start = profile.time_nanos as f64 / 1e9
        - (seconds(ClockId::Realtime) - seconds(ClockId::Monotonic));
    let end = start + profile.duration_nanos as f64 / 1e9;
    let script =
        Command::new("perf").args(["script", "-F", "pid,time", "-i"]).arg(&data).output().unwrap();
    let script = String::from_utf8(script.stdout).unwrap();
    let perf_samples = |pid: &str| {
        let inside = |time: f64| (start..end).contains(&time);
        let fields = script.lines().filter_map(|line| line.trim().split_once(char::is_whitespace));
        let of_pid = fields.filter(|(found, _)| *found == pid);
        of_pid
            .filter(|(_, time)| inside(time.trim().trim_end_matches(':').parse().unwrap()))
            .count()
    };
    let traces = recorded.traces();
    for program in &loops {
        let pid = program.pid();
        let theirs = perf_samples(&pid) as f64;
        let of_pid = traces.iter().filter(|trace| trace.labels["pid"] == pid);
        let ours = of_pid.map(|trace| trace.count).sum::<u64>() as f64;
        println!("process {pid}: perf {theirs}, everytick {ours}");
        // On a busy machine the two sample different moments of a loop that takes turns.
        let share = (theirs / (SECONDS * HZ)).min(1.0);
        let by_chance = 4.0 * (2.0 * theirs * (1.0 - share)).sqrt();
        assert!(theirs > 100.0, "perf has only {theirs} samples");
        assert!(
            (ours - theirs).abs() <= 0.02 * theirs + by_chance,
            "perf {theirs}, everytick {ours}"
        );
    }
}
