//! Counts of the unwind tables, for summaries and metrics.

use super::cache::CacheCounts;

/// What is loaded now, and what happened to tables so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableCounts {
    /// Executables with rows in the kernel.
    pub tables: u64,
    /// Their rows.
    pub rows: u64,
    /// Bytes of slabs, which hold rows and mappings.
    pub slab_bytes: u64,
    /// Rows of files that tables cannot express.
    pub left_out: u64,
    /// Tables evicted to make space for others.
    pub evicted: u64,
    /// Tables that did not fit.
    pub refused: u64,
    /// Executables whose rows are not read now: they do not fit, or were evicted over and over.
    pub in_backoff: u64,
    /// Files that could not be read.
    pub unreadable: u64,
    /// What became of cache lookups and writes, if there is a cache.
    pub cache: CacheCounts,
}
