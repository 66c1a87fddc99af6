//! What a recording lost, samples and ticks: one line that is always printed, and an exit status.

use profile::{CaptureLedger, Loss, NotSampled, pluralize, thousands};

/// Exit status of a recording that lost more than [`SHARE_MAX`] of its samples or ticks.
pub(super) const STATUS: u8 = 3;
/// Share that may be lost in a recording that counts as whole.
const SHARE_MAX: f64 = 0.01;

/// What a recording lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordingLoss<'a>(&'a CaptureLedger);

impl<'a> RecordingLoss<'a> {
    pub fn of(ledger: &'a CaptureLedger) -> Self {
        Self(ledger)
    }

    /// Returns the samples that are not in the recording, and how many there were.
    fn samples(self) -> (u64, u64) {
        (self.0.lost_total(), self.0.emitted())
    }

    /// Returns the ticks that CPUs without a clock would have taken, and all that were due.
    fn ticks(self) -> (u64, u64) {
        (self.0.not_sampled(NotSampled::NoClock), self.0.due())
    }

    /// Returns whether the recording lost so much that its figures mislead.
    pub fn is_excessive(self) -> bool {
        [self.samples(), self.ticks()].iter().any(|(lost, all)| share(*lost, *all) > SHARE_MAX)
    }

    /// Describes the loss with its reasons and the next step; `None` if there is none.
    pub fn describe(self) -> Option<String> {
        let parts: Vec<String> =
            [self.lost_samples(), self.lost_ticks()].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    fn lost_samples(self) -> Option<String> {
        let (lost, all) = self.samples();
        let counts = Loss::ALL.iter().map(|loss| (loss.text(), self.0.lost(*loss)));
        let reasons: Vec<String> = counts
            .filter(|(_, count)| *count > 0)
            .map(|(reason, count)| format!("{reason}: {}", thousands(count)))
            .collect();
        let step = match self.0.lost(Loss::RingFull) {
            0 => "",
            _ => "; use a larger --ring-size or a lower frequency",
        };
        (lost > 0).then(|| {
            let (percent, reasons) = (100.0 * share(lost, all), reasons.join(", "));
            let all = pluralize(all, "sample", "samples");
            format!("{} of {all} lost, {percent:.1} % ({reasons}){step}", thousands(lost))
        })
    }

    fn lost_ticks(self) -> Option<String> {
        let (lost, all) = self.ticks();
        (lost > 0).then(|| {
            let (percent, all) = (100.0 * share(lost, all), pluralize(all, "tick", "ticks"));
            let lost = thousands(lost);
            format!("{lost} of {all} due not sampled, {percent:.1} %: online CPUs without a clock")
        })
    }
}

fn share(part: u64, all: u64) -> f64 {
    part as f64 / all.max(1) as f64
}

#[cfg(test)]
mod tests {
    use profile::{Cpu, CpuTicks, TickOutcome};

    use super::*;

    fn ledger(delivered: u64, ring_full: u64, no_clock: u64) -> CaptureLedger {
        let mut cpu = CpuTicks::at_full_rate(Cpu(0), delivered + ring_full, delivered + ring_full);
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
        let ring_full = "12,675 of 40,843 samples lost, 31.0 % (ring full: 12,675); use a larger \
                         --ring-size or a lower frequency";
        let no_clock = "157 of 40,000 ticks due not sampled, 0.4 %: online CPUs without a clock";
        let check = |ledger, expected: &str| {
            assert_eq!(RecordingLoss::of(&ledger).describe().as_deref(), Some(expected));
        };
        check(ledger(28_168, 12_675, 0), ring_full);
        check(ledger(39_843, 0, 157), no_clock);
        let both = ledger(28_168, 12_675, 157);
        let text = RecordingLoss::of(&both).describe().unwrap_or_default();
        assert!(text.starts_with(&format!("{ring_full}; 157 of 41,000 ticks")), "{text}");
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
