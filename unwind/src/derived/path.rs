//! How certain a path through a function is, and the paths that turned out to be none.

use std::collections::{HashMap, HashSet};

use super::jump_table::UNUSED_MAX;

/// How certain it is that code is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// Without a call.
    Certain,
    /// After the call at this address, of a function that can return. This call may still not:
    /// functions that end the program for some arguments return for others.
    AfterReturningCall(u64),
    /// After the call at this address, of which it is unknown whether it returns.
    AfterCall(u64),
    /// By a word of the jump table at this address, which may end before that word.
    ByTable(u64, u32),
}

impl Path {
    /// Returns the order in which code is visited: what is least certain comes last.
    pub fn rank(self) -> u32 {
        match self {
            Self::Certain => 0,
            Self::AfterReturningCall(_) => 1,
            Self::AfterCall(_) => 2,
            Self::ByTable(_, word) => word.saturating_add(3),
        }
    }

    /// Returns the rank, the same for all words of tables.
    pub fn class(self) -> u32 {
        self.rank().min(3)
    }

    /// Returns the path that goes on after a call, which `returns` for certain or perhaps.
    pub fn after_call(self, call: u64, returns: bool) -> Self {
        match (returns, self) {
            (_, Self::ByTable(..)) | (true, Self::AfterCall(_)) => self,
            (true, _) => Self::AfterReturningCall(call),
            (false, _) => Self::AfterCall(call),
        }
    }

    /// Returns the path that goes on by a word of a jump table, whose length is certain or not.
    pub fn by_table(self, table: u64, word: u32, is_certain: bool) -> Self {
        match self {
            Self::ByTable(..) => self,
            _ if is_certain => self,
            _ => Self::ByTable(table, word),
        }
    }
}

/// Paths that turned out to be none, because what is known on them disagrees with other paths.
#[derive(Debug, Default)]
pub(super) struct DeadPaths {
    /// Calls that do not return.
    calls: HashSet<u64>,
    /// The number of words of jump tables, by their addresses.
    tables: HashMap<u64, u32>,
    /// Words at the beginning of jump tables that do not belong to them: table and index.
    unused: HashSet<(u64, u32)>,
}

impl DeadPaths {
    /// Adds a path. Returns whether it may be none.
    pub fn add(&mut self, path: Path) -> bool {
        match path {
            Path::Certain => return false,
            Path::AfterReturningCall(call) | Path::AfterCall(call) => {
                self.calls.insert(call);
            }
            Path::ByTable(table, word) if word < UNUSED_MAX => {
                self.unused.insert((table, word));
            }
            Path::ByTable(table, word) => {
                let count = self.tables.entry(table).or_insert(word);
                *count = word.min(*count);
            }
        }
        true
    }

    /// Returns whether a call was found not to return.
    pub fn is_last_call(&self, call: u64) -> bool {
        self.calls.contains(&call)
    }

    /// Returns whether a word belongs to a jump table, as far as is known.
    pub fn has_word(&self, table: u64, word: u32) -> bool {
        self.tables.get(&table).is_none_or(|count| word < *count)
            && !self.unused.contains(&(table, word))
    }
}
