//! How busy the machine was while it was profiled, by the ticks of its clocks.

use std::fmt;

use crate::{ClockScope, Pid, Profile, TickOutcome, Tid};

/// How busy the machine was, all CPUs together, whatever part of it was selected.
///
/// A tick that found a task running is busy. Of the others, most found the idle task; a virtual CPU
/// that sleeps may also drop its ticks, so that missed ticks count as idle, and are mentioned.
///
/// ```
/// use profile::BusyShare;
///
/// let share = BusyShare { due: 1_000, busy: 2, missed: 3 };
/// assert_eq!(share.to_string(), "0.2 % busy, 99.8 % idle");
/// let share = BusyShare { missed: 499, ..share };
/// assert_eq!(
///     share.to_string(),
///     "0.2 % busy, 99.8 % idle (49.9 % of ticks missed, counted as idle)"
/// );
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusyShare {
    /// Ticks that were due while clocks were set to take them; above 0.
    pub due: u64,
    /// Ticks that found a task running.
    pub busy: u64,
    /// Ticks that never came.
    pub missed: u64,
}

/// Share of missed ticks from which on they are mentioned.
const MISSED_MENTIONED_MIN: f64 = 0.01;

impl Profile {
    /// Returns how busy the machine was; `None` if the ledger is unknown or empty, or if only
    /// selected tasks had clocks.
    pub fn busy_share(&self) -> Option<BusyShare> {
        let ledger = &self.ledger;
        let due = ledger.due().saturating_sub(ledger.not_sampled_total());
        let idle = ledger.outcome(TickOutcome::SkippedIdle) + self.idle_samples();
        let busy = ledger.ticks().saturating_sub(idle).min(due);
        let is_known = due > 0 && ledger.clocks == ClockScope::Cpus;
        is_known.then(|| BusyShare { due, busy, missed: ledger.missed() })
    }

    /// Returns the samples of the idle task, which are taken on request only. Its threads have
    /// number 0 and a name; profiles of the agent have neither.
    fn idle_samples(&self) -> u64 {
        let samples = self.samples.iter().filter(|sample| {
            let task = self.task_of(sample);
            (task.pid, task.tid) == (Pid(0), Tid(0)) && !task.thread.is_empty()
        });
        samples.map(|sample| sample.count).sum()
    }
}

impl BusyShare {
    /// Returns the busy part, from 0 to 1.
    pub fn busy(&self) -> f64 {
        self.busy as f64 / self.due as f64
    }

    /// Returns the part that was idle, or without a tick, from 0 to 1.
    pub fn idle(&self) -> f64 {
        1.0 - self.busy()
    }
}

impl fmt::Display for BusyShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} busy, {} idle", percent(self.busy()), percent(self.idle()))?;
        let missed = self.missed as f64 / self.due as f64;
        if missed >= MISSED_MENTIONED_MIN {
            write!(f, " ({} of ticks missed, counted as idle)", percent(missed))?;
        }
        Ok(())
    }
}

/// Formats a part in percent. One that is neither nothing nor everything does not look like it.
fn percent(part: f64) -> String {
    match 100.0 * part {
        percent if percent > 0.0 && percent < 0.05 => "< 0.1 %".into(),
        percent if (99.95..100.0).contains(&percent) => "> 99.9 %".into(),
        percent => format!("{percent:.1} %"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        CaptureLedger, Cpu, CpuTicks, NotSampled, SampleCount, SampleKey, StackEnd, StackId, Task,
        TaskId,
    };

    /// Returns a profile of 1,000 due ticks, 100 of which were not sampled, 40 missed, 800 idle.
    fn profile() -> Profile {
        let mut cpu = CpuTicks::at_full_rate(Cpu(0), 900, 860);
        cpu.add_not_sampled(NotSampled::Budget, 100);
        let mut ledger = CaptureLedger { cpus: vec![cpu], ..CaptureLedger::default() };
        ledger.outcomes[TickOutcome::SkippedIdle as usize] = 800;
        Profile { ledger, ..Profile::default() }
    }

    #[test]
    fn shares_are_of_the_ticks_that_clocks_were_set_to_take() {
        let share = profile().busy_share().expect("ticks were due");
        assert_eq!(share, BusyShare { due: 900, busy: 60, missed: 40 });
        assert_eq!(Profile::default().busy_share(), None);
        let mut of_tasks = profile();
        of_tasks.ledger.clocks = ClockScope::Tasks;
        assert_eq!(of_tasks.busy_share(), None);
    }

    #[test]
    fn samples_of_the_idle_task_are_idle() {
        let mut profile = profile();
        profile.ledger.outcomes[TickOutcome::SkippedIdle as usize] = 0;
        for thread in ["swapper/0", ""] {
            profile.tasks.push(Task {
                pid: Pid(0),
                tid: Tid(0),
                comm: "swapper/0".into(),
                thread: thread.into(),
                cgroup_id: 0,
                labels: Arc::default(),
            });
            let key = SampleKey {
                task: TaskId(profile.tasks.len() as u32 - 1),
                stack: StackId(0),
                kernel_end: StackEnd::Complete,
                user_end: StackEnd::Absent,
                guessed: false,
            };
            profile.samples.push(SampleCount { key, count: 300 });
        }
        assert_eq!(profile.busy_share().map(|share| share.busy), Some(560));
    }

    #[test]
    fn tiny_parts_do_not_round_to_nothing() {
        let share = BusyShare { due: 1_000_000, busy: 1, missed: 0 };
        assert_eq!(share.to_string(), "< 0.1 % busy, > 99.9 % idle");
        let share = BusyShare { busy: 0, ..share };
        assert_eq!(share.to_string(), "0.0 % busy, 100.0 % idle");
    }
}
