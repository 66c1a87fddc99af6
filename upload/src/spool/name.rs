//! Names of batches in the spool, which sort by time: `01795571040123456789-000000.pprof.zst`.

use std::fmt;

/// What the names of batches end in.
const ENDING: &str = ".pprof.zst";

/// A batch's name: when its window began, and its number among those of that very moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Nanoseconds since 1970.
    pub start_unix_ns: u64,
    /// From 0.
    pub number: u32,
}

impl Name {
    /// Reads the name of a file; `None` for any that is not a batch's.
    pub fn parse(file_name: &str) -> Option<Self> {
        let (start, number) = file_name.strip_suffix(ENDING)?.split_once('-')?;
        let name = Self { start_unix_ns: start.parse().ok()?, number: number.parse().ok()? };
        (name.to_string() == file_name).then_some(name)
    }
}

/// Writes the name of the file.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}-{:06}{ENDING}", self.start_unix_ns, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_time_then_number_and_come_back() {
        let names = [(0, 0), (9, 5), (10, 0), (10, 1), (u64::MAX, u32::MAX)]
            .map(|(start_unix_ns, number)| Name { start_unix_ns, number });
        let texts = names.map(|name| name.to_string());
        assert!(texts.is_sorted());
        assert_eq!(texts[3], "00000000000000000010-000001.pprof.zst");
        for (name, text) in names.iter().zip(&texts) {
            assert_eq!(Name::parse(text), Some(*name));
        }
    }

    #[test]
    fn other_names_are_foreign() {
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
            assert_eq!(Name::parse(name), None, "{name}");
        }
    }
}
