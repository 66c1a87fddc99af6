//! What is asked of the loader thread, and what it answers.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use profile::ExecutableId;
use unwind::{Block, CallFrames, Error, Table};

use super::large_files::PartLayout;
use crate::limits::Owner;
use crate::processes::ContentId;

/// Requests blocks of a file, and the whole file when it is new.
pub(super) struct LoadRequest {
    pub executable: ExecutableId,
    /// Who pays for the CPU time.
    pub owner: Owner,
    pub file: File,
    /// Content of the file when it was opened: its key in the cache.
    pub content: Option<ContentId>,
    /// Blocks that are needed first.
    pub blocks: Vec<u32>,
    /// What is needed besides.
    pub extent: LoadExtent,
}

/// How much of a file is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoadExtent {
    /// The blocks alone, while the whole file is being read.
    Blocks,
    /// The whole file, once the blocks are done.
    Whole,
    /// The blocks are parts of a large file, see [`LoadedRows::Large`].
    Parts,
}

impl LoadExtent {
    /// Returns what is requested of a file that is read as a whole, once.
    pub fn of_whole_file(is_new: bool) -> Self {
        if is_new { Self::Whole } else { Self::Blocks }
    }
}

/// The answer to a request.
pub(super) struct LoadResult {
    pub executable: ExecutableId,
    pub rows: LoadedRows,
}

/// The rows that were read.
pub(super) enum LoadedRows {
    /// Requested blocks by number, of a table whose text begins at this address.
    Blocks { text_start: u64, blocks: Vec<(u32, Block)> },
    /// All blocks of a file for which rows will be derived: where it has no row, one may come.
    WithPendingGaps(Table),
    /// The file is large: its rows come in parts, when they are requested.
    Large(PartLayout),
    /// All requested parts of a large file: number, block and rows of each.
    Parts(Vec<(u32, Block, u64)>),
    /// All call frames, `None` when the parser panicked; and the CPU time that reading took.
    Table { frames: Option<Result<CallFrames, Error>>, cost: Duration },
}

impl LoadedRows {
    /// Returns whether the answer to a request for the whole file is still to come.
    pub fn is_ahead(&self) -> bool {
        matches!(self, Self::Blocks { .. } | Self::WithPendingGaps(_))
    }
}

/// Ends reading tables, from any thread.
#[derive(Clone, Debug, Default)]
pub struct LoadingCanceller(Arc<AtomicBool>);

impl LoadingCanceller {
    /// Ends it at the next function of the file in hand: no more tables are needed.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(super) fn is_canceled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
