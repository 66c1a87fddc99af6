//! The debug info and symbols of an executable that lie in files of their own.

mod search;

use std::fs::File;

use symbolizer::proto::FileRole;

use super::content::is_one_inode;
pub use search::{DebugFileSearch, SearchOutcome, SearchedPath};

/// Debug files of an executable, held open as it is.
#[derive(Debug, Default)]
pub struct SeparateDebugFiles(Vec<(FileRole, File)>);

impl SeparateDebugFiles {
    pub(super) fn new(roles: impl Iterator<Item = FileRole>, files: Vec<File>) -> Self {
        let mut files: Vec<(FileRole, File)> = roles.zip(files).collect();
        files.sort_by_key(|(role, _)| *role);
        Self(files)
    }

    /// Returns each file with its role.
    pub fn iter(&self) -> impl Iterator<Item = (FileRole, &File)> {
        self.0.iter().map(|(role, file)| (*role, file))
    }

    /// Returns how many there are.
    pub fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// Returns whether the others are the same files.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let is_same = |((role, file), (other_role, other)): (_, (FileRole, &File))| {
            role == other_role && is_one_inode(file, other)
        };
        self.count() == other.count() && self.iter().zip(other.iter()).all(is_same)
    }
}
