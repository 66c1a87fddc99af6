//! Durations and sizes as people write them: `10s`, `12m30s`, `7d`, `512MiB`.
//!
//! Every flag, key and range uses these parsers.

use std::time::Duration;

/// Names of units and what each is worth, smallest first.
type Units = [(&'static str, u64); 5];

/// In milliseconds.
const DURATIONS: Units =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
/// In bytes.
const SIZES: Units =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
/// Digits after the decimal point that count.
const FRACTION_DIGITS_MAX: usize = 9;
const TOO_LARGE: &str = "give a smaller number";

/// Parses a duration: numbers with the units ms, s, m, h, d, from the largest to the smallest, as
/// in `500ms`, `1.5h` or `12m30s`. A number without a unit is in seconds. What is below a
/// millisecond is dropped.
///
/// # Errors
/// What to write instead.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    if !rest.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return Err("give a duration, as in \"10s\", \"500ms\" or \"12m30s\"".to_owned());
    }
    let (mut milliseconds, mut above) = (0u64, u64::MAX);
    while !rest.is_empty() {
        let (number, after) = split_at(rest, |c| !c.is_ascii_digit() && c != '.');
        let (unit, after) = split_at(after.trim_start(), |c| !c.is_alphabetic());
        let worth = match unit {
            "" if number.len() == rest.len() && above == u64::MAX => 1000,
            _ => worth_of(unit, number)?,
        };
        if worth >= above {
            return Err("give each unit once, the largest first, as in \"12m30s\"".to_owned());
        }
        let part = decimal(number, worth)?;
        milliseconds = milliseconds.checked_add(part).ok_or(TOO_LARGE)?;
        (rest, above) = (after.trim_start(), worth);
    }
    Ok(Duration::from_millis(milliseconds))
}

/// Splits a text before the first character that matches.
fn split_at(text: &str, is_end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(is_end).unwrap_or(text.len()))
}

/// Returns the milliseconds of a unit. `number`: what is before it.
fn worth_of(unit: &str, number: &str) -> Result<u64, String> {
    let known = DURATIONS.iter().find(|(name, _)| *name == unit);
    known.map(|(_, worth)| *worth).ok_or_else(|| {
        let names = DURATIONS.map(|(name, _)| name).join(", ");
        let number = if number.is_empty() { "10" } else { number };
        format!("give a number and one of the units {names}, as in \"{number}s\"")
    })
}

/// Multiplies a decimal number by an integer.
fn decimal(number: &str, worth: u64) -> Result<u64, String> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_number = whole.len() + fraction.len() > 0 && !fraction.contains('.');
    if !is_number {
        return Err("give a number, as in \"10s\" or \"0.5s\"".to_owned());
    }
    let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS_MAX)];
    let parse = |digits: &str| match digits {
        "" => Ok(0),
        _ => digits.parse::<u64>().map_err(|_| TOO_LARGE.to_owned()),
    };
    let scale = 10u128.pow(fraction.len() as u32);
    let part = u128::from(parse(fraction)?) * u128::from(worth) / scale;
    let whole = parse(whole)?.checked_mul(worth).ok_or(TOO_LARGE)?;
    whole.checked_add(part as u64).ok_or_else(|| TOO_LARGE.to_owned())
}

/// Parses a size in bytes: an integer and one of the units B, KiB, MiB, GiB, TiB.
///
/// # Errors
/// What to write instead.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    match text.parse::<u64>() {
        Ok(bytes) if bytes >= 1 << 10 => {
            Err(format!("add a unit, as in \"{}\"", format_bytes(bytes)))
        }
        _ => parse(text, &SIZES, "MiB"),
    }
}

/// Formats a duration so that [`parse_duration`] reads it; fractions of a millisecond are dropped.
pub fn format_duration(duration: Duration) -> String {
    format(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &DURATIONS)
}

/// Formats a size so that [`parse_bytes`] reads it.
pub fn format_bytes(bytes: u64) -> String {
    format(bytes, &SIZES)
}

/// Parses a size. `usual`: the unit that error messages suggest.
fn parse(text: &str, units: &Units, usual: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let Ok(number) = number.parse::<u64>() else {
        return Err(match digits {
            0 => format!("give an integer and a unit, as in \"10{usual}\""),
            _ => TOO_LARGE.to_owned(),
        });
    };
    let unit = unit.trim_start();
    if unit.is_empty() {
        return Err(format!("add a unit, as in \"{number}{usual}\""));
    }
    let Some((_, worth)) = units.iter().find(|(name, _)| *name == unit) else {
        let names = units.map(|(name, _)| name);
        return Err(format!(
            "give an integer and one of the units {}, as in \"{number}{usual}\"",
            names.join(", ")
        ));
    };
    number.checked_mul(*worth).ok_or_else(|| TOO_LARGE.to_owned())
}

/// Formats with the largest unit that leaves no remainder.
fn format(number: u64, units: &Units) -> String {
    let is_exact = |&&(_, worth): &&(&str, u64)| number >= worth && number.is_multiple_of(worth);
    let (name, worth) = units.iter().rev().find(is_exact).unwrap_or(&units[0]);
    format!("{}{name}", number / worth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formatted_durations_and_sizes_parse_to_the_same_value() {
        for text in ["0ms", "1ms", "1500ms", "10s", "90s", "5m", "36h", "7d"] {
            let duration = parse_duration(text);
            assert_eq!(duration.map(format_duration).as_deref(), Ok(text));
        }
        for text in ["0B", "1B", "1023B", "1KiB", "1536MiB", "512MiB", "1TiB", "9999TiB"] {
            assert_eq!(parse_bytes(text).map(format_bytes).as_deref(), Ok(text));
        }
        assert_eq!(format_duration(Duration::from_secs(3600)), "1h");
        assert_eq!(format_bytes(1024), "1KiB");
    }

    #[test]
    fn durations_have_units_and_fractions() {
        let check = |text: &str, milliseconds: u64| {
            let expected = Ok(Duration::from_millis(milliseconds));
            assert_eq!(parse_duration(text), expected, "{text:?}");
        };
        check("10", 10_000);
        check("0.5", 500);
        check(".25", 250);
        check("0", 0);
        check("1.5h", 5_400_000);
        check("12m30s", 750_000);
        check("1d 2h 3m 4s 5ms", 93_784_005);
        check("2 h", 7_200_000);
        check("0.0015s", 1);
        check("1.0000000000001s", 1000);
    }

    #[test]
    fn errors_say_what_to_write_instead() {
        let check = |text: &str, expected: &str| {
            assert_eq!(parse_duration(text).err().as_deref(), Some(expected), "{text:?}");
        };
        let example = "give a duration, as in \"10s\", \"500ms\" or \"12m30s\"";
        let units = |number: &str| {
            format!("give a number and one of the units ms, s, m, h, d, as in \"{number}s\"")
        };
        check("", example);
        check("soon", example);
        check("-5m", example);
        check("3 weeks", &units("3"));
        check("10m5", &units("5"));
        check("5,5s", &units("5"));
        check("10S", &units("10"));
        check("10s10m", "give each unit once, the largest first, as in \"12m30s\"");
        check("1s1s", "give each unit once, the largest first, as in \"12m30s\"");
        check("1.2.3s", "give a number, as in \"10s\" or \"0.5s\"");
        check(".", "give a number, as in \"10s\" or \"0.5s\"");
        check("99999999999999999999s", TOO_LARGE);
        check("9999999999999999999d", TOO_LARGE);
        check("213503982334d23h", TOO_LARGE);
        assert_eq!(parse_bytes("512"), Err("add a unit, as in \"512MiB\"".into()));
        assert_eq!(parse_bytes("1073741824"), Err("add a unit, as in \"1GiB\"".into()));
        let units = "give an integer and one of the units B, KiB, MiB, GiB, TiB, as in \"512MiB\"";
        assert_eq!(parse_bytes("512MB"), Err(units.into()));
    }
}
