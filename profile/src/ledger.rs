//! The capture ledger, which accounts for every tick.
//!
//! ```text
//! due     = ticks + missed + not sampled(reason)   for each CPU
//! ticks   = emitted + skipped(reason)              counted by the sampler
//! emitted = received + gaps                        found by the reader in sequence numbers
//! emitted = aggregated + lost(reason)
//! ```
//!
//! The counts come from independent sources, so that a tick that one of them forgets is found.

use std::fmt;

use crate::{Cpu, Loss, NotSampled, StackEnd, TickOutcome};

/// Whose time the clocks measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClockScope {
    /// That of CPUs: ticks are due whatever runs.
    #[default]
    Cpus,
    /// That of the selected tasks: ticks are due while they run.
    Tasks,
}

impl ClockScope {
    /// Returns perf's name of such clocks.
    pub fn perf_event(self) -> &'static str {
        match self {
            Self::Cpus => "cpu-clock",
            Self::Tasks => "task-clock",
        }
    }
}

/// The ticks of one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTicks {
    /// The CPU.
    pub cpu: Cpu,
    /// Ticks that the configured frequency calls for in the time that the CPU was online, or that
    /// tasks with a clock ran on it: see [`ClockScope`]. If one
    /// tick too many was counted, because two clocks are read at slightly different moments, it is
    /// due in its own window and not in the next.
    pub due: u64,
    /// Ticks that happened.
    pub ticks: u64,
    /// Due ticks that no clock was set to take, indexed by [`NotSampled`].
    pub not_sampled: [u64; NotSampled::COUNT],
}

impl CpuTicks {
    /// Returns the ticks of a CPU whose clock ran at the configured frequency all the time.
    pub fn at_full_rate(cpu: Cpu, due: u64, ticks: u64) -> Self {
        Self { cpu, due, ticks, not_sampled: [0; NotSampled::COUNT] }
    }

    /// Returns the ticks that a clock was set to take and that did not happen.
    pub fn missed(&self) -> u64 {
        self.due.saturating_sub(self.ticks + self.not_sampled.iter().sum::<u64>())
    }

    /// Counts the missed ticks as not sampled for a reason.
    pub fn attribute_missed(&mut self, reason: NotSampled) {
        self.not_sampled[reason as usize] += self.missed();
    }

    /// Adds due ticks that were not sampled.
    pub fn add_not_sampled(&mut self, reason: NotSampled, ticks: u64) {
        self.due += ticks;
        self.not_sampled[reason as usize] += ticks;
    }
}

/// Accounts for the ticks of one recording or window. All numbers are counts.
///
/// ```
/// use profile::{CaptureLedger, Cpu, CpuTicks, TickOutcome};
///
/// let cpus = vec![CpuTicks::at_full_rate(Cpu(0), 3, 2)];
/// let mut ledger = CaptureLedger { cpus, ..CaptureLedger::default() };
/// ledger.outcomes[TickOutcome::SkippedIdle as usize] = 1;
/// let imbalance = ledger.check().expect_err("a tick has no outcome");
/// assert_eq!(imbalance.equation, "ticks = emitted + skipped");
/// ledger.outcomes[TickOutcome::SkippedIdle as usize] += 1;
/// assert_eq!(ledger.check(), Ok(()));
/// assert_eq!(ledger.missed(), 1);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureLedger {
    /// Whose time the clocks measure.
    pub clocks: ClockScope,
    /// The ticks of each CPU.
    pub cpus: Vec<CpuTicks>,
    /// Ticks by outcome, indexed by [`TickOutcome`].
    pub outcomes: [u64; TickOutcome::COUNT],
    /// Records that the reader took from the ring.
    pub received: u64,
    /// Sequence numbers that the reader never received.
    pub gaps: u64,
    /// Samples in the window.
    pub aggregated: u64,
    /// Emitted samples that are not in the window, indexed by [`Loss`].
    pub lost: [u64; Loss::COUNT],
    /// Kernel stacks of the samples in the window by their end, indexed by [`StackEnd`].
    pub kernel_ends: [u64; StackEnd::COUNT],
    /// User stacks of the samples in the window by their end, indexed by [`StackEnd`].
    pub user_ends: [u64; StackEnd::COUNT],
    /// Samples in the window with a guessed user frame.
    pub guessed: u64,
}

/// An equation of the ledger that does not hold: a defect of the profiler.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ledger does not close: {equation}: {left} is not {right}")]
pub struct LedgerImbalance {
    /// The equation, such as `ticks = emitted + skipped`.
    pub equation: &'static str,
    /// Its left side.
    pub left: u64,
    /// Its right side.
    pub right: u64,
}

impl CaptureLedger {
    /// Returns the ticks due on all CPUs.
    pub fn due(&self) -> u64 {
        self.cpus.iter().map(|cpu| cpu.due).sum()
    }

    /// Returns the ticks that happened on all CPUs.
    pub fn ticks(&self) -> u64 {
        self.cpus.iter().map(|cpu| cpu.ticks).sum()
    }

    /// Returns the ticks that a clock was set to take and that did not happen.
    pub fn missed(&self) -> u64 {
        self.cpus.iter().map(CpuTicks::missed).sum()
    }

    /// Returns the due ticks that were not sampled for a reason.
    pub fn not_sampled(&self, reason: NotSampled) -> u64 {
        self.cpus.iter().map(|cpu| cpu.not_sampled[reason as usize]).sum()
    }

    /// Returns the due ticks that were not sampled for any reason.
    pub fn not_sampled_total(&self) -> u64 {
        NotSampled::ALL.iter().map(|reason| self.not_sampled(*reason)).sum()
    }

    /// Returns the ticks with an outcome.
    pub fn outcome(&self, outcome: TickOutcome) -> u64 {
        self.outcomes[outcome as usize]
    }

    /// Returns the ticks that became samples, including those lost on the way.
    pub fn emitted(&self) -> u64 {
        self.outcome(TickOutcome::Delivered) + self.outcome(TickOutcome::LostRingFull)
    }

    /// Returns the ticks that were filtered out.
    pub fn skipped(&self) -> u64 {
        let skipped = TickOutcome::ALL.iter().filter(|o| o.is_skipped());
        skipped.map(|o| self.outcome(*o)).sum()
    }

    /// Returns the samples lost for a reason.
    pub fn lost(&self, reason: Loss) -> u64 {
        self.lost[reason as usize]
    }

    /// Returns the samples lost for any reason.
    pub fn lost_total(&self) -> u64 {
        self.lost.iter().sum()
    }

    /// Checks every equation.
    ///
    /// # Errors
    /// The first equation that does not hold.
    pub fn check(&self) -> Result<(), LedgerImbalance> {
        let equations = [
            (
                "due = ticks + missed + not sampled",
                self.due(),
                self.ticks() + self.missed() + self.not_sampled_total(),
            ),
            ("ticks = emitted + skipped", self.ticks(), self.emitted() + self.skipped()),
            ("emitted = received + gaps", self.emitted(), self.received + self.gaps),
            ("emitted = aggregated + lost", self.emitted(), self.aggregated + self.lost_total()),
            ("gaps = lost(ring full)", self.gaps, self.lost(Loss::RingFull)),
            ("aggregated = user stacks", self.aggregated, self.user_ends.iter().sum()),
            ("aggregated = kernel stacks", self.aggregated, self.kernel_ends.iter().sum()),
        ];
        for (equation, left, right) in equations {
            if left != right {
                return Err(LedgerImbalance { equation, left, right });
            }
        }
        Ok(())
    }
}

/// How the text of a ledger begins, by the scope of its clocks.
pub(crate) const DUE: &str = "due ";
pub(crate) const DUE_OF_TASKS: &str = "due of tasks ";

/// Writes the ledger as three lines of text, as summaries and pprof comments show it.
impl fmt::Display for CaptureLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let due = match self.clocks {
            ClockScope::Cpus => DUE,
            ClockScope::Tasks => DUE_OF_TASKS,
        };
        write!(
            f,
            "{due}{} = ticks {} + missed {} + not sampled {}",
            self.due(),
            self.ticks(),
            self.missed(),
            self.not_sampled_total()
        )?;
        reasons(f, NotSampled::ALL.iter().map(|r| (r.text(), self.not_sampled(*r))))?;
        write!(
            f,
            "\nticks {} = emitted {} + skipped {}",
            self.ticks(),
            self.emitted(),
            self.skipped()
        )?;
        let skipped = TickOutcome::ALL.iter().filter(|o| o.is_skipped());
        reasons(f, skipped.map(|o| (o.text(), self.outcome(*o))))?;
        write!(
            f,
            "\nemitted {} = aggregated {} + lost {}",
            self.emitted(),
            self.aggregated,
            self.lost_total()
        )?;
        reasons(f, Loss::ALL.iter().map(|loss| (loss.text(), self.lost(*loss))))
    }
}

/// Writes the reasons that occurred as ` (reason: count, ...)`.
fn reasons(
    f: &mut fmt::Formatter<'_>,
    counts: impl Iterator<Item = (&'static str, u64)>,
) -> fmt::Result {
    let texts: Vec<String> = counts
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| format!("{reason}: {count}"))
        .collect();
    if texts.is_empty() {
        return Ok(());
    }
    write!(f, " ({})", texts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balanced() -> CaptureLedger {
        let mut cpu = CpuTicks::at_full_rate(Cpu(0), 10, 9);
        cpu.add_not_sampled(NotSampled::Budget, 20);
        let mut ledger = CaptureLedger {
            cpus: vec![cpu],
            received: 5,
            gaps: 2,
            aggregated: 4,
            ..CaptureLedger::default()
        };
        ledger.outcomes[TickOutcome::Delivered as usize] = 5;
        ledger.outcomes[TickOutcome::LostRingFull as usize] = 2;
        ledger.outcomes[TickOutcome::SkippedIdle as usize] = 2;
        ledger.lost[Loss::RingFull as usize] = 2;
        ledger.lost[Loss::WindowFull as usize] = 1;
        ledger.user_ends[StackEnd::NoRow as usize] = 4;
        ledger.kernel_ends[StackEnd::Absent as usize] = 4;
        ledger
    }

    #[test]
    fn displays_as_three_equations() {
        balanced().check().expect("a balanced ledger");
        assert_eq!(
            balanced().to_string(),
            "due 30 = ticks 9 + missed 1 + not sampled 20 (budget: 20)\n\
             ticks 9 = emitted 7 + skipped 2 (idle: 2)\n\
             emitted 7 = aggregated 4 + lost 3 (ring full: 2, window full: 1)"
        );
    }

    #[test]
    fn missed_ticks_get_a_reason() {
        let mut ledger = CaptureLedger { clocks: ClockScope::Tasks, ..balanced() };
        ledger.cpus[0].attribute_missed(NotSampled::KernelCode);
        ledger.check().expect("a balanced ledger");
        let text = ledger.to_string();
        let expected = "due of tasks 30 = ticks 9 + missed 0 + not sampled 21 (budget: 20, kernel \
                        code or missed: 1)";
        assert_eq!(text.lines().next(), Some(expected));
    }

    #[test]
    fn finds_ticks_that_were_not_due() {
        let mut ledger = balanced();
        ledger.cpus[0].not_sampled[NotSampled::Gap as usize] += 2;
        let defect = ledger.check().expect_err("more ticks are accounted for than were due");
        assert_eq!(defect.equation, "due = ticks + missed + not sampled");
    }

    #[test]
    fn finds_an_uncounted_loss() {
        let mut ledger = balanced();
        ledger.aggregated -= 1;
        let defect = ledger.check().expect_err("one sample is missing");
        assert_eq!(defect.equation, "emitted = aggregated + lost");
    }

    #[test]
    fn finds_a_gap_that_the_sampler_did_not_count() {
        let mut ledger = balanced();
        ledger.gaps += 1;
        ledger.received -= 1;
        let defect = ledger.check().expect_err("the reader and the sampler disagree");
        assert_eq!(defect.equation, "gaps = lost(ring full)");
    }
}
