//! The agent under fire: several users without privileges attack it in every way known here at
//! once, in a memory cgroup of its own. It is not killed, it never samples below its floor, its
//! account closes in every window, and a bystander is profiled as if nothing happened.
//!
//! This takes five minutes in all. `./dev bench-attacks` runs ten minutes of each configuration on
//! the optimized program.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod attackers;
#[path = "../common/mod.rs"]
mod common;
mod files;
mod verdict;

use std::fs;
use std::time::{Duration, Instant, SystemTime};

use attackers::Attack;
use common::agent::Agent;
use common::cgroup::Cgroup;
use common::{Running, alone, compile, pause};
use verdict::CpuTimes;

/// Sampling frequency of the default configuration.
const DEFAULT_HZ: u32 = 19;
/// From the end of the attacks until the full frequency is in force again.
const RECOVERY_MAX: Duration = Duration::from_secs(60);
/// The CPU budget of an unoptimized agent, which takes several times the time of the real one.
const UNOPTIMIZED_BUDGET: &str = "max_cpu = 8.0";

/// Returns how long the attacks last: by `ATTACK_SECONDS`, or the given time.
fn attack_time(seconds: u64) -> Duration {
    let given = std::env::var("ATTACK_SECONDS").ok();
    Duration::from_secs(given.map_or(seconds, |text| text.parse().unwrap()))
}

#[test]
fn agent_with_defaults_withstands_all_attacks_in_320_mib() {
    withstand(320 << 20, "", DEFAULT_HZ, attack_time(130));
}

#[test]
fn agent_at_99_hz_with_1_gib_withstands_all_attacks() {
    withstand(1100 << 20, "max_memory = \"1GiB\"\nfrequency = 99", 99, attack_time(50));
}

fn withstand(cgroup_bytes: u64, lines: &str, hz: u32, time: Duration) {
    let _alone = alone();
    let cgroup = Cgroup::with_memory(cgroup_bytes);
    let mut agent = start(&cgroup, lines);
    let bystander = compile("chain.c", agent.place.path(), "bystander");
    let bystander = Running::start(&bystander);
    agent.wait_for_windows(1);
    let attack = Attack::prepare(&agent.address());
    pause(15_000); // the overhead of the start is over

    let mut attackers = attack.start(time);
    let (began, before) = (SystemTime::now(), CpuTimes::read(&bystander));
    while began.elapsed().unwrap() < time {
        pause(1000);
        assert!(agent.is_running(), "the agent was killed\n{}", agent.log());
        assert!(cgroup.kills() == 0, "a worker was killed for the memory of the cgroup");
    }
    let truth = CpuTimes::read(&bystander).since(&before);
    let (attack, ended) = (began..SystemTime::now(), Instant::now());
    attackers.assert_running();
    drop(attackers);
    verdict::assert_probes_answer(&agent);
    let recovered = wait_for_frequency(&agent, hz, ended);
    let closed = agent.metric("everytick_windows_closed_total");
    agent.wait_for("the windows of the attack", || {
        (agent.metric("everytick_windows_accepted_total") >= closed).then_some(())
    });
    let refused = verdict::assert_refused(&agent);
    let [_, accepted, lost] = agent.stop();
    assert_eq!(lost, 0, "{}", agent.log());

    eprintln!("{refused}\n{}", agent.log());
    let windows = agent.profiles();
    assert_eq!(windows.len() as u64, accepted);
    let mean_hz = verdict::assert_ledgers_close(&windows, hz);
    let share = verdict::assert_bystander(&windows, &attack, &truth);
    eprintln!(
        "{} MiB, {hz} Hz: {} windows of {:.0} s at most, {mean_hz:.1} Hz sampled on the mean, \
         bystander {share}, full frequency {:.0} s after the end, memory at most {} MiB",
        cgroup_bytes >> 20,
        windows.len(),
        windows.iter().map(|window| window.duration_nanos).max().unwrap_or_default() as f64 / 1e9,
        recovered.as_secs_f64(),
        cgroup.peak() >> 20
    );
}

/// Starts an agent with windows of the default length in a cgroup.
fn start(cgroup: &Cgroup, lines: &str) -> Agent {
    let mut agent = Agent { place: common::directory(), child: None };
    let budget = if common::is_optimized() { "" } else { UNOPTIMIZED_BUDGET };
    agent.configure(&format!("{lines}\n{budget}"));
    let text = fs::read_to_string(agent.config()).unwrap();
    fs::write(agent.config(), text.replace("window = \"1s\"\n", "")).unwrap();
    let mut command = cgroup.run(&agent.command());
    agent.spawn(&mut command);
    agent
}

/// Waits until the full frequency is in force. Returns the time since `ended`.
fn wait_for_frequency(agent: &Agent, hz: u32, ended: Instant) -> Duration {
    loop {
        if agent.metric("everytick_sampling_frequency_hertz") == f64::from(hz) {
            return ended.elapsed();
        }
        assert!(ended.elapsed() < RECOVERY_MAX, "still not at {hz} Hz\n{}", agent.log());
        pause(500);
    }
}
