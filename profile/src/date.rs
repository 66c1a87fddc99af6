//! Dates of the proleptic Gregorian calendar, in UTC.

/// A day of the calendar.
///
/// ```
/// use profile::Date;
///
/// let date = Date { year: 2026, month: 11, day: 25 };
/// assert_eq!(date.days_since_1970(), 20_782);
/// assert_eq!(Date::from_days_since_1970(20_782), date);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    /// Year, with a year 0 before 1.
    pub year: i64,
    /// Month, 1 to 12.
    pub month: i64,
    /// Day of the month, from 1.
    pub day: i64,
}

/// Days of 400 years, after which the calendar repeats.
const DAYS_PER_ERA: i64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const DAYS_TO_1970: i64 = 719_468;

impl Date {
    /// Returns the date of a number of days since 1970-01-01.
    ///
    /// Years begin in March here, so that a leap day is the last of its year.
    /// Source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
    pub fn from_days_since_1970(days: i64) -> Self {
        let days = days + DAYS_TO_1970;
        let (era, day_of_era) = (days.div_euclid(DAYS_PER_ERA), days.rem_euclid(DAYS_PER_ERA));
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        Self { year, month, day }
    }

    /// Returns the days from 1970-01-01 to this date. The result is meaningless for a month or a
    /// day that does not exist.
    ///
    /// Source: as [`Date::from_days_since_1970`], `days_from_civil`.
    pub fn days_since_1970(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let day_of_year = (153 * ((self.month + 9) % 12) + 2) / 5 + self.day - 1;
        let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
        year * 365 + leap_days + day_of_year - DAYS_TO_1970
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_centuries_of_days_round_trip() {
        for days in -DAYS_PER_ERA..DAYS_PER_ERA {
            assert_eq!(Date::from_days_since_1970(days).days_since_1970(), days);
        }
    }

    #[test]
    fn leap_days_follow_the_gregorian_rule() {
        let date = |year, month, day| Date { year, month, day };
        assert_eq!(Date::from_days_since_1970(0), date(1970, 1, 1));
        assert_eq!(Date::from_days_since_1970(11_016), date(2000, 2, 29));
        assert_eq!(Date::from_days_since_1970(47_541), date(2100, 3, 1));
        assert_eq!(Date::from_days_since_1970(47_540), date(2100, 2, 28));
    }
}
