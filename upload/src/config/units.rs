//! Durations and sizes as people write them: `10s`, `7d`, `512MiB`.

use std::time::Duration;

/// Names of units and what each is worth, smallest first.
type Units = [(&'static str, u64); 5];

/// In milliseconds.
const DURATIONS: Units =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
/// In bytes.
const SIZES: Units =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// Parses a duration: an integer and one of the units ms, s, m, h, d.
///
/// # Errors
/// What to write instead.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    parse(text, &DURATIONS, "s").map(Duration::from_millis)
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

/// `usual`: the unit that error messages suggest.
fn parse(text: &str, units: &Units, usual: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let Ok(number) = number.parse::<u64>() else {
        return Err(match digits {
            0 => format!("give an integer and a unit, as in \"10{usual}\""),
            _ => "give a smaller number".to_owned(),
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
    number.checked_mul(*worth).ok_or_else(|| "give a smaller number".to_owned())
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
        assert_eq!(parse_duration("2 h"), Ok(Duration::from_secs(7200)));
        assert_eq!(format_duration(Duration::from_secs(3600)), "1h");
        assert_eq!(format_bytes(1024), "1KiB");
    }

    #[test]
    fn errors_say_what_to_write_instead() {
        let check = |text: &str, expected: &str| {
            assert_eq!(parse_duration(text).err().as_deref(), Some(expected), "{text:?}");
        };
        check("", "give an integer and a unit, as in \"10s\"");
        check("-5m", "give an integer and a unit, as in \"10s\"");
        check("10", "add a unit, as in \"10s\"");
        check("1.5h", "give an integer and one of the units ms, s, m, h, d, as in \"1s\"");
        check("3 weeks", "give an integer and one of the units ms, s, m, h, d, as in \"3s\"");
        check("99999999999999999999s", "give a smaller number");
        check("9999999999999999999d", "give a smaller number");
        assert_eq!(parse_bytes("512"), Err("add a unit, as in \"512MiB\"".into()));
        assert_eq!(parse_bytes("1073741824"), Err("add a unit, as in \"1GiB\"".into()));
        let units = "give an integer and one of the units B, KiB, MiB, GiB, TiB, as in \"512MiB\"";
        assert_eq!(parse_bytes("512MB"), Err(units.into()));
    }
}
