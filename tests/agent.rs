//! The agent on a live machine: windows, the budget, reloads, and shutdown without loss.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::agent::{Agent, comments, labels, read, samples};
use common::{Running, alone, compile, directory, parse_folded};
use profile::pprof::proto::Profile;
use rustix::process::Signal;

#[test]
fn windows_survive_a_restart_and_add_up() {
    let _alone = alone();
    let mut agent =
        Agent::start("frequency = 99\nmax_cpu = 100\nnode = \"n1\"\nlabels = { team = \"x\" }");
    let _running = Running::start(&compile("chain.c", agent.place.path(), "chain"));
    agent.wait_for_windows(3);
    let [closed, accepted, lost] = agent.stop();
    let before = agent.windows();
    assert_eq!((lost, accepted), (0, before.len() as u64), "{}", agent.log());
    assert!(closed >= accepted, "more windows accepted than closed: {}", agent.log());

    agent.restart();
    agent.wait_for_windows(before.len() + 2);
    agent.stop();
    let after = agent.windows();
    assert!(before.iter().all(|window| after.contains(window)), "earlier windows are missing");

    let profiles = agent.profiles();
    let mut chain_samples = 0;
    for profile in &profiles {
        let all = samples(profile);
        let nanoseconds: i64 = profile.sample.iter().map(|sample| sample.value[1]).sum();
        assert_eq!(nanoseconds, all * profile.period, "CPU time is count times period");
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
                chain_samples += profile.sample[at].value[0];
            }
        }
    }
    assert!(chain_samples > 100, "{chain_samples} samples of the program");

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
    // The period changes every minute. Folded stacks then count microseconds, rounded per line.
    let folded = parse_folded(&fs::read_to_string(out).unwrap());
    let total: i64 = folded.iter().map(|(_, count)| *count as i64).sum();
    let expected = if pprof.period > 0 { all } else { nanoseconds(&pprof) / 1000 };
    assert!((total - expected).abs() <= folded.len() as i64, "{total} of {expected}");
    let chain = ["main", "a", "b", "c", "spin"].map(str::to_owned);
    let in_chain = folded.iter().filter(|(stack, _)| stack.ends_with(&chain));
    let in_chain: i64 = in_chain.map(|(_, count)| *count as i64).sum();
    let ratio = in_chain as f64 / total as f64 / (chain_samples as f64 / all as f64);
    assert!(
        (0.85..1.15).contains(&ratio),
        "the program's share in the export is {ratio} of its share in the windows"
    );
}

#[test]
fn metrics_and_health_are_served_over_http() {
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
fn a_small_budget_lowers_the_frequency_and_totals_stay_right() {
    let _alone = alone();
    let mut agent = Agent::start("frequency = 999\nmax_cpu = 0.3\nnode = \"n1\"");
    let program = compile("chain.c", agent.place.path(), "chain");
    let _running = [Running::start(&program), Running::start(&program)];
    agent.wait_for("a lower frequency", || {
        // It is 0 before sampling starts.
        let frequency = agent.metric("everytick_sampling_frequency_hertz");
        (frequency > 0.0 && frequency < 999.0).then_some(())
    });
    // Windows wait in the spool for delivery's share of the budget, until the stop. Two may still
    // be of the frequency before: one is being symbolized, and one waits for that.
    let accepted = || agent.metric("everytick_windows_accepted_total");
    let before = accepted();
    agent.wait_for("windows at that frequency", || (accepted() >= before + 3.0).then_some(()));
    agent.stop();
    assert!(agent.log().contains(" % of total CPU capacity"), "{}", agent.log());
    let profiles = agent.profiles();
    let periods: Vec<i64> = profiles.iter().map(|profile| profile.period).collect();
    assert!(periods.iter().any(|period| *period > 1_500_000), "{periods:?}");
    for profile in &profiles {
        let nanoseconds: i64 = profile.sample.iter().map(|sample| sample.value[1]).sum();
        assert_eq!(nanoseconds, samples(profile) * profile.period);
        for start in ["host n1, Linux ", "budget: the agent used "] {
            assert!(comments(profile).iter().any(|line| line.starts_with(start)), "{start}");
        }
        // CPU time is independent of the frequency, and at most all CPUs for the whole window.
        let cpus =
            fs::read_to_string("/proc/cpuinfo").unwrap().matches("processor\t").count() as i64;
        assert!(nanoseconds <= profile.duration_nanos * cpus * 11 / 10 + 2 * profile.period);
    }
}

#[test]
fn sighup_reloads_and_an_invalid_file_changes_nothing() {
    let _alone = alone();
    let mut agent = Agent::start("frequency = 19\nmax_cpu = 100");
    let _running = Running::start(&compile("chain.c", agent.place.path(), "chain"));
    agent.wait_for_windows(1);
    agent.configure("frequncy = 99");
    agent.signal(Signal::HUP);
    agent.wait_for("a rejected reload", || {
        agent.log().contains("did you mean `frequency`").then_some(())
    });
    agent.configure("frequency = 199\nmax_cpu = 100");
    agent.signal(Signal::HUP);
    let has_new_frequency = |profile: &Profile| (4_000_000..6_000_000).contains(&profile.period);
    agent.wait_for("the new frequency", || {
        agent.profiles().iter().any(has_new_frequency).then_some(())
    });
    assert_eq!(agent.metric("everytick_config_reloads_total"), 2.0);
    agent.stop();
    let has_old_frequency = |profile: &&Profile| (45_000_000..60_000_000).contains(&profile.period);
    assert!(agent.profiles().iter().filter(has_old_frequency).count() >= 1);
}

#[test]
fn a_reload_applies_whole_or_not_at_all() {
    let _alone = alone();
    let mut agent = Agent::start("frequency = 19\nmax_cpu = 100");
    let _running = Running::start(&compile("chain.c", agent.place.path(), "chain"));
    agent.wait_for_windows(1);
    let sink = "[sinks.s]\ntype = \"otlp\"\nurl = \"https://127.0.0.1:1\"\n\
                bearer_token_file = \"/nonexistent/token\"";
    agent.configure(&format!("frequency = 71\nmax_cpu = 100\n{sink}"));
    agent.signal(Signal::HUP);
    let is_rejected = || agent.log().contains("reload rejected, keeping current configuration");
    agent.wait_for("a rejected reload", || is_rejected().then_some(()));
    assert!(agent.log().contains("/nonexistent/token"), "{}", agent.log());
    assert_eq!(agent.metric("everytick_config_reload_failed"), 1.0);

    agent.configure("frequency = 199\nmax_cpu = 100");
    let text = fs::read_to_string(agent.config()).unwrap();
    let moved = text.replace("/store\"", "/other\"").replace("/spool\"", "/elsewhere\"");
    assert_ne!(moved, text);
    fs::write(agent.config(), moved).unwrap();
    agent.signal(Signal::HUP);
    let has_new_frequency = |profile: &Profile| (4_000_000..6_000_000).contains(&profile.period);
    agent.wait_for("the new frequency", || {
        agent.profiles().iter().any(has_new_frequency).then_some(())
    });
    assert_eq!(agent.metric("everytick_config_reload_failed"), 0.0);
    agent.stop();
    for key in ["store.directory", "spool.directory"] {
        assert!(agent.log().contains(key), "{}", agent.log());
    }
    let has_rejected_frequency =
        |profile: &Profile| (13_500_000..15_000_000).contains(&profile.period);
    assert!(!agent.profiles().iter().any(has_rejected_frequency));
}

#[test]
fn sigkill_loses_only_the_open_window() {
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

#[test]
fn a_store_has_one_writer_and_each_tick_is_exported_once() {
    let _alone = alone();
    let lines = "frequency = 49\nmax_cpu = 100\nnode = \"n1\"";
    let (mut first, mut second) = (Agent::start(lines), Agent::start(lines));
    let _running = Running::start(&compile("chain.c", first.place.path(), "chain"));
    first.wait_for_windows(2);
    second.wait_for_windows(2);

    // A third agent has a spool of its own and the store of the first.
    let third = Agent { place: directory(), child: None };
    third.configure(lines);
    let text = fs::read_to_string(third.config()).unwrap();
    let (own, of_first) = (third.place.path().join("store"), first.place.path().join("store"));
    let text = text.replace(own.to_str().unwrap(), of_first.to_str().unwrap());
    fs::write(third.config(), text).unwrap();
    let refused = third.command().output().unwrap();
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success(), "{error}");
    assert_eq!(
        error.matches("is written by another everytick; stop that one").count(),
        1,
        "{error}"
    );

    first.stop();
    second.stop();
    let copied = fs::read_dir(second.place.path().join("store")).unwrap();
    for entry in copied.map(Result::unwrap) {
        fs::copy(entry.path(), of_first.join(entry.file_name())).unwrap();
    }
    let out = first.place.path().join("out.folded");
    let export = |agent: &[&str]| {
        let mut command = first.command();
        command.args(["--export", "-1h..now", "-o"]).arg(&out).args(agent);
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let (is_exported, error) = export(&[]);
    assert!(!is_exported && !out.exists(), "{error}");
    let selected = error.trim().rsplit(' ').next().unwrap();
    assert!(selected.starts_with("n1/"), "{error}");
    let (is_exported, text) = export(&["--only-agent", selected]);
    assert!(is_exported && out.exists(), "{text}");
    let (is_exported, error) = export(&["--only-agent", "n1"]);
    assert!(!is_exported, "both are of this machine: {error}");
}
