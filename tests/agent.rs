//! The agent as it runs on a machine: windows that arrive, a budget that holds, settings that change, an end that loses nothing.
#![allow(clippy::unwrap_used)]

mod common;
use std::fs;

use common::agent::{Agent, comments, labels, read, samples};
use common::{Running, alone, compile, parse_folded};
use profile::pprof::proto::Profile;
use rustix::process::Signal;

#[test]
fn windows_arrive_stay_over_a_restart_and_add_up() {
    let _alone = alone();
    let mut agent =
        Agent::start("frequency = 99\nmax_cpu = 100\nnode = \"n1\"\nlabels = { team = \"x\" }");
    let _running = Running::start(&compile("chain.c", agent.place.path(), "chain"));
    agent.wait_for_windows(3);
    let [closed, accepted, lost] = agent.stop();
    let before = agent.windows();
    assert_eq!((lost, accepted), (0, before.len() as u64), "{}", agent.log());
    assert!(closed >= accepted, "windows without a sample are not kept: {}", agent.log());

    agent.restart();
    agent.wait_for_windows(before.len() + 2);
    agent.stop();
    let after = agent.windows();
    assert!(before.iter().all(|window| after.contains(window)), "the history is gone");

    let profiles = agent.profiles();
    let mut of_chain = 0;
    for profile in &profiles {
        let all = samples(profile);
        let nanoseconds: i64 = profile.sample.iter().map(|sample| sample.value[1]).sum();
        assert_eq!(nanoseconds, all * profile.period, "values are counts times the period");
        for at in 0..profile.sample.len() {
            let labels = labels(profile, at);
            assert_eq!((labels["node"], labels["team"]), ("n1", "x"));
            assert!(
                !["pid", "tid", "thread"].iter().any(|name| labels.contains_key(name)),
                "{labels:?}"
            );
            if labels["comm"] == "chain" {
                assert_eq!(labels["executable"], "chain");
                assert!(labels["cgroup"].starts_with('/'));
                of_chain += profile.sample[at].value[0];
            }
        }
    }
    assert!(of_chain > 100, "{of_chain} samples of the program");

    let out = agent.place.path().join("out.folded");
    let pprof = agent.place.path().join("out.pb.gz");
    let export = agent
        .command()
        .args(["--export", "-1h..now", "-o"])
        .arg(&out)
        .arg("-o")
        .arg(&pprof)
        .output()
        .unwrap();
    assert!(export.status.success(), "{}", String::from_utf8_lossy(&export.stderr));
    let all: i64 = profiles.iter().map(samples).sum();
    let nanoseconds = |profile: &Profile| profile.sample.iter().map(|s| s.value[1]).sum::<i64>();
    let pprof = read(&pprof);
    assert_eq!(samples(&pprof), all);
    assert_eq!(nanoseconds(&pprof), profiles.iter().map(nanoseconds).sum::<i64>());
    // The period changes each minute; text then counts microseconds, each line rounded.
    let folded = parse_folded(&fs::read_to_string(out).unwrap());
    let total: i64 = folded.iter().map(|(_, count)| *count as i64).sum();
    let expected = if pprof.period > 0 { all } else { nanoseconds(&pprof) / 1000 };
    assert!((total - expected).abs() <= folded.len() as i64, "{total} of {expected}");
    let chain = ["main", "a", "b", "c", "spin"].map(str::to_owned);
    let through = folded.iter().filter(|(stack, _)| stack.ends_with(&chain));
    let through: i64 = through.map(|(_, count)| *count as i64).sum();
    let share = through as f64 / total as f64 / (of_chain as f64 / all as f64);
    assert!(
        (0.85..1.15).contains(&share),
        "the program's share is {share} of what it is in the windows"
    );
}

#[test]
fn what_it_does_is_told_over_http() {
    let _alone = alone();
    let mut agent = Agent::start("frequency = 99\nmax_cpu = 100");
    let _running = Running::start(&compile("chain.c", agent.place.path(), "chain"));
    agent.wait_for_windows(2);
    assert_eq!(agent.page("/healthz"), (200, "ok\n".into()));
    assert_eq!(agent.page("/readyz"), (200, "ok\n".into()));
    assert_eq!(agent.page("/nowhere").0, 404);
    let value = |name| agent.metric(name);
    assert!(value("everytick_windows_closed_total") >= 2.0);
    assert!(value("everytick_samples_total") > 50.0);
    assert!(value("everytick_ticks_due_total") >= value("everytick_samples_total"));
    let closed = value("everytick_windows_closed_total");
    let parts = value("everytick_windows_accepted_total")
        + value("everytick_windows_empty_total")
        + value("everytick_windows_lost_total");
    assert!(parts <= closed + 1.0 && parts >= closed - 2.0, "{parts} of {closed}");
    agent.stop();
}

#[test]
fn a_budget_that_is_too_small_for_the_full_pace_lowers_it_and_totals_stay_right() {
    let _alone = alone();
    let mut agent = Agent::start("frequency = 999\nmax_cpu = 0.3\nnode = \"n1\"");
    let program = compile("chain.c", agent.place.path(), "chain");
    let _running = [Running::start(&program), Running::start(&program)];
    agent.wait_for("a lower step", || (agent.metric("everytick_budget_step") > 0.0).then_some(()));
    let windows = agent.windows().len();
    agent.wait_for_windows(windows + 2);
    agent.stop();
    assert!(agent.log().contains("budget step changed"), "{}", agent.log());
    let profiles = agent.profiles();
    let periods: Vec<i64> = profiles.iter().map(|profile| profile.period).collect();
    assert!(periods.iter().any(|period| *period > 1_500_000), "{periods:?}");
    for profile in &profiles {
        let nanoseconds: i64 = profile.sample.iter().map(|sample| sample.value[1]).sum();
        assert_eq!(nanoseconds, samples(profile) * profile.period);
        for start in ["host n1, Linux ", "budget: step "] {
            assert!(comments(profile).iter().any(|line| line.starts_with(start)), "{start}");
        }
        // Two programs are busy on at least two CPUs, whatever the pace: their time is the window's, twice at most.
        let cpus =
            fs::read_to_string("/proc/cpuinfo").unwrap().matches("processor\t").count() as i64;
        assert!(nanoseconds <= profile.duration_nanos * cpus * 11 / 10 + 2 * profile.period);
    }
}

#[test]
fn hang_up_reads_the_configuration_again_and_a_bad_one_changes_nothing() {
    let _alone = alone();
    let mut agent = Agent::start("frequency = 19\nmax_cpu = 100");
    let _running = Running::start(&compile("chain.c", agent.place.path(), "chain"));
    agent.wait_for_windows(1);
    agent.configure("frequncy = 99");
    agent.signal(Signal::HUP);
    agent
        .wait_for("the refusal", || agent.log().contains("did you mean `frequency`").then_some(()));
    agent.configure("frequency = 199\nmax_cpu = 100");
    agent.signal(Signal::HUP);
    let is_new = |profile: &Profile| (4_000_000..6_000_000).contains(&profile.period);
    agent.wait_for("the new frequency", || agent.profiles().iter().any(is_new).then_some(()));
    assert_eq!(agent.metric("everytick_config_reloads_total"), 2.0);
    agent.stop();
    let old = |profile: &&Profile| (45_000_000..60_000_000).contains(&profile.period);
    assert!(agent.profiles().iter().filter(old).count() >= 1);
}

#[test]
fn what_is_read_again_is_taken_whole_or_not_at_all_and_what_needs_a_restart_waits_for_it() {
    let _alone = alone();
    let mut agent = Agent::start("frequency = 19\nmax_cpu = 100");
    let _running = Running::start(&compile("chain.c", agent.place.path(), "chain"));
    agent.wait_for_windows(1);
    let sink = "[sinks.s]\ntype = \"otlp\"\nurl = \"https://127.0.0.1:1\"\nbearer_token_file = \"/nonexistent/token\"";
    agent.configure(&format!("frequency = 97\nmax_cpu = 100\n{sink}"));
    agent.signal(Signal::HUP);
    let is_refused = || agent.log().contains("reload rejected, keeping current configuration");
    agent.wait_for("the refusal", || is_refused().then_some(()));
    assert!(agent.log().contains("/nonexistent/token"), "{}", agent.log());
    assert_eq!(agent.metric("everytick_config_stale"), 1.0);

    agent.configure("frequency = 199\nmax_cpu = 100");
    let text = fs::read_to_string(agent.config()).unwrap();
    let moved = text.replace("/store\"", "/other\"").replace("/spool\"", "/elsewhere\"");
    assert_ne!(moved, text);
    fs::write(agent.config(), moved).unwrap();
    agent.signal(Signal::HUP);
    let is_new = |profile: &Profile| (4_000_000..6_000_000).contains(&profile.period);
    agent.wait_for("the new frequency", || agent.profiles().iter().any(is_new).then_some(()));
    assert_eq!(agent.metric("everytick_config_stale"), 0.0);
    agent.stop();
    for key in ["store.directory", "spool.directory"] {
        assert!(agent.log().contains(key), "{}", agent.log());
    }
    let between = |profile: &Profile| (9_000_000..12_000_000).contains(&profile.period);
    assert!(!agent.profiles().iter().any(between), "the frequency of what was refused");
}

#[test]
fn killed_it_loses_the_window_that_was_filled_and_no_more() {
    let _alone = alone();
    let mut agent = Agent::start("frequency = 99\nmax_cpu = 100");
    let _running = Running::start(&compile("chain.c", agent.place.path(), "chain"));
    agent.wait_for_windows(2);
    let mut child = agent.child.take().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let before = agent.windows();
    agent.restart();
    agent.wait_for_windows(before.len() + 2);
    agent.stop();
    assert!(before.iter().all(|window| agent.windows().contains(window)));
    for profile in agent.profiles() {
        assert!(samples(&profile) > 0);
    }
}
