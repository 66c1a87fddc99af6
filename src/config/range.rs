//! A range of time as people give it: `FROM..TO`, each a time of RFC 3339, `now`, or `-5m`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use profile::Date;
use thiserror::Error;
use toml::value::{Datetime, Offset, Time};
use upload::config::units::parse_duration;

/// What all of it looks like.
const USAGE: &str = "give FROM..TO, as in -5m..now or 2026-11-25T10:00:00Z..2026-11-25T10:05:00Z";

/// A range of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    /// Its beginning, in nanoseconds since 1970.
    pub from_unix_ns: u64,
    /// The first instant behind it, in nanoseconds since 1970.
    pub to_unix_ns: u64,
}

/// Why a text is no range of time.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RangeError {
    /// It is not two times.
    #[error("{USAGE}")]
    NoRange,
    /// One of them is no time.
    #[error("{text:?} is no time; {USAGE}")]
    NoTime {
        /// What was given.
        text: String,
    },
    /// A date and time of nobody knows which place.
    #[error("{text:?} has no offset from UTC; add one, as in {text}Z or {text}+02:00")]
    NoOffset {
        /// What was given.
        text: String,
    },
    /// A duration that cannot be read.
    #[error("{text:?} is no duration; {give}")]
    NoDuration {
        /// What was given.
        text: String,
        /// What to give instead.
        give: String,
    },
    /// Before 1970 or after 2262.
    #[error("{text:?} is not a time of this age; {USAGE}")]
    Beyond {
        /// What was given.
        text: String,
    },
    /// It ends before it begins.
    #[error("it ends where it begins or before; {USAGE}")]
    Empty,
}

impl TimeRange {
    /// Reads a range. What is relative counts from `now`.
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

    /// Says whether something that lasts from `start` has a part in it. Nothing is told of what has no duration.
    pub fn overlaps(self, start_unix_ns: u64, duration_ns: u64) -> bool {
        let end = start_unix_ns.saturating_add(duration_ns.max(1));
        start_unix_ns < self.to_unix_ns && self.from_unix_ns < end
    }
}

/// Reads one time, in nanoseconds since 1970.
fn time(text: &str, now: SystemTime) -> Result<u64, RangeError> {
    let beyond = || RangeError::Beyond { text: text.to_owned() };
    let back = if text == "now" {
        Some(Duration::ZERO)
    } else if let Some(back) = text.strip_prefix("now-").or_else(|| text.strip_prefix('-')) {
        let read = parse_duration(back);
        Some(read.map_err(|give| RangeError::NoDuration { text: text.to_owned(), give })?)
    } else {
        None
    };
    match back {
        Some(back) => {
            let time = now.checked_sub(back).and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            time.and_then(|time| u64::try_from(time.as_nanos()).ok()).ok_or_else(beyond)
        }
        None => {
            let read = text.parse::<Datetime>();
            let read = read.map_err(|_| RangeError::NoTime { text: text.to_owned() })?;
            absolute(&read, text)?.ok_or_else(beyond)
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
    fn times_are_relative_or_of_rfc_3339() {
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
    fn what_is_no_range_says_what_to_give() {
        let check = |text: &str, expected: &str| {
            let error = parse(text).err().unwrap_or_default();
            assert!(error.starts_with(expected), "{text}: {error}");
        };
        check("-5m", "give FROM..TO, as in -5m..now or 2026-11-25T10:00:00Z");
        check("..now", "\"\" is no time; give FROM..TO");
        check("yesterday..now", "\"yesterday\" is no time; give FROM..TO");
        check("-5..now", "\"-5\" is no duration; add a unit, as in \"5s\"");
        check(
            "2026-11-25T10:00:00..now",
            "\"2026-11-25T10:00:00\" has no offset from UTC; add one, as in 2026-11-25T10:00:00Z",
        );
        check("2026-11-25..now", "\"2026-11-25\" is no time");
        check("2026-02-30T10:00:00Z..now", "\"2026-02-30T10:00:00Z\" is no time");
        check("1969-12-31T23:59:59Z..now", "\"1969-12-31T23:59:59Z\" is not a time of this age");
        check("-99999999d..now", "\"-99999999d\" is not a time of this age");
        check("now..-5m", "it ends where it begins or before");
        check("now..now", "it ends where it begins or before");
    }

    #[test]
    fn a_window_overlaps_what_it_has_a_part_in() {
        let range = TimeRange { from_unix_ns: 10, to_unix_ns: 20 };
        let overlaps = |start, duration| range.overlaps(start, duration);
        assert!(overlaps(5, 6) && overlaps(19, 5) && overlaps(0, 99) && overlaps(10, 0));
        assert!(!overlaps(5, 5) && !overlaps(20, 5) && !overlaps(20, 0));
    }
}
