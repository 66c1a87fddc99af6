//! Parsers of untrusted files: a panic costs the file in hand, and nothing else.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use unwind::ReadAt;

use super::cache::ReadRanges;

/// Has a parser read a file, and records which ranges it reads. A panic costs this file its table
/// and nothing else.
pub(super) fn guard_panic<T>(
    file: &File,
    ranges: &ReadRanges,
    parse: impl FnOnce(ReadAt<'_>) -> T,
) -> Option<T> {
    let at = |offset: u64, bytes: &mut [u8]| {
        ranges.add(offset, bytes.len());
        file.read_exact_at(bytes, offset).is_ok()
    };
    catch_unwind(AssertUnwindSafe(|| parse(&at))).ok()
}
