//! The string table of a pprof message.

use indexmap::IndexSet;

use super::proto;

/// Longest string written, in bytes: Pyroscope's limit.
const TEXT_MAX: usize = 65_535;

/// Distinct strings by index; the empty one is at 0.
pub(super) struct StringTable(IndexSet<String>);

impl StringTable {
    pub fn new() -> Self {
        Self(IndexSet::from([String::new()]))
    }

    /// Returns the index of a string, which is cut if it is too long.
    pub fn intern(&mut self, text: &str) -> i64 {
        let text = &text[..text.floor_char_boundary(TEXT_MAX)];
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
