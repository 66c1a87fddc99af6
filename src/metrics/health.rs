//! Health, without which an orchestrator restarts the agent, and readiness, for which it waits.
//!
//! An unreachable sink affects neither: its windows wait in the spool, and a restart does not help.

use std::time::Duration;

use profile::Cpu;

/// Windows that may be missing before the agent counts as unhealthy.
const WINDOWS_MISSING_MAX: u32 = 3;
/// Minimum of that time, however short a window is: in a CPU cgroup of a hundredth of a CPU, what
/// takes a tenth of a second elsewhere takes ten, and a restart would not help.
const LATE_MIN: Duration = Duration::from_secs(60);
/// Time from the start of the agent until sampling starts. Old kernels take seconds to verify each
/// BPF program.
const START_MAX: Duration = Duration::from_secs(60);

/// Time without a tick on an online CPU after which the agent is not ready.
const NO_TICK_MAX: Duration = Duration::from_secs(120);

/// The facts from which health and readiness follow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthState {
    /// Length of a window.
    pub window: Duration,
    /// Time since the agent started.
    pub since_start: Duration,
    /// Time since sampling started; `None` before that.
    pub since_sampling: Option<Duration>,
    /// Time since the last window was closed; `None` before the first one.
    pub since_window: Option<Duration>,
    /// The online CPU that has gone longest without a tick, and for how long; `None` before
    /// sampling started.
    pub longest_without_tick: Option<(Cpu, Duration)>,
    /// Names of threads that have ended while the agent runs.
    pub dead_threads: Vec<&'static str>,
    /// The sinks have been started, reachable or not.
    pub has_sinks: bool,
    /// A window has been accepted for delivery.
    pub has_accepted: bool,
    /// The agent is stopping.
    pub is_stopping: bool,
}

impl HealthState {
    /// Checks that all threads run and that windows are being closed.
    ///
    /// # Errors
    /// One sentence about what fails.
    pub fn check_health(&self) -> Result<(), String> {
        if let Some(thread) = self.dead_threads.first() {
            return Err(format!("the thread `{thread}` has died; please report this with the log"));
        }
        let Some(silence) = self.since_window.or(self.since_sampling) else {
            return match self.since_start > START_MAX {
                true => Err(format!("sampling has not started for {}", seconds(self.since_start))),
                false => Ok(()),
            };
        };
        if silence > (self.window * WINDOWS_MISSING_MAX).max(LATE_MIN) {
            let (silence, window) = (seconds(silence), seconds(self.window));
            return Err(format!("no window was closed for {silence}; one is due every {window}"));
        }
        Ok(())
    }

    /// Checks that profiles are being delivered: every online CPU ticks, and a window has been
    /// accepted, or sampling and the sinks have started.
    ///
    /// # Errors
    /// One sentence about what is missing.
    pub fn check_readiness(&self) -> Result<(), String> {
        if self.is_stopping {
            return Err("the agent is stopping".into());
        }
        if let Some((cpu, silence)) = self.longest_without_tick
            && silence > NO_TICK_MAX
        {
            return Err(format!("no tick on CPU {} for {}", cpu.0, seconds(silence)));
        }
        let required = [
            (self.since_sampling.is_some(), "sampling has not started"),
            (self.has_sinks, "the sinks have not been started"),
        ];
        let missing = required.iter().filter(|(is_met, _)| !is_met).map(|(_, problem)| *problem);
        let missing: Vec<_> = missing.collect();
        match self.has_accepted || missing.is_empty() {
            true => Ok(()),
            false => Err(missing.join(" and ")),
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.0} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn running() -> HealthState {
        HealthState {
            window: s(10),
            since_start: s(3600),
            since_sampling: Some(s(3590)),
            since_window: Some(s(4)),
            has_sinks: true,
            has_accepted: true,
            ..HealthState::default()
        }
    }

    fn reason(result: Result<(), String>) -> String {
        result.expect_err("the check fails")
    }

    #[test]
    fn running_agent_is_healthy_and_ready() {
        assert_eq!(running().check_health(), Ok(()));
        assert_eq!(running().check_readiness(), Ok(()));
    }

    #[test]
    fn window_may_be_late_by_three_windows() {
        let late = |since| HealthState { window: s(30), since_window: Some(since), ..running() };
        assert_eq!(late(s(90)).check_health(), Ok(()));
        assert_eq!(
            reason(late(s(91)).check_health()),
            "no window was closed for 91 s; one is due every 30 s"
        );
    }

    #[test]
    fn short_windows_may_be_late_by_a_minute() {
        let late = |since| HealthState { window: s(1), since_window: Some(since), ..running() };
        assert_eq!(late(s(60)).check_health(), Ok(()));
        assert_eq!(
            reason(late(s(61)).check_health()),
            "no window was closed for 61 s; one is due every 1 s"
        );
    }

    #[test]
    fn first_window_may_be_as_late_as_the_others() {
        let first =
            |since| HealthState { since_sampling: Some(since), since_window: None, ..running() };
        assert_eq!(first(s(60)).check_health(), Ok(()));
        assert!(first(s(61)).check_health().is_err());
    }

    #[test]
    fn start_may_take_a_minute() {
        let start = |since| HealthState { since_start: since, ..HealthState::default() };
        assert_eq!(start(s(60)).check_health(), Ok(()));
        assert_eq!(reason(start(s(61)).check_health()), "sampling has not started for 61 s");
    }

    #[test]
    fn dead_thread_is_named() {
        let state = HealthState { dead_threads: vec!["processor"], ..running() };
        assert_eq!(
            reason(state.check_health()),
            "the thread `processor` has died; please report this with the log"
        );
    }

    #[test]
    fn readiness_lists_all_that_is_missing() {
        let state = HealthState::default();
        assert_eq!(
            reason(state.check_readiness()),
            "sampling has not started and the sinks have not been started"
        );
        let state = HealthState { since_sampling: Some(s(0)), ..state };
        assert_eq!(reason(state.check_readiness()), "the sinks have not been started");
        assert_eq!(HealthState { has_sinks: true, ..state.clone() }.check_readiness(), Ok(()));
        assert_eq!(HealthState { has_accepted: true, ..state }.check_readiness(), Ok(()));
    }

    #[test]
    fn cpu_without_a_tick_for_two_minutes_makes_the_agent_not_ready() {
        let silent = |time| HealthState { longest_without_tick: Some((Cpu(3), time)), ..running() };
        assert_eq!(silent(s(120)).check_readiness(), Ok(()));
        assert_eq!(reason(silent(s(121)).check_readiness()), "no tick on CPU 3 for 121 s");
        assert_eq!(silent(s(121)).check_health(), Ok(()), "a restart does not help");
    }

    #[test]
    fn stopping_agent_is_healthy_but_not_ready() {
        let state = HealthState { is_stopping: true, ..running() };
        assert_eq!(reason(state.check_readiness()), "the agent is stopping");
        assert_eq!(state.check_health(), Ok(()));
    }
}
