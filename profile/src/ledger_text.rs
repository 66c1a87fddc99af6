//! Sums of ledgers, and ledgers parsed from their text: the ledger of merged profiles.

use crate::ledger::{DUE, DUE_OF_TASKS};
use crate::{CaptureLedger, ClockScope, Cpu, CpuTicks, Loss, NotSampled, TickOutcome};

/// Largest number parsed from a text. Real counts are smaller, and sums of these do not overflow.
const COUNT_MAX: u64 = 1 << 48;
/// Limit at which sums saturate.
const SUM_MAX: u64 = 1 << 58;

impl CaptureLedger {
    /// Number of lines of a ledger's text.
    pub const TEXT_LINES: usize = 3;

    /// Parses the text of a ledger; `None` if it is none or does not add up. The ticks of all CPUs
    /// are those of one, and the ends of stacks are not in the text. Older versions wrote no
    /// `+ not sampled`.
    pub fn parse(lines: [&str; Self::TEXT_LINES]) -> Option<Self> {
        let [due, ticks, emitted] = lines;
        let (due, not_sampled) = due.split_once(" + not sampled ").unwrap_or((due, "0"));
        let not_sampled = count_by_reason(not_sampled)?;
        let clocks =
            if due.starts_with(DUE_OF_TASKS) { ClockScope::Tasks } else { ClockScope::Cpus };
        let begin = if clocks == ClockScope::Tasks { DUE_OF_TASKS } else { DUE };
        let (due, ticks_happened, missed) = equation(due, [begin, " = ticks ", " + missed "])?;
        let (ticks, emitted_here, skipped) =
            equation(ticks, ["ticks ", " = emitted ", " + skipped "])?;
        let (emitted, aggregated, lost) =
            equation(emitted, ["emitted ", " = aggregated ", " + lost "])?;
        let mut cpu = CpuTicks::at_full_rate(Cpu(0), due, ticks);
        for (reason, count) in &not_sampled.reasons {
            let known = NotSampled::ALL.iter().find(|known| known.text() == *reason)?;
            cpu.not_sampled[*known as usize] = *count;
        }
        let mut ledger = Self { clocks, cpus: vec![cpu], aggregated, ..Self::default() };
        for (reason, count) in &lost.reasons {
            let loss = Loss::ALL.iter().find(|loss| loss.text() == *reason)?;
            ledger.lost[*loss as usize] = *count;
        }
        for (reason, count) in &skipped.reasons {
            let outcome =
                TickOutcome::ALL.iter().find(|o| o.is_skipped() && o.text() == *reason)?;
            ledger.outcomes[*outcome as usize] = *count;
        }
        let full = ledger.lost(Loss::RingFull);
        ledger.outcomes[TickOutcome::LostRingFull as usize] = full;
        ledger.outcomes[TickOutcome::Delivered as usize] = emitted.checked_sub(full)?;
        (ledger.received, ledger.gaps) = (emitted.checked_sub(full)?, full);

        let is_consistent = missed.reasons.is_empty()
            && (ticks_happened, emitted_here) == (ticks, emitted)
            && due == ticks + missed.count + not_sampled.count
            && ledger.not_sampled_total() == not_sampled.count
            && ticks == emitted + skipped.count
            && emitted == aggregated + lost.count
            && (ledger.skipped(), ledger.lost_total()) == (skipped.count, lost.count);
        is_consistent.then_some(ledger)
    }

    /// Adds the counts of another ledger, CPU by CPU.
    pub fn add(&mut self, other: &Self) {
        if other.clocks == ClockScope::Tasks {
            self.clocks = ClockScope::Tasks; // a part of what is due depends on tasks
        }
        for theirs in &other.cpus {
            match self.cpus.iter_mut().find(|ours| ours.cpu == theirs.cpu) {
                Some(ours) => {
                    add(&mut ours.due, theirs.due);
                    add(&mut ours.ticks, theirs.ticks);
                    add_all(&mut ours.not_sampled, &theirs.not_sampled);
                }
                None => self.cpus.push(*theirs),
            }
        }
        add_all(&mut self.outcomes, &other.outcomes);
        add_all(&mut self.lost, &other.lost);
        add_all(&mut self.kernel_ends, &other.kernel_ends);
        add_all(&mut self.user_ends, &other.user_ends);
        add(&mut self.received, other.received);
        add(&mut self.gaps, other.gaps);
        add(&mut self.aggregated, other.aggregated);
        add(&mut self.guessed, other.guessed);
    }
}

fn add(sum: &mut u64, count: u64) {
    *sum = sum.saturating_add(count).min(SUM_MAX);
}

fn add_all(sums: &mut [u64], counts: &[u64]) {
    sums.iter_mut().zip(counts).for_each(|(sum, count)| add(sum, *count));
}

/// The last term of an equation: `7 (idle: 5, other cgroup: 2)`.
struct CountByReason<'a> {
    count: u64,
    reasons: Vec<(&'a str, u64)>,
}

/// Parses an equation with these words before its three terms.
fn equation<'a>(
    line: &'a str,
    [first, second, third]: [&str; 3],
) -> Option<(u64, u64, CountByReason<'a>)> {
    let (left, rest) = line.strip_prefix(first)?.split_once(second)?;
    let (middle, right) = rest.split_once(third)?;
    Some((number(left)?, number(middle)?, count_by_reason(right)?))
}

fn count_by_reason(text: &str) -> Option<CountByReason<'_>> {
    let Some((count, reasons)) = text.split_once(" (") else {
        return Some(CountByReason { count: number(text)?, reasons: Vec::new() });
    };
    let reasons = reasons.strip_suffix(')')?.split(", ").map(reason);
    Some(CountByReason { count: number(count)?, reasons: reasons.collect::<Option<_>>()? })
}

fn reason(text: &str) -> Option<(&str, u64)> {
    let (reason, count) = text.rsplit_once(": ")?;
    Some((reason, number(count)?))
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|count| *count <= COUNT_MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::StackEnd;

    prop_compose! {
        /// A ledger whose equations hold.
        fn ledgers()(
            skipped in prop::collection::vec(0..1000u64, TickOutcome::COUNT),
            lost in prop::collection::vec(0..1000u64, Loss::COUNT),
            aggregated in 0..100_000u64,
            missed in 0..1000u64,
            not_sampled in prop::collection::vec(0..1000u64, NotSampled::COUNT),
            clocks in prop::sample::select(vec![ClockScope::Cpus, ClockScope::Tasks]),
        ) -> CaptureLedger {
            let mut ledger = CaptureLedger { clocks, aggregated, ..CaptureLedger::default() };
            ledger.lost.copy_from_slice(&lost);
            for outcome in TickOutcome::ALL.iter().filter(|o| o.is_skipped()) {
                ledger.outcomes[*outcome as usize] = skipped[*outcome as usize];
            }
            let emitted = aggregated + ledger.lost_total();
            let full = ledger.lost(Loss::RingFull);
            ledger.outcomes[TickOutcome::LostRingFull as usize] = full;
            ledger.outcomes[TickOutcome::Delivered as usize] = emitted - full;
            (ledger.received, ledger.gaps) = (emitted - full, full);
            ledger.user_ends[StackEnd::Complete as usize] = aggregated;
            ledger.kernel_ends[StackEnd::Absent as usize] = aggregated;
            let ticks = emitted + ledger.skipped();
            let mut cpu = CpuTicks::at_full_rate(Cpu(0), ticks + missed, ticks);
            for (reason, count) in NotSampled::ALL.iter().zip(not_sampled) {
                cpu.add_not_sampled(*reason, count);
            }
            ledger.cpus = vec![cpu];
            ledger
        }
    }

    fn parse(text: &str) -> Option<CaptureLedger> {
        CaptureLedger::parse(text.lines().collect::<Vec<_>>().try_into().ok()?)
    }

    proptest! {
        #[test]
        fn parses_what_it_displays(ledger in ledgers()) {
            let text = ledger.to_string();
            let parsed = parse(&text).expect("the text of a ledger");
            prop_assert_eq!(parsed.to_string(), text);
            let (user_ends, kernel_ends) = (ledger.user_ends, ledger.kernel_ends);
            prop_assert_eq!(CaptureLedger { user_ends, kernel_ends, ..parsed }, ledger);
        }

        #[test]
        fn sum_of_ledgers_closes(ledgers in prop::collection::vec(ledgers(), 1..5)) {
            let mut sum = CaptureLedger::default();
            ledgers.iter().for_each(|ledger| sum.add(ledger));
            sum.check().expect("each of them closes");
            prop_assert_eq!(sum.due(), ledgers.iter().map(CaptureLedger::due).sum::<u64>());
            prop_assert_eq!(sum.missed(), ledgers.iter().map(CaptureLedger::missed).sum::<u64>());
        }

        #[test]
        fn any_text_is_parsed_without_a_panic(
            lines in prop::array::uniform3("[a-z0-9 =+(),:]{0,60}"),
        ) {
            CaptureLedger::parse([&lines[0], &lines[1], &lines[2]]);
        }
    }

    #[test]
    fn parses_the_text_of_older_versions() {
        let text = "due 10 = ticks 9 + missed 1\nticks 9 = emitted 7 + skipped 2 (idle: 2)\n\
                    emitted 7 = aggregated 7 + lost 0";
        let ledger = parse(text).expect("the text of a ledger");
        assert_eq!((ledger.due(), ledger.missed(), ledger.not_sampled_total()), (10, 1, 0));
    }

    #[test]
    fn rejects_text_that_does_not_add_up() {
        let good = "due 15 = ticks 9 + missed 1 + not sampled 5 (budget: 5)\n\
                    ticks 9 = emitted 7 + skipped 2 (idle: 2)\n\
                    emitted 7 = aggregated 4 + lost 3 (ring full: 2, window full: 1)";
        assert!(parse(good).is_some());
        for (from, to) in [
            ("not sampled 5", "not sampled 4"),
            (" (budget: 5)", ""),
            ("budget", "purse"),
            ("missed 1", "missed 2"),
            ("ticks 9 =", "ticks 8 ="),
            ("idle: 2", "idle: 1"),
            ("idle", "idleness"),
            ("(ring full: 2, window full: 1)", ""),
            ("aggregated 4", "aggregated 18446744073709551615"),
            ("due 15", "due -15"),
        ] {
            assert_eq!(parse(&good.replacen(from, to, 1)), None, "{to}");
        }
    }
}
