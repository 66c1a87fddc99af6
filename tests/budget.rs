//! The budget of a running agent: a floor of one tick a second on each CPU, and ledgers that
//! account for every tick that is not taken.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::agent::{Agent, comments, labels, samples};
use common::{Running, alone, compile, compile_with, parse_ledger, pause};
use everytick::kernel::online_cpus;
use profile::pprof::proto::Profile;
use rustix::process::Signal;

const HZ: f64 = 199.0;
/// Less than the agent needs at any rate.
const TINY: &str = "frequency = 199\nmax_cpu = 0.01";

/// Reads the ledger in the comments, without the code that wrote it.
fn ledger(profile: &Profile) -> BTreeMap<String, u64> {
    parse_ledger(comments(profile).into_iter())
}

fn assert_closes(ledger: &BTreeMap<String, u64>) {
    assert_eq!(ledger["due"], ledger["ticks"] + ledger["missed"] + ledger["not sampled"]);
    assert_eq!(ledger["ticks"], ledger["emitted"] + ledger["skipped"]);
    assert_eq!(ledger["emitted"], ledger["aggregated"] + ledger["lost"]);
}

/// Starts an agent with a tiny budget on a busy machine, and waits until it samples at 1 Hz.
fn agent_at_the_floor() -> (Agent, Vec<Running>) {
    let agent = Agent::start(TINY);
    let program = compile("chain.c", agent.place.path(), "chain");
    let busy = online_cpus().unwrap().iter().map(|_| Running::start(&program)).collect();
    agent.wait_for("the lowest frequency", || {
        (agent.metric("everytick_sampling_frequency_hertz") == 1.0).then_some(())
    });
    (agent, busy)
}

/// Waits until an agent has closed more windows. With a tiny budget they are in the spool until the
/// stop.
fn wait_for_closed(agent: &Agent, count: u32) {
    let closed = || agent.metric("everytick_windows_closed_total");
    let least = closed() + f64::from(count);
    agent.wait_for("windows", || (closed() >= least).then_some(()));
}

#[test]
fn a_tiny_budget_leaves_one_hertz_and_a_ledger_that_closes() {
    let _alone = alone();
    let (mut agent, _busy) = agent_at_the_floor();
    wait_for_closed(&agent, 7);
    assert_eq!(agent.page("/readyz"), (200, "ok\n".into()));
    let metric = |name| agent.metric(name);
    assert_eq!(metric("everytick_sampling_frequency_hertz"), 1.0);
    assert_eq!(metric("everytick_sampling_lowered"), 1.0);
    agent.stop();
    assert!(agent.log().contains("sampling lowered to 1 Hz: "), "{}", agent.log());
    assert!(!agent.log().contains("step"), "{}", agent.log());

    let cpus = online_cpus().unwrap().len() as f64;
    let profiles = agent.profiles();
    for profile in &profiles {
        let ledger = ledger(profile);
        assert_closes(&ledger);
        let seconds = profile.duration_nanos as f64 / 1e9;
        let (due, expected) = (ledger["due"] as f64, seconds * cpus * HZ);
        assert!((due - expected).abs() <= 0.04 * expected + 2.0 * cpus, "{due} of {expected} due");
        let nanoseconds: i64 = profile.sample.iter().map(|sample| sample.value[1]).sum();
        assert_eq!(nanoseconds, samples(profile) * profile.period);
    }
    let is_at_floor = |profile: &&Profile| profile.period > 900_000_000;
    let mut floor: Vec<&Profile> = profiles.iter().filter(is_at_floor).collect();
    floor.pop(); // the stop has cut it short
    assert!(floor.len() >= 2, "{} windows at 1 Hz", floor.len());
    let mut ticks = 0;
    for profile in &floor {
        let ledger = ledger(profile);
        assert!((0.97e9..1.03e9).contains(&(profile.period as f64)), "{}", profile.period);
        assert!(ledger["budget"] > ledger["due"] * 9 / 10, "{ledger:?}");
        let is_explained = |line: &&str| {
            line.starts_with("budget: sampling lowered to 1 Hz: ")
                && line.ends_with(" % of total CPU capacity")
        };
        assert!(comments(profile).iter().any(is_explained), "{:?}", comments(profile));
        ticks += ledger["ticks"] + ledger["missed"];
    }
    let seconds: i64 = floor.iter().map(|profile| profile.duration_nanos / 1_000_000_000).sum();
    let expected = cpus * seconds as f64;
    assert!(ticks as f64 >= 0.6 * expected, "{ticks} ticks of {expected}");

    let first = profiles.iter().map(|profile| profile.time_nanos).min().unwrap();
    let ends = profiles.iter().map(|profile| profile.time_nanos + profile.duration_nanos);
    let seconds = (ends.max().unwrap() - first) as f64 / 1e9;
    let due: u64 = profiles.iter().map(|profile| ledger(profile)["due"]).sum();
    let expected = seconds * cpus * HZ;
    assert!((due as f64 - expected).abs() < 0.04 * expected, "{due} of {expected} due in all");
}

#[test]
fn the_full_rate_is_back_after_the_budget_is_raised() {
    let _alone = alone();
    let (agent, _busy) = agent_at_the_floor();
    agent.configure("frequency = 199\nmax_cpu = 100");
    agent.signal(Signal::HUP);
    agent.wait_for("the full frequency", || {
        (agent.metric("everytick_sampling_frequency_hertz") == HZ).then_some(())
    });
    assert_eq!(agent.metric("everytick_sampling_lowered"), 0.0);
    let is_full = |profile: &Profile| {
        let ledger = ledger(profile);
        let is_at_full_rate = (4.8e6..5.3e6).contains(&(profile.period as f64));
        is_at_full_rate && ledger["not sampled"] == ledger.get("gap").copied().unwrap_or(0)
    };
    let floor = agent.windows().len();
    agent.wait_for("a window at the full frequency", || {
        agent.profiles().iter().skip(floor.saturating_sub(1)).any(is_full).then_some(())
    });
    assert!(agent.log().contains("sampling is back at the full rate"), "{}", agent.log());
}

#[test]
fn storms_of_process_events_leave_the_floor_and_the_ledger() {
    let _alone = alone();
    let agent = Agent::start("frequency = 99\nmax_cpu = 0.5");
    let directory = agent.place.path();
    let _bystander = Running::start(&compile("chain.c", directory, "chain"));
    let storm = compile_with("attack/storm.c", directory, "storm", &["-pthread"]);
    agent.wait_for("sampling", || agent.log().contains("profiling the machine").then_some(()));
    let storms = ["exec", "fork", "map"].map(|kind| Running::start_with(&storm, &[kind.into()]));
    wait_for_closed(&agent, 6);
    drop(storms);
    wait_for_closed(&agent, 2);
    let mut agent = agent;
    agent.stop();

    let (cpus, profiles) = (online_cpus().unwrap().len() as f64, agent.profiles());
    let mut of_bystander = 0;
    for profile in &profiles {
        let ledger = ledger(profile);
        assert_closes(&ledger);
        let seconds = profile.duration_nanos as f64 / 1e9;
        let (due, expected) = (ledger["due"] as f64, seconds * cpus * 99.0);
        assert!((due - expected).abs() <= 0.04 * expected + 2.0 * cpus, "{due} of {expected} due");
        // A tick comes a period after the clocks have started.
        let requested = (ledger["ticks"] + ledger["missed"]) as f64;
        assert!(requested >= (seconds - 1.2) * cpus * 0.9, "{ledger:?} in {seconds} s");
        let of_chain = |at: &usize| labels(profile, *at).get("comm") == Some(&"chain");
        let of_chain = (0..profile.sample.len()).filter(of_chain);
        of_bystander += of_chain.map(|at| profile.sample[at].value[1]).sum::<i64>();
    }
    assert!(of_bystander > 0, "the bystander was sampled");
}

#[test]
fn an_export_says_what_was_not_sampled() {
    let _alone = alone();
    let (mut agent, _busy) = agent_at_the_floor();
    wait_for_closed(&agent, 2);
    agent.stop();
    pause(2500); // a gap has two seconds at least
    agent.restart();
    agent.wait_for("sampling", || {
        (agent.log().matches("profiling the machine").count() == 2).then_some(())
    });
    wait_for_closed(&agent, 3);
    agent.stop();
    let pprof = agent.place.path().join("out.pb.gz");
    let export = agent.command().args(["--export", "-1h..now", "-o"]).arg(&pprof).output().unwrap();
    let text = String::from_utf8(export.stderr).unwrap();
    assert!(export.status.success(), "{text}");
    assert!(text.contains(" s (budget "), "{text}");
    let gaps = text.lines().filter(|line| line.contains("no profiles between "));
    assert_eq!(gaps.count(), 2, "before the first start, and between the two agents: {text}");
    let exported = common::agent::read(&pprof);
    assert_closes(&ledger(&exported));
    let notes = ["due ticks were not sampled", "no profiles between "];
    for note in notes {
        assert!(comments(&exported).iter().any(|line| line.contains(note)), "{note}");
    }
}
