//! The mapping by which a process shows where its jitdump is.
//!
//! Source: `tools/perf/Documentation/jitdump-specification.txt` of the kernel: the file has the
//! name `jit-PID.dump`, in any directory, and is mapped as executable memory, so that its mapping
//! is reported to profilers.

use crate::events::{FileIdentity, MmapEvent};
use crate::limits::{Charge, Owner, SharedPool};
use crate::procfs::without_deleted;

/// Bytes that a marker takes besides its path.
const MARKER_BYTES: u64 = 128;

/// Which jitdump a process has mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::processes) struct JitDumpId {
    pub file: FileIdentity,
    /// The number in its name: the process, as it knows its own number.
    pub pid: u32,
}

/// The mapping of a jitdump.
#[derive(Debug)]
pub(in crate::processes) struct JitDumpMarker {
    pub mapped: MmapEvent,
    pub id: JitDumpId,
    _charge: Charge,
}

impl JitDumpMarker {
    /// Returns the marker that a mapping is; `None` if its file has another name, or if there is no
    /// memory for it.
    pub fn new(mapped: &MmapEvent, memory: &SharedPool, owner: Owner) -> Option<Self> {
        let pid = Self::number(&mapped.path)?;
        let charge = memory.charge(owner, MARKER_BYTES + mapped.path.len() as u64)?;
        let id = JitDumpId { file: mapped.file, pid };
        Some(Self { mapped: mapped.clone(), id, _charge: charge })
    }

    /// Returns the number in the name of a jitdump; `None` for other paths.
    pub fn number(path: &str) -> Option<u32> {
        let (_, name) = without_deleted(path).rsplit_once('/')?;
        let digits = name.strip_prefix("jit-")?.strip_suffix(".dump")?;
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| is_number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jitdump_is_found_by_its_name() {
        let numbers = [
            ("/a b/jit-7.dump", Some(7)),
            ("/jit-12.dump (deleted)", Some(12)),
            ("jit-7.dump", None), // memory that a program has named so
            ("/jit-7.dump/x", None),
            ("/jit-.dump", None),
            ("/jit-+7.dump", None),
            ("/jit-7x.dump", None),
            ("/jit-99999999999.dump", None),
            ("/xjit-7.dump", None),
            ("/jit-7.dumps", None),
        ];
        for (path, number) in numbers {
            assert_eq!(JitDumpMarker::number(path), number, "{path}");
        }
    }
}
