//! Files that could not be symbolized, so that they are not read again in each window.

use std::collections::HashMap;

use super::client::{SymbolRequest, SymbolizeError};
use super::file_key::FileKey;

/// Windows after which a file is tried again.
const WINDOWS: u64 = 60;
/// Most files that are remembered; beyond, the oldest are forgotten.
const FILES_MAX: usize = 4096;

/// What is known about a file that has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FileState {
    /// The first attempt took too much CPU time.
    Slow,
    /// Its debug info takes too much: it is symbolized by its symbol tables.
    SymbolsOnly,
    /// It has no symbols, for this reason.
    Refused(SymbolizeError),
}

/// Files that have failed, and since which window.
#[derive(Debug, Default)]
pub(super) struct Refusals(HashMap<FileKey, (FileState, u64)>);

impl Refusals {
    /// Returns what is known about a file; `None` when it may be read as any.
    pub fn state(&self, file: FileKey, window: u64) -> Option<&FileState> {
        let (state, since) = self.0.get(&file)?;
        (window < since + WINDOWS).then_some(state)
    }

    /// Remembers what follows from an error in this window, if anything does.
    pub fn failed(&mut self, request: &SymbolRequest, error: &SymbolizeError, window: u64) {
        let is_first = self.state(request.file, window).is_none();
        let is_file = request.limits.is_some();
        let state = match error {
            SymbolizeError::NoTime
            | SymbolizeError::ShareSpent
            | SymbolizeError::NotWanted
            | SymbolizeError::Changed
            | SymbolizeError::NotStarted(_) => return,
            SymbolizeError::TooSlow if is_first && is_file => FileState::Slow,
            error if error.has_another_way() && is_file && !request.symbols_only => {
                FileState::SymbolsOnly
            }
            error => FileState::Refused(error.clone()),
        };
        self.insert(request.file, state, window);
    }

    /// Remembers a file that has failed in this window.
    pub fn insert(&mut self, file: FileKey, state: FileState, window: u64) {
        self.0.insert(file, (state, window));
        if self.0.len() > FILES_MAX {
            let mut windows: Vec<u64> = self.0.values().map(|(_, since)| *since).collect();
            windows.sort_unstable();
            let oldest = windows[windows.len() / 2];
            // Where all are of one window, half of them go, whichever they are.
            let mut left = FILES_MAX / 2;
            self.0.retain(|key, (_, since)| {
                let stays = *key == file || (*since >= oldest && left > 0);
                left -= usize::from(stays && left > 0);
                stays
            });
        }
    }

    /// Forgets the files whose time is over.
    pub fn expire(&mut self, window: u64) {
        self.0.retain(|_, (_, since)| window < *since + WINDOWS);
    }
}

#[cfg(test)]
mod tests {
    use profile::ExecutableId;

    use super::*;

    fn file(number: u32) -> FileKey {
        FileKey::Executable(ExecutableId(number))
    }

    #[test]
    fn a_refused_file_is_tried_again_after_a_while() {
        let mut refusals = Refusals::default();
        let refused = FileState::Refused(SymbolizeError::TooSlow);
        refusals.insert(file(1), refused.clone(), 5);
        assert_eq!(refusals.state(file(1), 5 + WINDOWS - 1), Some(&refused));
        assert_eq!(refusals.state(file(2), 5), None);
        assert_eq!(refusals.state(file(1), 5 + WINDOWS), None);
        refusals.expire(5 + WINDOWS);
        assert!(refusals.0.is_empty());
    }

    #[test]
    fn remembered_files_are_bounded_and_the_last_is_among_them() {
        for per_window in [1, 100, 1_000_000] {
            let mut refusals = Refusals::default();
            for number in 0..10_000 {
                let window = u64::from(number / per_window) / 1000;
                refusals.insert(file(number), FileState::Slow, window);
                assert!(refusals.0.len() <= FILES_MAX);
                assert!(refusals.0.contains_key(&file(number)));
            }
        }
    }
}
