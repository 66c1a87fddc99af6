//! What an export says about time that its profile does not cover: ticks that were due and not
//! sampled, and gaps between windows.

use profile::pprof::proto as pb;
use profile::{CaptureLedger, Date, NotSampled, thousands};

/// Time between two windows that counts as a gap. Windows follow each other within milliseconds.
const GAP_MIN_NS: u64 = 2 * SECOND_NS;
/// Time between an end of the range and a window that counts as a gap, unless windows are longer:
/// the window that is open now is not in the store yet.
const GAP_AT_ENDS_MIN_NS: u64 = 30 * SECOND_NS;
/// Gaps that are listed; the rest is counted.
const GAPS_LISTED_MAX: usize = 5;
const SECOND_NS: u64 = 1_000_000_000;

/// Start and duration of a window, in nanoseconds; the start since 1970.
pub(super) type Span = (u64, u64);

/// Describes the ticks that were not sampled, by reason; `None` if there were none. `message`: the
/// sum of all windows.
pub(super) fn describe_ticks(message: &pb::Profile) -> Option<String> {
    let ledger = ledger_of(message)?;
    let not_sampled = ledger.not_sampled_total();
    if not_sampled == 0 {
        return None;
    }
    let part = not_sampled as f64 / ledger.due().max(1) as f64;
    let seconds = message.duration_nanos.max(0) as f64 / SECOND_NS as f64;
    let reasons = NotSampled::ALL.iter().filter_map(|reason| {
        let ticks = ledger.not_sampled(*reason);
        (ticks > 0).then(|| format!("{} {}", reason.text(), thousands(ticks)))
    });
    let reasons: Vec<String> = reasons.collect();
    Some(format!(
        "{} of {} due ticks were not sampled, {:.0} of {seconds:.0} s ({})",
        thousands(not_sampled),
        thousands(ledger.due()),
        part * seconds,
        reasons.join(", "),
    ))
}

/// Describes the time of a range that no window covers, one line for each gap. `windows`: sorted by
/// start.
pub(super) fn describe_gaps(windows: &[Span], from_unix_ns: u64, to_unix_ns: u64) -> Vec<String> {
    let longest = windows.iter().map(|(_, duration)| *duration).max().unwrap_or(0);
    let at_ends = GAP_AT_ENDS_MIN_NS.max(longest.saturating_mul(2));
    let mut gaps: Vec<Span> = Vec::new();
    let mut covered = from_unix_ns;
    for (start, duration) in windows {
        let min = if covered == from_unix_ns { at_ends } else { GAP_MIN_NS };
        add_gap(&mut gaps, covered, *start, min);
        covered = covered.max(start.saturating_add(*duration));
    }
    add_gap(&mut gaps, covered, to_unix_ns, at_ends);
    let mut lines: Vec<String> = gaps.iter().take(GAPS_LISTED_MAX).map(describe_gap).collect();
    let rest = gaps.get(GAPS_LISTED_MAX..).unwrap_or_default();
    if !rest.is_empty() {
        let seconds: u64 = rest.iter().map(|(_, duration)| duration / SECOND_NS).sum();
        let (gaps, seconds) = (thousands(rest.len() as u64), thousands(seconds));
        lines.push(format!("no profiles in {gaps} more gaps ({seconds} s in all)"));
    }
    lines
}

fn add_gap(gaps: &mut Vec<Span>, from: u64, to: u64, min_ns: u64) {
    let gap = to.saturating_sub(from);
    if gap >= min_ns {
        gaps.push((from, gap));
    }
}

fn describe_gap((start, duration): &Span) -> String {
    let (from, to) = (utc(*start), utc(start + duration));
    format!("no profiles between {from} and {to} ({} s)", thousands(duration / SECOND_NS))
}

/// Formats a time as `2026-11-25T01:44:00Z`.
fn utc(unix_ns: u64) -> String {
    let seconds = unix_ns / SECOND_NS;
    let Date { year, month, day } = Date::from_days_since_1970((seconds / 86_400) as i64);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

fn ledger_of(message: &pb::Profile) -> Option<CaptureLedger> {
    let text = |index: &i64| message.string_table.get(*index as usize).map(String::as_str);
    let comments: Vec<&str> = message.comment.iter().filter_map(text).collect();
    let ledgers = comments.windows(CaptureLedger::TEXT_LINES);
    ledgers.filter_map(|lines| CaptureLedger::parse(lines.try_into().ok()?)).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(windows: &[(u64, u64)], from: u64, to: u64) -> Vec<String> {
        let windows: Vec<Span> =
            windows.iter().map(|(start, s)| (start * SECOND_NS, s * SECOND_NS)).collect();
        describe_gaps(&windows, from * SECOND_NS, to * SECOND_NS)
    }

    #[test]
    fn windows_that_follow_each_other_leave_no_gap() {
        assert_eq!(gaps(&[(100, 10), (110, 10), (121, 10)], 80, 150), [""; 0]);
    }

    #[test]
    fn gaps_between_windows_and_at_the_ends_are_described() {
        assert_eq!(
            gaps(&[(100, 10), (115, 10), (86_400, 10)], 0, 86_440),
            [
                "no profiles between 1970-01-01T00:00:00Z and 1970-01-01T00:01:40Z (100 s)",
                "no profiles between 1970-01-01T00:01:50Z and 1970-01-01T00:01:55Z (5 s)",
                "no profiles between 1970-01-01T00:02:05Z and 1970-01-02T00:00:00Z (86,275 s)",
                "no profiles between 1970-01-02T00:00:10Z and 1970-01-02T00:00:40Z (30 s)",
            ]
        );
    }

    #[test]
    fn overlapping_windows_leave_no_gap() {
        assert_eq!(gaps(&[(0, 100), (10, 10), (99, 10)], 0, 110), [""; 0]);
    }

    #[test]
    fn many_gaps_are_counted() {
        let windows: Vec<(u64, u64)> = (0..20).map(|number| (number * 10, 5)).collect();
        let lines = gaps(&windows, 0, 200);
        assert_eq!(lines.len(), GAPS_LISTED_MAX + 1);
        assert_eq!(lines[GAPS_LISTED_MAX], "no profiles in 14 more gaps (70 s in all)");
    }
}
