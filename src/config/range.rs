//! Ranges of time on the command line: `FROM..TO`, as in `11:18..11:19` or `-12m30s..`.

use std::time::SystemTime;

use jiff::civil::{self, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use thiserror::Error;
use upload::config::units::parse_duration;

/// The syntax, for error messages.
const USAGE: &str =
    "give FROM..TO, as in -5m..now, 11:18..11:19 or 2026-11-25T10:00:00Z..2026-11-25T10:05:00Z";

/// A range of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    /// Start, in nanoseconds since 1970.
    pub from_unix_ns: u64,
    /// End, exclusive, in nanoseconds since 1970.
    pub to_unix_ns: u64,
}

/// Why a text is not a range of time.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RangeError {
    /// Not two times.
    #[error("{USAGE}")]
    NoRange,
    /// Start or end is not a time.
    #[error("{text:?} is not a time; {USAGE}")]
    NoTime {
        /// The text.
        text: String,
    },
    /// Not a duration.
    #[error("{text:?} is not a duration; {advice}")]
    NoDuration {
        /// The text.
        text: String,
        /// What to give instead.
        advice: String,
    },
    /// Before 1970 or after 2262.
    #[error("{text:?} is out of range; {USAGE}")]
    OutOfRange {
        /// The text.
        text: String,
    },
    /// The end is not after the start.
    #[error("the end is not after the start; {USAGE}")]
    Empty,
}

impl TimeRange {
    /// Parses a range. Relative times are relative to `now`; times without an offset from UTC are
    /// those of `zone`. A time of day is the last one before `now` as a start, and the first one
    /// after the start as an end. Without an end the range ends now.
    ///
    /// # Errors
    /// [`RangeError`] with what to give instead.
    pub fn parse(text: &str, now: SystemTime, zone: &TimeZone) -> Result<Self, RangeError> {
        let (from, to) = text.split_once("..").ok_or(RangeError::NoRange)?;
        let (from, to) = (from.trim(), to.trim());
        let out_of_range = || RangeError::OutOfRange { text: text.to_owned() };
        let now = Timestamp::try_from(now).map_err(|_| out_of_range())?;
        let start = match parse_time(from, now, zone)? {
            Time::At(at) => at,
            Time::OfDay(time) => {
                occurrence(now, zone, time, |at| at <= now, [0, -1, -2]).ok_or_else(out_of_range)?
            }
        };
        let end = match parse_time(if to.is_empty() { "now" } else { to }, now, zone)? {
            Time::At(at) => at,
            Time::OfDay(time) => occurrence(start, zone, time, |at| at > start, [0, 1, 2])
                .ok_or_else(out_of_range)?,
        };
        if start >= end {
            return Err(RangeError::Empty);
        }
        let unix_ns = |at: Timestamp, text: &str| {
            let error = || RangeError::OutOfRange { text: text.to_owned() };
            u64::try_from(at.as_nanosecond()).map_err(|_| error())
        };
        Ok(Self { from_unix_ns: unix_ns(start, from)?, to_unix_ns: unix_ns(end, to)? })
    }

    /// Whether a window that starts at `start_unix_ns` overlaps the range. A window without a
    /// duration counts as one nanosecond.
    pub fn overlaps(self, start_unix_ns: u64, duration_ns: u64) -> bool {
        let end = start_unix_ns.saturating_add(duration_ns.max(1));
        start_unix_ns < self.to_unix_ns && self.from_unix_ns < end
    }
}

/// One end of a range.
enum Time {
    At(Timestamp),
    OfDay(civil::Time),
}

fn parse_time(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Time, RangeError> {
    let out_of_range = || RangeError::OutOfRange { text: text.to_owned() };
    if text == "now" {
        return Ok(Time::At(now));
    }
    if let Some(back) = text.strip_prefix("now-").or_else(|| text.strip_prefix('-')) {
        let back = parse_duration(back)
            .map_err(|advice| RangeError::NoDuration { text: text.to_owned(), advice })?;
        let back = SignedDuration::try_from(back).map_err(|_| out_of_range())?;
        return now.checked_sub(back).map(Time::At).map_err(|_| out_of_range());
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(Time::At(at));
    }
    if let (true, Ok(date_time)) = (text.contains('-'), text.parse::<DateTime>()) {
        let at = zone.to_timestamp(date_time).map_err(|_| out_of_range())?;
        return Ok(Time::At(at));
    }
    match text.parse::<civil::Time>() {
        Ok(time) if text.contains(':') => Ok(Time::OfDay(time)),
        _ => Err(RangeError::NoTime { text: text.to_owned() }),
    }
}

/// Returns the first time of day of these days that matches. `days`: relative to that of `near`.
fn occurrence(
    near: Timestamp,
    zone: &TimeZone,
    time: civil::Time,
    matches: impl Fn(Timestamp) -> bool,
    days: [i64; 3],
) -> Option<Timestamp> {
    let day = zone.to_datetime(near).date();
    days.into_iter().find_map(|days| {
        let date = day.checked_add(days.days()).ok()?;
        let at = zone.to_timestamp(date.to_datetime(time)).ok()?;
        matches(at).then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    /// 2026-11-25T10:00:00Z
    const NOW: u64 = 1_795_600_800;

    fn parse_in(zone: &TimeZone, text: &str) -> Result<(u64, u64), String> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        let range = TimeRange::parse(text, now, zone).map_err(|error| error.to_string())?;
        Ok((range.from_unix_ns, range.to_unix_ns))
    }

    fn parse(text: &str) -> Result<(u64, u64), String> {
        parse_in(&TimeZone::UTC, text)
    }

    #[test]
    fn parses_relative_times_and_rfc_3339() {
        let check = |text: &str, from: u64, to: u64| {
            assert_eq!(parse(text), Ok((from * SECOND, to * SECOND)), "{text}");
        };
        check("-5m..now", NOW - 300, NOW);
        check("now-1d..-1h", NOW - 86_400, NOW - 3600);
        check("-12m30s..", NOW - 750, NOW);
        check("-90..-0.5m", NOW - 90, NOW - 30);
        check("2026-11-25T10:00:00Z..2026-11-25T10:05:00Z", NOW, NOW + 300);
        check("2026-11-25T12:00:00+02:00 .. 2026-11-25T05:05:00-05:00", NOW, NOW + 300);
        check("1970-01-01T00:00:00Z..2000-02-29T00:00:00Z", 0, 951_782_400);
        check("2024-12-31T23:59:59Z..2025-01-01T00:00:00Z", 1_735_689_599, 1_735_689_600);
        assert_eq!(
            parse("2026-11-25T09:59:59.5Z..now"),
            Ok((NOW * SECOND - SECOND / 2, NOW * SECOND))
        );
    }

    #[test]
    fn times_of_day_are_the_last_before_now() {
        let check = |zone: &TimeZone, text: &str, from: i64, to: i64| {
            let at = |seconds: i64| (NOW as i64 + seconds) as u64 * SECOND;
            assert_eq!(parse_in(zone, text), Ok((at(from), at(to))), "{text}");
        };
        let utc = &TimeZone::UTC; // it is 10:00:00 there
        check(utc, "09:18..09:19", -2520, -2460);
        check(utc, "09:18:30..", -2490, 0);
        check(utc, "10:00..10:01", 0, 60);
        check(utc, "10:01..10:02", 60 - 86_400, 120 - 86_400);
        check(utc, "23:50..00:10", -36_600, -35_400);
        check(utc, "-1h..09:30", -3600, -1800);
        check(utc, "2026-11-25..", -36_000, 0);
        check(utc, "2026-11-25 09:00..2026-11-25T09:30:00", -3600, -1800);
        let east = &TimeZone::fixed(jiff::tz::offset(2)); // it is 12:00:00 there
        check(east, "11:18..11:19", -2520, -2460);
        check(east, "2026-11-25T11:00..now", -3600, 0);
        check(east, "2026-11-25T09:00:00Z..now", -3600, 0);
    }

    #[test]
    fn times_that_the_clock_skips_are_moved_beyond_the_gap() {
        let Ok(berlin) = TimeZone::get("Europe/Berlin") else { return };
        let (from, to) = parse_in(&berlin, "2026-03-29T02:30..2026-03-29T04:30").expect("a range");
        assert_eq!(to - from, 3600 * SECOND, "02:30 does not exist: it is 03:30");
    }

    #[test]
    fn errors_say_what_to_give_instead() {
        let check = |text: &str, expected: &str| {
            let error = parse(text).err().unwrap_or_default();
            assert!(error.starts_with(expected), "{text}: {error}");
        };
        check("-5m", "give FROM..TO, as in -5m..now, 11:18..11:19 or 2026-11-25T10:00:00Z");
        check("..now", "\"\" is not a time; give FROM..TO");
        check("yesterday..now", "\"yesterday\" is not a time; give FROM..TO");
        check("-5x..now", "\"-5x\" is not a duration; give a number and one of the units");
        check("11..now", "\"11\" is not a time");
        check("25:00..now", "\"25:00\" is not a time");
        check("2026-02-30T10:00:00Z..now", "\"2026-02-30T10:00:00Z\" is not a time");
        check("1969-12-31T23:59:59Z..now", "\"1969-12-31T23:59:59Z\" is out of range");
        check("-99999999d..now", "\"-99999999d\" is out of range");
        check("now..-5m", "the end is not after the start");
        check("now..now", "the end is not after the start");
    }

    #[test]
    fn overlap_excludes_the_end() {
        let range = TimeRange { from_unix_ns: 10, to_unix_ns: 20 };
        let overlaps = |start, duration| range.overlaps(start, duration);
        assert!(overlaps(5, 6) && overlaps(19, 5) && overlaps(0, 99) && overlaps(10, 0));
        assert!(!overlaps(5, 5) && !overlaps(20, 5) && !overlaps(20, 0));
    }
}
