//! Recognizes text of a file that a program has copied into other memory: into huge pages in its
//! place (`node --use-largepages`, hugify), or to where mremap has moved it.
//!
//! Such memory lies where the file was loaded, and what it contains decides: it is text of the file
//! only if its bytes are those of the file. What a JIT compiler writes there is not.

use profile::{ExecutableId, FileAddr, FileOffset, Pid, Tid, VirtAddr};

use super::executables::Executables;
use super::file_helper::ComparedText;
use super::mappings::{AddressSpace, Mapping};
use super::process_reader::ReadStart;
use super::process_table::Processes;
use crate::events::{FileIdentity, MmapEvent};

/// Text of a file, and where it would be in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TextPlace {
    executable: ExecutableId,
    /// Offset in the file of the first byte.
    offset: u64,
    /// Address after the last one.
    end: u64,
}

impl Processes {
    /// Remembers the mappings of files that a mapping of other memory is about to replace.
    pub(super) fn note_replaced(&mut self, pid: Pid, start: VirtAddr, end: VirtAddr) {
        let Self { by_pid, executables, .. } = self;
        let Some(process) = by_pid.get_mut(&pid) else { return };
        let of_file = |mapping: &&Mapping| executables.get(mapping.executable).has_text();
        let overlapping = process.address_space.overlapping(start.0, end.0);
        let replaced: Vec<Mapping> = overlapping.filter(of_file).copied().collect();
        replaced.into_iter().for_each(|mapping| process.copy_sources.add(mapping));
    }

    /// Maps the file whose text memory is a copy of. `tid`: a running thread of the process.
    pub(super) fn recognize_copied_text(&mut self, pid: Pid, tid: Tid, start: u64, end: u64) {
        let Some(process) = self.by_pid.get(&pid) else { return };
        if process.copy_sources.is_exhausted() {
            return;
        }
        let (space, sources) = (&process.address_space, process.copy_sources.mappings());
        let Some(place) = find_text(&self.executables, space, sources, start, end) else { return };
        if !self.has_read_time(pid) {
            return;
        }
        let is_copy = self.is_copy(pid, tid, start, place);
        let Some(process) = self.by_pid.get_mut(&pid) else { return };
        if !is_copy {
            process.copy_sources.count_failure();
            return;
        }
        let mapped = MmapEvent {
            pid,
            tid,
            start: VirtAddr(start),
            end: VirtAddr(place.end),
            offset: place.offset,
            file: FileIdentity::default(),
            path: Box::default(),
        };
        self.insert_mapping(&mapped, Some(place.executable));
    }

    /// Maps the files whose text memory of a process that was just read is a copy of.
    pub(super) fn recognize_copied_texts(&mut self, pid: Pid, tid: Tid) {
        let Some(process) = self.by_pid.get(&pid) else { return };
        let is_opaque = |mapping: &&Mapping| self.executables.is_opaque(mapping.executable);
        let opaque = process.address_space.iter().filter(is_opaque);
        let ranges: Vec<_> = opaque.map(|mapping| (mapping.start, mapping.end)).collect();
        ranges.into_iter().for_each(|(from, to)| self.recognize_copied_text(pid, tid, from, to));
    }

    /// Compares memory with the text of a file through the file helper, and charges the time.
    fn is_copy(&mut self, pid: Pid, tid: Tid, start: u64, place: TextPlace) -> bool {
        let (owner, begin) = (self.owner(pid), ReadStart::now(&self.executables.file_helper));
        let text = ComparedText { start, bytes: place.end - start, offset: place.offset };
        let is_copy = self.executables.is_copy(place.executable, (pid, tid), text, owner);
        self.reader.charge_since(begin, owner, &self.executables.file_helper);
        is_copy
    }
}

/// Finds the file whose text belongs at an address: one that is mapped beside it, or was mapped
/// there, at the distance that its program headers have.
fn find_text(
    executables: &Executables,
    space: &AddressSpace,
    sources: &[Mapping],
    start: u64,
    end: u64,
) -> Option<TextPlace> {
    let mut candidates = sources.iter().rev().chain(space.neighbours(start));
    candidates.find_map(|mapping| {
        let executable = executables.get(mapping.executable);
        let first = executable.address_of_mapping(FileOffset(mapping.offset))?;
        let address = FileAddr(start.wrapping_sub(mapping.start).wrapping_add(first.0));
        let (offset, rest) = executable.text_from(address)?;
        let end = end.min(start.saturating_add(rest));
        Some(TextPlace { executable: mapping.executable, offset: offset.0, end })
    })
}
