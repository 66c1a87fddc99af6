//! CPUs go offline and come online while everytick profiles: `record`, `verify` and `agent` follow
//! them at once, and every tick is accounted for. `hotplug.sh` runs in the guest.
//!
//! Times are taken by the guest's own clock, and bounds are wide.

use std::collections::BTreeMap;

use crate::common::parse_ledger;
use crate::guest::Guest;

/// Sampling frequencies of the script.
const RECORD_HZ: f64 = 199.0;
const AGENT_HZ: f64 = 99.0;
/// Seconds after which a CPU that came online has a clock, also in a machine that is this slow.
const FOLLOWED_WITHIN: f64 = 3.0;

/// Counts the samples of a process.
fn samples(guest: &Guest, answer: &str, process: &str) -> u64 {
    let stacks = guest.folded(answer);
    let of_process = stacks.iter().filter(|(stack, _)| stack[0] == process);
    of_process.map(|(_, count)| count).sum()
}

/// Returns for how many seconds the CPU was offline in a part of the script, by its own notes, and
/// how often.
fn offline(guest: &Guest, part: &str) -> (f64, u64) {
    let (mut seconds, mut times) = (0.0, 0);
    for line in guest.text("offline").lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if words[0] == part {
            seconds += words[2].parse::<f64>().unwrap() - words[1].parse::<f64>().unwrap();
            times += 1;
        }
    }
    (seconds, times)
}

/// Returns the ledger of a summary, whose equations must hold, and the seconds that it covers.
fn ledger(text: &str) -> (BTreeMap<String, u64>, f64) {
    let lines = text.lines().filter_map(|line| line.strip_prefix("  ticks         "));
    let ledger = parse_ledger(lines);
    assert_eq!(ledger["due"], ledger["ticks"] + ledger["missed"] + ledger["not sampled"], "{text}");
    assert_eq!(ledger["ticks"], ledger["emitted"] + ledger["skipped"], "{text}");
    assert_eq!(ledger["emitted"], ledger["aggregated"] + ledger["lost"], "{text}");
    let title = text.lines().find(|line| line.contains(" samples of ")).unwrap();
    let (_, seconds) = title.split_once(" in ").unwrap();
    let (seconds, _) = seconds.split_once(" s at ").unwrap();
    (ledger, seconds.parse().unwrap())
}

/// Checks a recording in a part of the script: what was due, by an independent count, and the
/// samples of the program that ran on the CPU after it had come back.
fn check_recording(guest: &Guest, part: &str) {
    let text = guest.text(&format!("record_{part}"));
    let (ledger, seconds) = ledger(text);
    let (offline, times) = offline(guest, part);
    let expected = RECORD_HZ * (2.0 * seconds - offline);
    let due = ledger["due"] as f64;
    assert!((expected * 0.85..expected * 1.1).contains(&due), "{expected} are due: {text}");
    let no_clock = ledger.get("no clock").copied().unwrap_or(0) as f64;
    assert!(no_clock <= RECORD_HZ * FOLLOWED_WITHIN * times as f64, "{text}");
    assert!(text.contains(&format!("CPUs came online {times} time")), "{text}");
    let process = format!("{part}_chain");
    let samples = samples(guest, &format!("folded_{part}"), &process);
    assert!(samples >= 100, "{samples} samples of {process}: {text}");
}

/// Checks that the second unwinder saw the ticks of a CPU that came back, and agreed.
fn check_verify(guest: &Guest) {
    let text = guest.text("verify");
    let findings: serde_json::Value = serde_json::from_str(text).expect("JSON");
    let of_program = findings["by_executable_of_last_agreed_frame"].as_array().unwrap();
    let is_program = |executable: &&serde_json::Value| {
        executable["executable"].as_str().is_some_and(|name| name.ends_with("verify_chain"))
    };
    let program = of_program.iter().find(is_program);
    let ticks = &program.unwrap_or_else(|| panic!("no ticks of the program: {text}"))["ticks"];
    assert!(ticks["judged"].as_u64() >= Some(20), "{text}");
    assert_eq!(ticks["different"], 0, "{text}");
}

/// Checks an agent on a machine whose CPU went offline and came online again in slow turns, then
/// in fast ones.
fn check_agent(guest: &Guest) {
    let log = guest.text("agent");
    assert!(!log.contains("does not close") && !log.contains("restart"), "{log}");
    assert!(log.matches("CPUs came online or went offline").count() <= 6, "one a minute: {log}");
    let (slow, fast) = (offline(guest, "slow"), offline(guest, "fast"));
    let before = check_metrics(guest.text("metrics_after_slow_turns"), slow.1);
    // A fast turn may be over before it is noticed.
    let after = check_metrics(guest.text("metrics_after_fast_turns"), slow.1 + fast.1 / 4);
    assert!(after["everytick_ticks_due_total"] > before["everytick_ticks_due_total"]);
    guest.text("agent_export");
    for process in ["busybox_slow", "busybox_fast"] {
        // It works in the kernel, whose ticks alone are samples here, on the CPU that came back.
        let count = samples(guest, "folded_agent", process);
        assert!(count >= 10, "{count} samples of {process}: {}", guest.text("folded_agent"));
    }
}

/// Checks the metrics of the agent. `turns`: the least number of times that the CPU came back.
fn check_metrics(text: &str, turns: u64) -> BTreeMap<&str, f64> {
    let mut sums = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        *sums.entry(name).or_default() += value.parse::<f64>().unwrap();
    }
    let accounted = sums["everytick_ticks_total"]
        + sums["everytick_ticks_missed_total"]
        + sums["everytick_ticks_not_sampled_total"];
    assert_eq!(sums["everytick_ticks_due_total"], accounted, "{text}");
    assert_eq!(sums["everytick_windows_lost_total"], 0.0, "{text}");
    assert_eq!(sums["everytick_cpus_sampled"], 2.0, "{text}");
    assert_eq!(sums["everytick_cpus_without_clock"], 0.0, "{text}");
    assert!(sums["everytick_cpu_changes_total"] >= 2.0 * turns as f64, "{text}");
    let no_clock = text.lines().find(|line| {
        line.starts_with("everytick_ticks_not_sampled_total") && line.contains("no clock")
    });
    let no_clock: f64 = no_clock.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    let changes = sums["everytick_cpu_changes_total"];
    assert!(no_clock <= AGENT_HZ * FOLLOWED_WITHIN * changes / 2.0, "{text}");
    sums
}

/// Checks everything that a guest did while its CPU came and went.
pub fn check(guest: &Guest) {
    check_recording(guest, "late");
    check_recording(guest, "turns");
    check_verify(guest);
    check_agent(guest);
}
