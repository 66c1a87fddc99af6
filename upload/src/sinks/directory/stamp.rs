//! File names of windows: their start in UTC, as in `20261125T014400.123Z.pb.gz`.

use profile::Date;

/// Suffix of the names of windows.
const SUFFIX: &str = ".pb.gz";
/// Largest number of a window among those that began in one millisecond.
const NUMBER_MAX: u32 = 999;

const MS_PER_DAY: u64 = 24 * 60 * 60 * 1_000;

/// A window's name: the millisecond in which it began, and its number among those of that
/// millisecond. Sorted by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    /// 0 for the first, which has no number in its name.
    pub number: u32,
}

impl Stamp {
    /// Returns the first name for a window by its start, in nanoseconds since 1970.
    pub fn of(start_unix_ns: u64) -> Self {
        Self { unix_ms: start_unix_ns / 1_000_000, number: 0 }
    }

    /// Returns the next name for the same millisecond, if there is one.
    pub fn next(self) -> Option<Self> {
        (self.number < NUMBER_MAX).then_some(Self { number: self.number + 1, ..self })
    }

    /// Returns the start of its millisecond, in nanoseconds since 1970.
    pub fn unix_ns(self) -> u64 {
        self.unix_ms.saturating_mul(1_000_000)
    }

    /// Returns the file name.
    pub fn file_name(self) -> String {
        let days = self.unix_ms / MS_PER_DAY;
        let Date { year, month, day } = Date::from_days_since_1970(days as i64);
        let ms = self.unix_ms % MS_PER_DAY;
        let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
        let number = if self.number == 0 { String::new() } else { format!("-{}", self.number) };
        format!(
            "{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}.{:03}Z{number}{SUFFIX}",
            ms % 1_000
        )
    }

    /// Parses a file name; `None` for any that [`Stamp::file_name`] does not return.
    pub fn parse(file_name: &str) -> Option<Self> {
        let (time, number) = file_name.strip_suffix(SUFFIX)?.split_once('Z')?;
        let number = match number.strip_prefix('-') {
            Some(number) => number.parse().ok()?,
            None => 0,
        };
        let digits = |from: usize, to: usize| time.get(from..to)?.parse::<u64>().ok();
        let date = |from, to| Some(digits(from, to)? as i64);
        let date = Date { year: date(0, 4)?, month: date(4, 6)?, day: date(6, 8)? };
        let days = u64::try_from(date.days_since_1970()).ok()?;
        let (hour, minute, second) = (digits(9, 11)?, digits(11, 13)?, digits(13, 15)?);
        let ms = ((hour * 60 + minute) * 60 + second) * 1_000 + digits(16, 19)?;
        let stamp = Self { unix_ms: days * MS_PER_DAY + ms, number };
        (stamp.file_name() == file_name).then_some(stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that a name and its moment convert into each other.
    fn check(unix_ms: u64, number: u32, expect: &str) {
        let stamp = Stamp { unix_ms, number };
        assert_eq!(stamp.file_name(), expect);
        assert_eq!(Stamp::parse(expect), Some(stamp));
    }

    #[test]
    fn names_are_times_in_utc() {
        // Seconds from `date -u -d '2026-11-25 01:44:00' +%s`.
        check(0, 0, "19700101T000000.000Z.pb.gz");
        check(1_795_571_040_123, 0, "20261125T014400.123Z.pb.gz");
        check(1_795_571_040_123, 7, "20261125T014400.123Z-7.pb.gz");
        check(951_782_400_000, 0, "20000229T000000.000Z.pb.gz");
        check(4_107_542_399_999, 0, "21000228T235959.999Z.pb.gz");
    }

    #[test]
    fn other_names_are_not_parsed() {
        for name in [
            "",
            ".pb.gz",
            "Z.pb.gz",
            "profile.pb.gz",
            "20261125T014400.123Z.pb",
            "20261125T014400.123Z-0.pb.gz",
            "20261125T014400.123Z-07.pb.gz",
            "20261125 014400.123Z.pb.gz",
            "20261325T014400.123Z.pb.gz",
            "20260230T014400.123Z.pb.gz",
            "20261125T254400.123Z.pb.gz",
            "19691231T235959.999Z.pb.gz",
            "2026112ТT014400.123Z.pb.gz",
            "+0261125T014400.123Z.pb.gz",
        ] {
            assert_eq!(Stamp::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_millisecond_has_a_thousand_names() {
        let mut stamp = Stamp::of(1_500_000);
        let mut names = 1;
        while let Some(next) = stamp.next() {
            stamp = next;
            names += 1;
        }
        assert_eq!((names, stamp.unix_ns()), (1_000, 1_000_000));
    }
}
