//! The samples that a recording lost: one line that is always printed, and an exit status.

use profile::{CaptureLedger, Loss, NotSampled, pluralize, thousands};

/// Exit status of a recording that lost more than [`SHARE_MAX`] of its samples.
pub(super) const STATUS: u8 = 3;
/// Share of the samples that may be lost in a recording that counts as whole.
const SHARE_MAX: f64 = 0.01;

/// What a recording lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordingLoss<'a>(&'a CaptureLedger);

impl<'a> RecordingLoss<'a> {
    pub fn of(ledger: &'a CaptureLedger) -> Self {
        Self(ledger)
    }

    /// Returns the samples that are not in the recording, with ticks that CPUs without a clock
    /// would have taken, and how many there would have been.
    fn share(self) -> (u64, u64) {
        let without_clock = self.0.not_sampled(NotSampled::NoClock);
        (self.0.lost_total() + without_clock, self.0.emitted() + without_clock)
    }

    /// Returns whether the recording lost so much that its figures mislead.
    pub fn is_excessive(self) -> bool {
        let (lost, all) = self.share();
        lost as f64 > all as f64 * SHARE_MAX
    }

    /// Describes the loss with its reasons and the next step; `None` if there is none.
    pub fn describe(self) -> Option<String> {
        let (lost, all) = self.share();
        if lost == 0 {
            return None;
        }
        let no_clock = NotSampled::NoClock;
        let reasons = Loss::ALL.iter().map(|loss| (loss.text(), self.0.lost(*loss)));
        let reasons = reasons.chain([(no_clock.text(), self.0.not_sampled(no_clock))]);
        let texts: Vec<String> = reasons
            .filter(|(_, count)| *count > 0)
            .map(|(reason, count)| format!("{reason}: {}", thousands(count)))
            .collect();
        let step = match self.0.lost(Loss::RingFull) {
            0 => "",
            _ => "; use a larger --ring-size or a lower frequency",
        };
        Some(format!(
            "{} of {} lost, {:.1} % ({}){step}",
            thousands(lost),
            pluralize(all, "sample", "samples"),
            100.0 * lost as f64 / all.max(1) as f64,
            texts.join(", "),
        ))
    }
}

#[cfg(test)]
mod tests {
    use profile::{Cpu, CpuTicks, TickOutcome};

    use super::*;

    fn ledger(delivered: u64, ring_full: u64, no_clock: u64) -> CaptureLedger {
        let mut cpu = CpuTicks::at_full_rate(Cpu(0), delivered, delivered);
        cpu.add_not_sampled(NotSampled::NoClock, no_clock);
        let mut ledger = CaptureLedger { cpus: vec![cpu], ..CaptureLedger::default() };
        ledger.outcomes[TickOutcome::Delivered as usize] = delivered;
        ledger.outcomes[TickOutcome::LostRingFull as usize] = ring_full;
        ledger.lost[Loss::RingFull as usize] = ring_full;
        ledger
    }

    #[test]
    fn loss_has_reasons_and_a_next_step() {
        assert_eq!(RecordingLoss::of(&ledger(100, 0, 0)).describe(), None);
        let lossy = ledger(28_168, 12_675, 157);
        let expected = "12,832 of 41,000 samples lost, 31.3 % (ring full: 12,675, no clock: 157); \
                        use a larger --ring-size or a lower frequency";
        assert_eq!(RecordingLoss::of(&lossy).describe().as_deref(), Some(expected));
    }

    #[test]
    fn more_than_a_hundredth_is_excessive() {
        for (delivered, ring_full, no_clock, expected) in
            [(990, 10, 0, false), (989, 11, 0, true), (980, 0, 20, true), (0, 0, 0, false)]
        {
            let ledger = ledger(delivered, ring_full, no_clock);
            assert_eq!(RecordingLoss::of(&ledger).is_excessive(), expected, "{ledger}");
        }
    }
}
