//! File names of batches, which sort in the order of delivery.
//!
//! ```text
//! ORDER-NUMBER-START-BOOT-BOOTTIME.pprof.zst   since version 2
//! ORDER-NUMBER.pprof.zst                       version 1: ORDER is the start of the window
//! ```
//!
//! The order is the start of the window, unless the wall clock was set back: then it goes on after
//! the last batch, so that the oldest batch stays the oldest. The time since BOOT tells its age,
//! however the wall clock is set.

use std::fmt;

use profile::BootTime;

const SUFFIX: &str = ".pprof.zst";

/// Digits of a boot ID and of a time that are unknown.
const UNKNOWN: BootTime = BootTime { boot_id: 0, ns: 0 };

/// Name of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchName {
    /// Position among all batches.
    order: u64,
    /// Distinguishes batches of equal order in version 1; else 0.
    number: u32,
    /// What version 2 adds.
    times: Option<Times>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Times {
    start_unix_ns: u64,
    start: Option<BootTime>,
}

impl BatchName {
    /// Returns the name of a batch. `start_unix_ns` and `start`: when its window began.
    pub const fn new(order: u64, start_unix_ns: u64, start: Option<BootTime>) -> Self {
        Self { order, number: 0, times: Some(Times { start_unix_ns, start }) }
    }

    /// Returns its position among all batches.
    pub fn order(self) -> u64 {
        self.order
    }

    /// Returns the start of the window, in nanoseconds since 1970.
    pub fn start_unix_ns(self) -> u64 {
        self.times.map_or(self.order, |times| times.start_unix_ns)
    }

    /// Returns the start of the window on the clock of its boot, if that is known.
    pub fn start(self) -> Option<BootTime> {
        self.times?.start
    }

    /// Parses a file name; `None` unless [`fmt::Display`] would write exactly this name.
    pub fn parse(file_name: &str) -> Option<Self> {
        let mut fields = file_name.strip_suffix(SUFFIX)?.split('-');
        let (order, number) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let times = match fields.next() {
            None => None,
            Some(start_unix_ns) => {
                let boot_id = BootTime::parse_boot_id(fields.next()?)?;
                let start = BootTime { boot_id, ns: fields.next()?.parse().ok()? };
                let start = (start != UNKNOWN).then_some(start);
                Some(Times { start_unix_ns: start_unix_ns.parse().ok()?, start })
            }
        };
        let name = Self { order, number, times };
        (name.to_string() == file_name).then_some(name)
    }
}

impl fmt::Display for BatchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { order, number, times } = self;
        write!(f, "{order:020}-{number:06}")?;
        if let Some(Times { start_unix_ns, start }) = times {
            let BootTime { boot_id, ns } = start.unwrap_or(UNKNOWN);
            write!(f, "-{start_unix_ns:020}-{boot_id:032x}-{ns:020}")?;
        }
        f.write_str(SUFFIX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "00000000000000000010-000001.pprof.zst";
    const NEW: &str = "00000000000000000010-000001-00000000000000000007-\
                       000000000000000000000000000000ab-00000000000000000009.pprof.zst";

    #[test]
    fn names_sort_by_order_and_round_trip() {
        let start = Some(BootTime { boot_id: u128::MAX, ns: u64::MAX });
        let names = [0, 9, 10, u64::MAX]
            .map(|order| BatchName::new(order, u64::MAX - order, start))
            .map(|name| BatchName { number: u32::from(name.order == 9), ..name });
        let texts = names.map(|name| name.to_string());
        assert!(texts.is_sorted() && names.is_sorted());
        for (name, text) in names.iter().zip(&texts) {
            assert_eq!(BatchName::parse(text), Some(*name));
        }
    }

    #[test]
    fn both_versions_are_read() {
        let old = BatchName::parse(OLD).expect("version 1");
        assert_eq!((old.order(), old.start_unix_ns(), old.start()), (10, 10, None));
        let new = |start| BatchName { number: 1, ..BatchName::new(10, 7, start) };
        let start = Some(BootTime { boot_id: 0xab, ns: 9 });
        assert_eq!(BatchName::parse(NEW), Some(new(start)));
        let unknown = new(None);
        assert_eq!(BatchName::parse(&unknown.to_string()), Some(unknown));
        assert!(BatchName::parse(OLD) < BatchName::parse(NEW));
    }

    #[test]
    fn foreign_names_are_rejected() {
        for name in [
            "",
            ".pprof.zst",
            "-.pprof.zst",
            "10-1.pprof.zst",
            "00000000000000000010-000001.pprof",
            "00000000000000000010-0000001.pprof.zst",
            "+0000000000000000010-000001.pprof.zst",
            "99999999999999999999-000001.pprof.zst",
            "00000000000000000010-000001-00000000000000000007.pprof.zst",
            &NEW.replace("-0000000000000000000000000000", "-000000000000000000000000000"),
            &NEW.replace("ab-", "AB-"),
            &NEW.replace(".pprof", "-1.pprof"),
        ] {
            assert_eq!(BatchName::parse(name), None, "{name}");
        }
    }
}
