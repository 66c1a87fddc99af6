//! Durations and sizes as people write them: `10s`, `7d`, `512MiB`.

use std::time::Duration;

/// Units and what each is worth, smallest first.
type Units = [(&'static str, u64); 5];

/// In milliseconds.
const DURATIONS: Units =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
/// In bytes.
const SIZES: Units =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// Reads a duration: a whole number and a unit, which is ms, s, m, h or d.
///
/// # Errors
/// What to write instead.
pub fn duration(text: &str) -> Result<Duration, String> {
    read(text, &DURATIONS, "s").map(Duration::from_millis)
}

/// Reads a size in bytes: a whole number and a unit, which is B, KiB, MiB, GiB or TiB.
///
/// # Errors
/// What to write instead.
pub fn bytes(text: &str) -> Result<u64, String> {
    match text.parse::<u64>() {
        Ok(bytes) if bytes >= 1 << 10 => {
            Err(format!("add a unit, as in \"{}\"", bytes_text(bytes)))
        }
        _ => read(text, &SIZES, "MiB"),
    }
}

/// Writes a duration so that [`duration`] reads it; what is below a millisecond is left out.
pub fn duration_text(duration: Duration) -> String {
    text(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &DURATIONS)
}

/// Writes a size so that [`bytes`] reads it.
pub fn bytes_text(bytes: u64) -> String {
    text(bytes, &SIZES)
}

fn read(text: &str, units: &Units, usual: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let Ok(number) = number.parse::<u64>() else {
        return Err(match digits {
            0 => format!("give a whole number and a unit, as in \"10{usual}\""),
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
            "give a whole number and one of the units {}, as in \"{number}{usual}\"",
            names.join(", ")
        ));
    };
    number.checked_mul(*worth).ok_or_else(|| "give a smaller number".to_owned())
}

fn text(number: u64, units: &Units) -> String {
    let whole = |&&(_, worth): &&(&str, u64)| number >= worth && number.is_multiple_of(worth);
    let (name, worth) = units.iter().rev().find(whole).unwrap_or(&units[0]);
    format!("{}{name}", number / worth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_as_they_are_written() {
        for text in ["0ms", "1ms", "1500ms", "10s", "90s", "5m", "36h", "7d"] {
            assert_eq!(duration(text).as_ref().map(|d| duration_text(*d)).as_deref(), Ok(text));
        }
        for text in ["0B", "1B", "1023B", "1KiB", "1536MiB", "512MiB", "1TiB", "9999TiB"] {
            assert_eq!(bytes(text).map(bytes_text).as_deref(), Ok(text));
        }
        assert_eq!(duration("2 h"), Ok(Duration::from_secs(7200)));
        assert_eq!(duration_text(Duration::from_secs(3600)), "1h");
        assert_eq!(bytes_text(1024), "1KiB");
    }

    #[test]
    fn what_cannot_be_read_says_what_to_write() {
        let check = |text: &str, expected: &str| {
            assert_eq!(duration(text).err().as_deref(), Some(expected), "{text:?}");
        };
        check("", "give a whole number and a unit, as in \"10s\"");
        check("-5m", "give a whole number and a unit, as in \"10s\"");
        check("10", "add a unit, as in \"10s\"");
        check("1.5h", "give a whole number and one of the units ms, s, m, h, d, as in \"1s\"");
        check("3 weeks", "give a whole number and one of the units ms, s, m, h, d, as in \"3s\"");
        check("99999999999999999999s", "give a smaller number");
        check("9999999999999999999d", "give a smaller number");
        assert_eq!(bytes("512"), Err("add a unit, as in \"512MiB\"".into()));
        assert_eq!(bytes("1073741824"), Err("add a unit, as in \"1GiB\"".into()));
        assert_eq!(
            bytes("512MB"),
            Err("give a whole number and one of the units B, KiB, MiB, GiB, TiB, as in \
                 \"512MiB\""
                .into())
        );
    }
}
