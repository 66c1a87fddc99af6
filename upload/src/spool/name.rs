//! File names of batches, which sort by time: `01795571040123456789-000000.pprof.zst`.

use std::fmt;

const SUFFIX: &str = ".pprof.zst";

/// Name of a batch: the start of its window and a number that tells windows with the same start
/// apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchName {
    /// Nanoseconds since 1970.
    pub start_unix_ns: u64,
    /// From 0.
    pub number: u32,
}

impl BatchName {
    /// Parses a file name; `None` unless [`fmt::Display`] would write exactly this name.
    pub fn parse(file_name: &str) -> Option<Self> {
        let (start, number) = file_name.strip_suffix(SUFFIX)?.split_once('-')?;
        let name = Self { start_unix_ns: start.parse().ok()?, number: number.parse().ok()? };
        (name.to_string() == file_name).then_some(name)
    }
}

impl fmt::Display for BatchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}-{:06}{SUFFIX}", self.start_unix_ns, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_time_then_number_and_round_trip() {
        let names = [(0, 0), (9, 5), (10, 0), (10, 1), (u64::MAX, u32::MAX)]
            .map(|(start_unix_ns, number)| BatchName { start_unix_ns, number });
        let texts = names.map(|name| name.to_string());
        assert!(texts.is_sorted());
        assert_eq!(texts[3], "00000000000000000010-000001.pprof.zst");
        for (name, text) in names.iter().zip(&texts) {
            assert_eq!(BatchName::parse(text), Some(*name));
        }
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
        ] {
            assert_eq!(BatchName::parse(name), None, "{name}");
        }
    }
}
