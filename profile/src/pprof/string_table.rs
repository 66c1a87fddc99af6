//! The string table of a pprof message.

use indexmap::IndexSet;

use super::proto;

/// Longest string written, in bytes, as the symbolizer cuts names. Pyroscope accepts 65,535.
const TEXT_MAX: usize = 4096;
/// What a string that was cut ends with.
const CUT: &str = "...[cut]";

/// Distinct strings by index; the empty one is at 0.
pub(super) struct StringTable(IndexSet<String>);

impl StringTable {
    pub fn new() -> Self {
        Self(IndexSet::from([String::new()]))
    }

    /// Returns the index of a string, which is cut if it is too long.
    pub fn intern(&mut self, text: &str) -> i64 {
        if text.len() > TEXT_MAX {
            let start = &text[..text.floor_char_boundary(TEXT_MAX - CUT.len())];
            return self.0.insert_full([start, CUT].concat()).0 as i64;
        }
        match self.0.get_index_of(text) {
            Some(index) => index as i64,
            None => self.0.insert_full(text.to_owned()).0 as i64,
        }
    }

    /// Returns the string at an index.
    pub fn get(&self, index: i64) -> &str {
        self.0.get_index(index as usize).map_or("", String::as_str)
    }

    pub fn value_type(&mut self, r#type: &str, unit: &str) -> proto::ValueType {
        proto::ValueType { r#type: self.intern(r#type), unit: self.intern(unit) }
    }

    pub fn into_table(self) -> Vec<String> {
        self.0.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_strings_are_cut_and_end_with_a_mark() {
        let mut strings = StringTable::new();
        let fits = strings.intern(&"x".repeat(TEXT_MAX));
        let long = strings.intern(&"\u{f6}".repeat(1 << 20));
        assert_eq!(strings.get(fits).len(), TEXT_MAX);
        assert!(strings.get(long).len() <= TEXT_MAX && strings.get(long).ends_with(CUT));
        assert_eq!(strings.intern(&"\u{f6}".repeat(1 << 20)), long);
        assert_eq!(strings.into_table().len(), 3);
    }
}
