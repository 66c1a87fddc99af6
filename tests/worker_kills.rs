//! Workers that are killed at any moment cost no window and no tick; names come back.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;
use std::fs;
use std::time::{Duration, Instant};

use common::agent::{Agent, comments, functions, labels};
use common::{Running, alone, compile, parse_ledger, pause};
use rustix::process::{Pid, Signal, kill_process};

const KILLS: usize = 100;
/// Workers start again when they are needed, several in a second.
const KILLS_WITHIN: Duration = Duration::from_secs(120);
/// Nanoseconds by which two windows may be apart.
const GAP_MAX: i64 = 20_000_000;

/// Returns the child processes of the agent.
fn workers(agent: &Agent) -> Vec<u32> {
    let pid = agent.child.as_ref().unwrap().id();
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let children = threads.map(|thread| fs::read_to_string(thread.path().join("children")));
    let text: String = children.map(Result::unwrap_or_default).collect();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

#[test]
fn a_hundred_killed_workers_lose_no_window() {
    let _alone = alone();
    let mut agent = Agent::start("frequency = 49\nmax_cpu = 100");
    let _chain = Running::start(&compile("chain.c", agent.place.path(), "chain"));
    // Each new file has to be opened, read and named.
    let script = agent.place.path().join("churn");
    let churn = "cd ${0%/*} && i=0; while :; do i=$((i + 1)); cp chain new$i; \
                 timeout 0.1 ./new$i; rm new$i; done";
    fs::write(&script, churn).unwrap();
    let _churn = Running::start_with("/bin/sh".as_ref(), &[script]);
    agent.wait_for_windows(2);

    // One that was killed is a child until its end is noticed, and counts once.
    let (mut killed, start) = (HashSet::new(), Instant::now());
    while killed.len() < KILLS && start.elapsed() < KILLS_WITHIN {
        pause(fastrand::u64(1..100));
        let mut workers = workers(&agent);
        workers.retain(|worker| !killed.contains(worker));
        if let Some(worker) = fastrand::choice(workers)
            && kill_process(Pid::from_raw(worker as i32).unwrap(), Signal::KILL).is_ok()
        {
            killed.insert(worker);
        }
    }
    assert_eq!(killed.len(), KILLS, "{}", agent.log());
    let _later = Running::start(&compile("chain.c", agent.place.path(), "later"));
    agent.wait_for_windows(agent.windows().len() + 4);
    let [closed, accepted, lost] = agent.stop();
    assert_eq!((closed, lost), (accepted, 0), "{}", agent.log());

    let profiles = agent.profiles();
    assert_eq!(profiles.len() as u64, accepted);
    for pair in profiles.windows(2) {
        let gap = pair[1].time_nanos - (pair[0].time_nanos + pair[0].duration_nanos);
        assert!(gap.abs() < GAP_MAX, "{gap} ns between two windows");
    }
    for profile in &profiles {
        let ledger = parse_ledger(comments(profile).into_iter());
        assert_eq!(ledger["lost"], 0, "{ledger:?}");
    }
    let last = &profiles[profiles.len() - 2];
    let is_named = |number: usize| {
        let functions = functions(last, &last.sample[number].location_id);
        labels(last, number)["comm"] == "later"
            && ["spin", "c", "b", "a", "main"].iter().all(|name| functions.contains(name))
    };
    assert!((0..last.sample.len()).any(is_named), "{}", agent.log());
}
