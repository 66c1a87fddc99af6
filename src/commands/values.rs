//! Values on the command line: what each option accepts, and what to give instead of the rest.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use profile::Cpu;
use upload::config::Choice;
use upload::config::units::{parse_bytes, parse_duration};

use crate::host::max_sample_rate;
use crate::kernel::parse_cpu_list;
use crate::symbolization::SymbolizeMode;

/// The highest frequency that `-F max` selects, where the kernel allows more: a tick may take the
/// time between two of them.
const MAX_HZ: u32 = 10_000;
/// More than 30 years.
const LONGEST: Duration = Duration::from_secs(1_000_000_000);
/// The only event.
const CPU_CLOCK: &str = "cpu-clock";
const MAX: &str = "max";

/// The CPUs of one `-C`.
#[derive(Clone, Debug)]
pub(super) struct CpuList(pub Vec<Cpu>);

/// Parses `-F`: a number, or `max`.
pub(super) fn frequency(text: &str) -> Result<u32, String> {
    if text == MAX {
        return Ok(max_sample_rate().clamp(1, MAX_HZ));
    }
    let frequency = text.parse::<u32>().ok().filter(|frequency| *frequency > 0);
    frequency.ok_or_else(|| "give a whole number of Hz above 0, as in 99, or max".into())
}

/// Parses `-d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    match duration.is_zero() || duration > LONGEST {
        true => Err("give a duration of 1ms to 11574d".into()),
        false => Ok(duration),
    }
}

/// Parses `--symbolize`.
pub(super) fn symbolize_mode() -> impl TypedValueParser<Value = SymbolizeMode> {
    PossibleValuesParser::new(SymbolizeMode::NAMES)
        .map(|name| SymbolizeMode::from_name(&name).expect("one of the names"))
}

/// Parses a process of `-p`.
pub(super) fn pid(text: &str) -> Result<u32, String> {
    number(text).ok_or_else(|| match is_name(text) {
        true => format!("not a process ID; to select processes by name use `--comm {text}`"),
        false => "give process IDs, as in 12 or 12,34; `ps -e` lists them".into(),
    })
}

/// Parses a thread of `-t`.
pub(super) fn tid(text: &str) -> Result<u32, String> {
    number(text).ok_or_else(|| match is_name(text) {
        true => format!("not a thread ID; to select threads by name use `--comm {text}`"),
        false => "give thread IDs, as in 12 or 12,34; `ps -eL` lists them".into(),
    })
}

/// Parses `-C`.
pub(super) fn cpus(text: &str) -> Result<CpuList, String> {
    let cpus = parse_cpu_list(text).map(CpuList);
    cpus.ok_or_else(|| "give a list of CPUs, as in 0 or 0,2-3".into())
}

/// Parses `-e`.
pub(super) fn event(text: &str) -> Result<String, String> {
    match text {
        CPU_CLOCK => Ok(text.to_owned()),
        _ => Err(format!(
            "everytick samples the time that CPUs spend, by the event {CPU_CLOCK}, and no other \
             event; leave out -e, or use `perf record -e {text}`"
        )),
    }
}

/// Parses `--call-graph`.
pub(super) fn call_graph(text: &str) -> Result<String, String> {
    match text {
        "dwarf" => Ok(text.to_owned()),
        _ => Err("stacks are always unwound by call frame information, and by frame pointers \
                  where there is none; leave out --call-graph"
            .into()),
    }
}

/// Parses a size of 4 KiB to 1 GiB into KiB.
pub(super) fn ring_kib(text: &str) -> Result<u32, String> {
    size(text, 10, 4..=1 << 20, "4KiB to 1GiB")
}

/// Parses a size of 1 MiB to 1 GiB into MiB.
pub(super) fn unwind_mib(text: &str) -> Result<u32, String> {
    size(text, 20, 1..=1024, "1MiB to 1GiB")
}

/// Parses a size into units of `1 << shift` bytes, rounded up.
fn size(
    text: &str,
    shift: u32,
    range: std::ops::RangeInclusive<u64>,
    allowed: &str,
) -> Result<u32, String> {
    let units = parse_bytes(text)?.div_ceil(1 << shift);
    match range.contains(&units) {
        true => Ok(units as u32),
        false => Err(format!("give {allowed}")),
    }
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| (1..=i32::MAX as u32).contains(number))
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'`')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequency_is_a_number_or_max() {
        assert_eq!(frequency("99"), Ok(99));
        assert!((1..=MAX_HZ).contains(&frequency("max").expect("always valid")));
        for text in ["0", "-1", "x", "", "99.5", "4294967296", "MAX"] {
            assert!(frequency(text).is_err_and(|error| error.ends_with("or max")), "{text}");
        }
    }

    #[test]
    fn duration_is_above_zero() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        for text in ["0", "0.0001", "0s", "11575d"] {
            assert_eq!(duration(text), Err("give a duration of 1ms to 11574d".into()), "{text}");
        }
    }

    #[test]
    fn ids_are_numbers_and_names_get_a_hint() {
        assert_eq!((pid("12"), tid("12")), (Ok(12), Ok(12)));
        let error = |text| pid(text).err().unwrap_or_default();
        assert!(error("busy").ends_with("use `--comm busy`"), "{}", error("busy"));
        assert!(tid("busy").is_err_and(|error| error.contains("`--comm busy`")));
        for text in ["", "0", "-1", "1 2", "2147483648", "a`b", "\u{1b}"] {
            assert!(error(text).starts_with("give process IDs"), "{text}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(
            (ring_kib("16KiB"), ring_kib("1MiB"), ring_kib("5000B")),
            (Ok(16), Ok(1024), Ok(5))
        );
        assert_eq!(unwind_mib("1GiB"), Ok(1024));
        assert_eq!(ring_kib("1KiB"), Err("give 4KiB to 1GiB".into()));
        assert_eq!(unwind_mib("128"), Err("add a unit, as in \"128MiB\"".into()));
    }
}
