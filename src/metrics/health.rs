//! Whether the agent is healthy, and whether it is ready: what an orchestrator restarts it for, and waits for.
//!
//! A sink that is down makes the agent neither: its windows wait in the spool, and a restart would help nobody.

use std::time::Duration;

/// Periods that may pass without a window.
const PERIODS: u32 = 3;
/// At least so long, however short a period is: a window waits up to two seconds for its last samples.
const LATE_MIN: Duration = Duration::from_secs(10);
/// From the start until sampling begins. Old kernels take seconds over each program.
const START_MAX: Duration = Duration::from_secs(60);

/// What health and readiness go by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// From one window to the next.
    pub period: Duration,
    /// Since the agent was started.
    pub since_start: Duration,
    /// Since sampling began; `None` before that.
    pub since_sampling: Option<Duration>,
    /// Since a window was closed last; `None` before the first.
    pub since_window: Option<Duration>,
    /// Names of the threads that have ended although the agent has not.
    pub dead: Vec<&'static str>,
    /// The sinks have been started, reachable or not.
    pub has_sinks: bool,
    /// A window has been accepted for delivery.
    pub has_accepted: bool,
    /// It was told to stop.
    pub is_stopping: bool,
}

impl State {
    /// Tells whether everything runs: all threads are there, and windows are being closed.
    ///
    /// # Errors
    /// One sentence that says what does not run.
    pub fn health(&self) -> Result<(), String> {
        if let Some(thread) = self.dead.first() {
            return Err(format!("the thread `{thread}` has died; please report this with its log"));
        }
        let Some(silence) = self.since_window.or(self.since_sampling) else {
            return match self.since_start > START_MAX {
                true => Err(format!("sampling has not begun for {}", seconds(self.since_start))),
                false => Ok(()),
            };
        };
        if silence > (self.period * PERIODS).max(LATE_MIN) {
            let (silence, period) = (seconds(silence), seconds(self.period));
            return Err(format!("no window was closed for {silence}; one is due every {period}"));
        }
        Ok(())
    }

    /// Tells whether profiles are on their way: a window has been accepted, or sampling and the sinks have begun.
    ///
    /// # Errors
    /// What is missing.
    pub fn readiness(&self) -> Result<(), String> {
        if self.is_stopping {
            return Err("the agent is stopping".into());
        }
        let needed = [
            (self.since_sampling.is_some(), "sampling has not begun"),
            (self.has_sinks, "the sinks have not been started"),
        ];
        let missing: Vec<_> =
            needed.iter().filter(|(is_there, _)| !is_there).map(|n| n.1).collect();
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

    fn running() -> State {
        State {
            period: s(10),
            since_start: s(3600),
            since_sampling: Some(s(3590)),
            since_window: Some(s(4)),
            has_sinks: true,
            has_accepted: true,
            ..State::default()
        }
    }

    fn why(verdict: Result<(), String>) -> String {
        verdict.expect_err("something is wrong")
    }

    #[test]
    fn a_running_agent_is_healthy_and_ready() {
        assert_eq!(running().health(), Ok(()));
        assert_eq!(running().readiness(), Ok(()));
    }

    #[test]
    fn a_window_may_be_late_by_three_periods() {
        let late = |since| State { since_window: Some(since), ..running() };
        assert_eq!(late(s(30)).health(), Ok(()));
        assert_eq!(
            why(late(s(31)).health()),
            "no window was closed for 31 s; one is due every 10 s"
        );
    }

    #[test]
    fn short_periods_leave_a_window_time_for_its_last_samples() {
        let late = |since| State { period: s(1), since_window: Some(since), ..running() };
        assert_eq!(late(s(10)).health(), Ok(()));
        assert_eq!(
            why(late(s(11)).health()),
            "no window was closed for 11 s; one is due every 1 s"
        );
    }

    #[test]
    fn the_first_window_is_waited_for_as_long_as_the_others() {
        let first = |since| State { since_sampling: Some(since), since_window: None, ..running() };
        assert_eq!(first(s(30)).health(), Ok(()));
        assert!(first(s(31)).health().is_err());
    }

    #[test]
    fn a_start_may_take_a_minute() {
        let start = |since| State { since_start: since, ..State::default() };
        assert_eq!(start(s(60)).health(), Ok(()));
        assert_eq!(why(start(s(61)).health()), "sampling has not begun for 61 s");
    }

    #[test]
    fn a_dead_thread_is_named() {
        let state = State { dead: vec!["processor"], ..running() };
        assert_eq!(
            why(state.health()),
            "the thread `processor` has died; please report this with its log"
        );
    }

    #[test]
    fn readiness_names_all_that_is_missing() {
        let state = State::default();
        assert_eq!(
            why(state.readiness()),
            "sampling has not begun and the sinks have not been started"
        );
        let state = State { since_sampling: Some(s(0)), ..state };
        assert_eq!(why(state.readiness()), "the sinks have not been started");
        assert_eq!(State { has_sinks: true, ..state.clone() }.readiness(), Ok(()));
        assert_eq!(State { has_accepted: true, ..state }.readiness(), Ok(()));
    }

    #[test]
    fn who_is_stopping_is_not_ready_but_healthy() {
        let state = State { is_stopping: true, ..running() };
        assert_eq!(why(state.readiness()), "the agent is stopping");
        assert_eq!(state.health(), Ok(()));
    }
}
