//! Outputs of a recording: on standard output, and with the times of samples.
#![allow(clippy::unwrap_used)]

mod common;
use std::fs;
use std::process::Stdio;

use common::{Running, alone, compile, directory, everytick, parse_folded};
use rustix::time::{ClockId, clock_gettime};

#[test]
fn standard_output_has_the_profile_alone() {
    let _alone = alone();
    let script = "echo of the command; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
    let mut command = everytick();
    command.args(["record", "-q", "-F", "499", "-o", "-", "--format", "folded", "--"]);
    let output = command.args(["sh", "-c", script]).stdin(Stdio::null()).output().unwrap();
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), output.stderr);
    assert!(String::from_utf8_lossy(&stderr).contains("of the command"), "{stdout}");
    let folded = parse_folded(&stdout);
    assert!(folded.iter().all(|(stack, _)| stack[0] == "sh"), "{stdout}");
    assert!(folded.iter().map(|(_, count)| count).sum::<u64>() > 10, "{stdout}");
}

/// Returns the time now in seconds, on the clock of samples.
fn now() -> f64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[test]
fn samples_have_the_times_at_which_they_were_taken() {
    let _alone = alone();
    let place = directory();
    let running = Running::start(&compile("chain.c", place.path(), "chain"));
    let started = now();
    let mut command = everytick();
    command.args(["record", "-q", "-F", "499", "-d", "1", "--timestamps", "-p", &running.pid()]);
    command.args(["-o", "x.perf", "-o", "x.FOLDED", "-o", "x.firefox.json.gz"]);
    let output = command.current_dir(place.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let ended = now();

    let text = fs::read_to_string(place.path().join("x.perf")).unwrap();
    let events = text.lines().filter(|line| line.ends_with(": cpu-clock: "));
    let times: Vec<f64> = events
        .map(|line| {
            let (thread, rest) = line.split_once(" [").unwrap();
            assert_eq!(thread, format!("chain  {0}/{0}", running.pid()), "{line}");
            let (cpu, time) = rest.split_once("] ").unwrap();
            assert!(cpu.parse::<u32>().is_ok(), "{line}");
            time.split(':').next().unwrap().parse().unwrap()
        })
        .collect();
    assert!(times.is_sorted() && times.iter().all(|time| (started..ended).contains(time)));
    let folded = fs::read_to_string(place.path().join("x.FOLDED")).unwrap();
    let samples: u64 = parse_folded(&folded).iter().map(|(_, count)| count).sum();
    assert!(samples > 50 && samples == times.len() as u64, "{samples}, {} times", times.len());
    // The import of this file is tested in upload/tests/readers.rs.
    assert!(fs::read(place.path().join("x.firefox.json.gz")).unwrap().starts_with(&[0x1f, 0x8b]));
}
