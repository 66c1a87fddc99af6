//! Sums over all windows, for counters.

use profile::{CaptureLedger, Loss, NotSampled, StackEnd, TickOutcome, Window};

/// The sum of the capture ledgers of all closed windows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerTotals {
    /// Ticks that the configured frequency calls for.
    pub due: u64,
    /// Ticks that a clock was set to take and that never came.
    pub missed: u64,
    /// Due ticks that no clock was set to take, indexed by [`NotSampled`].
    pub not_sampled: [u64; NotSampled::COUNT],
    /// Ticks by outcome, indexed by [`TickOutcome`].
    pub outcomes: [u64; TickOutcome::COUNT],
    /// Samples in windows.
    pub samples: u64,
    /// Samples that are in no window, indexed by [`Loss`].
    pub lost: [u64; Loss::COUNT],
    /// Kernel stacks by their end, indexed by [`StackEnd`].
    pub kernel_ends: [u64; StackEnd::COUNT],
    /// User stacks by their end, indexed by [`StackEnd`].
    pub user_ends: [u64; StackEnd::COUNT],
    /// Samples with a guessed user frame.
    pub guessed: u64,
    /// Frames of all samples, see [`frames`].
    pub frames: u64,
}

impl LedgerTotals {
    /// Adds a closed window. `frames`: the frames of its samples, as [`frames()`] counts them.
    pub fn add(&mut self, ledger: &CaptureLedger, frames: u64) {
        self.due += ledger.due();
        self.missed += ledger.missed();
        self.samples += ledger.aggregated;
        self.guessed += ledger.guessed;
        self.frames += frames;
        for (sum, reason) in self.not_sampled.iter_mut().zip(NotSampled::ALL) {
            *sum += ledger.not_sampled(*reason);
        }
        add(&mut self.outcomes, &ledger.outcomes);
        add(&mut self.lost, &ledger.lost);
        add(&mut self.kernel_ends, &ledger.kernel_ends);
        add(&mut self.user_ends, &ledger.user_ends);
    }
}

fn add(sums: &mut [u64], counts: &[u64]) {
    sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
}

/// Counts the frames of all samples of a window, each as often as it was sampled.
pub fn frames(window: &Window) -> u64 {
    let lengths: Vec<u64> = window.stacks().map(|stack| stack.len() as u64).collect();
    let length = |stack: u32| lengths.get(stack as usize).copied().unwrap_or(0);
    window.samples().map(|(key, count)| count * length(key.stack.0)).sum()
}

#[cfg(test)]
mod tests {
    use profile::{Cpu, CpuTicks, ExecutableId, FileAddr, Frame, Pid, Task, Tid};

    use super::*;

    /// Returns a ledger that closes, with `n` CPUs that missed a tick each.
    fn ledger(n: u32) -> CaptureLedger {
        let count = u64::from(n);
        let mut cpus: Vec<_> = (0..n).map(|cpu| CpuTicks::at_full_rate(Cpu(cpu), 20, 19)).collect();
        cpus[0].add_not_sampled(NotSampled::NoClock, 5);
        let mut ledger = CaptureLedger {
            cpus,
            received: 10 * count,
            gaps: 2 * count,
            aggregated: 9 * count,
            guessed: count,
            ..CaptureLedger::default()
        };
        ledger.outcomes[TickOutcome::Delivered as usize] = 10 * count;
        ledger.outcomes[TickOutcome::LostRingFull as usize] = 2 * count;
        ledger.outcomes[TickOutcome::SkippedIdle as usize] = 7 * count;
        ledger.lost[Loss::RingFull as usize] = 2 * count;
        ledger.lost[Loss::WindowFull as usize] = count;
        ledger.user_ends[StackEnd::Complete as usize] = 9 * count;
        ledger.kernel_ends[StackEnd::Absent as usize] = 9 * count;
        ledger.check().expect("closes");
        ledger
    }

    #[test]
    fn sums_satisfy_the_ledger_equations() {
        let mut totals = LedgerTotals::default();
        (1..5).for_each(|n| totals.add(&ledger(n), 100));
        let (ticks, lost) = (totals.outcomes.iter().sum::<u64>(), totals.lost.iter().sum::<u64>());
        let skipped = totals.outcomes[TickOutcome::SkippedIdle as usize];
        let not_sampled: u64 = totals.not_sampled.iter().sum();
        assert_eq!(totals.due, ticks + totals.missed + not_sampled);
        assert_eq!(ticks - skipped, totals.samples + lost);
        assert_eq!(totals.user_ends.iter().sum::<u64>(), totals.samples);
        assert_eq!(totals.kernel_ends.iter().sum::<u64>(), totals.samples);
        assert_eq!((totals.due, totals.missed, totals.samples), (220, 10, 90));
        assert_eq!(totals.not_sampled[NotSampled::NoClock as usize], 20);
        assert_eq!((totals.guessed, totals.frames), (10, 400));
    }

    #[test]
    fn each_sample_counts_all_its_frames() {
        let mut window = Window::new(1 << 20);
        let task = Task {
            pid: Pid(1),
            tid: Tid(1),
            comm: "p".into(),
            thread: "t".into(),
            cgroup_id: 1,
            labels: Default::default(),
        };
        let frame = |address| Frame::new(ExecutableId(1), FileAddr(address));
        let ends = (StackEnd::Absent, StackEnd::Complete);
        for stack in
            [&[frame(1), frame(2), frame(3)][..], &[frame(1), frame(2), frame(3)], &[frame(1)], &[]]
        {
            window.add(task.clone(), stack, ends, false).expect("room");
        }
        assert_eq!(frames(&window), 7);
    }
}
