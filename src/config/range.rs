//! Ranges of time on the command line: `FROM..TO`, each a time of RFC 3339, `now`, or `-5m`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use profile::Date;
use thiserror::Error;
use toml::value::{Datetime, Offset, Time};
use upload::config::units::parse_duration;

/// The syntax, for error messages.
const USAGE: &str = "give FROM..TO, as in -5m..now or 2026-11-25T10:00:00Z..2026-11-25T10:05:00Z";

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
    /// A date and time without a time zone.
    #[error("{text:?} has no offset from UTC; add one, as in {text}Z or {text}+02:00")]
    NoOffset {
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
    /// Parses a range. Relative times are relative to `now`.
    ///
    /// # Errors
    /// [`RangeError`] with what to give instead.
    pub fn parse(text: &str, now: SystemTime) -> Result<Self, RangeError> {
        let (from, to) = text.split_once("..").ok_or(RangeError::NoRange)?;
        let from_unix_ns = time(from.trim(), now)?;
        let to_unix_ns = time(to.trim(), now)?;
        if from_unix_ns >= to_unix_ns {
            return Err(RangeError::Empty);
        }
        Ok(Self { from_unix_ns, to_unix_ns })
    }

    /// Whether a window that starts at `start_unix_ns` overlaps the range. A window without a
    /// duration counts as one nanosecond.
    pub fn overlaps(self, start_unix_ns: u64, duration_ns: u64) -> bool {
        let end = start_unix_ns.saturating_add(duration_ns.max(1));
        start_unix_ns < self.to_unix_ns && self.from_unix_ns < end
    }
}

/// Parses one time; returns nanoseconds since 1970.
fn time(text: &str, now: SystemTime) -> Result<u64, RangeError> {
    let out_of_range = || RangeError::OutOfRange { text: text.to_owned() };
    let back = if text == "now" {
        Some(Duration::ZERO)
    } else if let Some(back) = text.strip_prefix("now-").or_else(|| text.strip_prefix('-')) {
        let read = parse_duration(back);
        Some(read.map_err(|advice| RangeError::NoDuration { text: text.to_owned(), advice })?)
    } else {
        None
    };
    match back {
        Some(back) => {
            let time = now.checked_sub(back).and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            time.and_then(|time| u64::try_from(time.as_nanos()).ok()).ok_or_else(out_of_range)
        }
        None => {
            let read = text.parse::<Datetime>();
            let read = read.map_err(|_| RangeError::NoTime { text: text.to_owned() })?;
            absolute(&read, text)?.ok_or_else(out_of_range)
        }
    }
}

fn absolute(read: &Datetime, text: &str) -> Result<Option<u64>, RangeError> {
    let (Some(date), Some(time)) = (read.date, read.time) else {
        return Err(RangeError::NoTime { text: text.to_owned() });
    };
    let offset_minutes = match read.offset {
        Some(Offset::Z) => 0,
        Some(Offset::Custom { minutes }) => i64::from(minutes),
        None => return Err(RangeError::NoOffset { text: text.to_owned() }),
    };
    let date = Date { year: date.year.into(), month: date.month.into(), day: date.day.into() };
    let seconds = date.days_since_1970() * 86_400 + seconds(time) - offset_minutes * 60;
    let nanoseconds = u64::try_from(seconds).ok().and_then(|s| s.checked_mul(1_000_000_000));
    Ok(nanoseconds.and_then(|ns| ns.checked_add(u64::from(time.nanosecond))))
}

fn seconds(time: Time) -> i64 {
    i64::from(time.hour) * 3600 + i64::from(time.minute) * 60 + i64::from(time.second)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    /// 2026-11-25T10:00:00Z
    const NOW: u64 = 1_795_600_800;

    fn parse(text: &str) -> Result<(u64, u64), String> {
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        let range = TimeRange::parse(text, now).map_err(|error| error.to_string())?;
        Ok((range.from_unix_ns, range.to_unix_ns))
    }

    #[test]
    fn parses_relative_times_and_rfc_3339() {
        let check = |text: &str, from: u64, to: u64| {
            assert_eq!(parse(text), Ok((from * SECOND, to * SECOND)), "{text}");
        };
        check("-5m..now", NOW - 300, NOW);
        check("now-1d..-1h", NOW - 86_400, NOW - 3600);
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
    fn errors_say_what_to_give_instead() {
        let check = |text: &str, expected: &str| {
            let error = parse(text).err().unwrap_or_default();
            assert!(error.starts_with(expected), "{text}: {error}");
        };
        check("-5m", "give FROM..TO, as in -5m..now or 2026-11-25T10:00:00Z");
        check("..now", "\"\" is not a time; give FROM..TO");
        check("yesterday..now", "\"yesterday\" is not a time; give FROM..TO");
        check("-5..now", "\"-5\" is not a duration; add a unit, as in \"5s\"");
        check(
            "2026-11-25T10:00:00..now",
            "\"2026-11-25T10:00:00\" has no offset from UTC; add one, as in 2026-11-25T10:00:00Z",
        );
        check("2026-11-25..now", "\"2026-11-25\" is not a time");
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
