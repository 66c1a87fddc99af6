//! What the memory of a process may be a copy of.

use super::mappings::Mapping;

/// Mappings of files remembered after other memory has taken their place.
const REPLACED_MAX: usize = 4;
/// Comparisons in vain for one program: a JIT compiler may use the place of an unloaded library.
const FAILURES_MAX: u8 = 16;

/// What a process has mapped that its memory may be a copy of.
#[derive(Clone, Debug, Default)]
pub(super) struct CopySources {
    /// Mappings of files that other memory has replaced, or that lie beside it and are not
    /// executable; the last one last.
    replaced: Vec<Mapping>,
    failures: u8,
}

impl CopySources {
    /// Remembers a mapping.
    pub fn add(&mut self, mapping: Mapping) {
        if !self.replaced.contains(&mapping) {
            if self.replaced.len() == REPLACED_MAX {
                self.replaced.remove(0);
            }
            self.replaced.push(mapping);
        }
    }

    /// Returns the mappings, the one added last at the end.
    pub fn mappings(&self) -> &[Mapping] {
        &self.replaced
    }

    /// Counts a comparison in vain.
    pub fn count_failure(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// Returns whether enough was compared in vain.
    pub fn is_exhausted(&self) -> bool {
        self.failures >= FAILURES_MAX
    }
}
