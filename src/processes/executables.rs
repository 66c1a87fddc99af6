//! All executables: each stored once, its file opened while a process that maps it is alive.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use profile::{ExecutableId, Frame, Pid, VirtAddr, Window};

use super::content::Content;
use super::elf::Elf;
use super::executable::{Executable, ExecutableOrigin, WindowExecutables};
use super::file_helper::{FileHelper, OpenedFile};
use super::kernel_code::VDSO;
use super::mappings::AddressSpace;
use crate::events::{FileIdentity, MmapEvent};
use crate::workers::Usage;

/// Executables known at once; further ones count as unknown memory.
const EXECUTABLES_MAX: usize = 1 << 16;

/// How a mapping names its file: mappings with equal keys have the same executable. Memory without
/// a file belongs to its process, except for the vDSO, which all share.
type MappingKey = (FileIdentity, Box<str>, Option<Pid>);

fn key_of(mapped: &MmapEvent) -> MappingKey {
    let is_private = is_memory(&mapped.path) && &*mapped.path != VDSO;
    (mapped.file, mapped.path.clone(), is_private.then_some(mapped.pid))
}

/// The executable of a key.
#[derive(Clone, Copy, Debug)]
struct KeyEntry {
    id: ExecutableId,
    /// The round since which the file is assumed to be unchanged; the assumption holds until the
    /// end of the next round. Set when the file cannot be checked because it is not open itself: it
    /// could not be opened, or it is a copy of an open file.
    assumed_unchanged_since: Option<u64>,
}

/// An executable, and why it is retained.
#[derive(Debug)]
struct Retained {
    executable: Arc<Executable>,
    /// The last round with a new mapping of it.
    last_mapped: u64,
    /// The last window with frames in it.
    last_sampled: Option<u64>,
}

impl Retained {
    fn new(executable: Executable) -> Self {
        Self { executable: Arc::new(executable), last_mapped: 0, last_sampled: None }
    }
}

/// The executables that are mapped somewhere, or were a moment ago, or have frames in a window that
/// is not complete.
#[derive(Debug)]
pub struct Executables {
    by_id: HashMap<ExecutableId, Retained>,
    by_key: HashMap<MappingKey, KeyEntry>,
    by_content: HashMap<Content, ExecutableId>,
    next_id: u32,
    /// Counts calls of [`Self::remove_unused`].
    round: u64,
    file_helper: FileHelper,
    open: usize,
    open_max: usize,
    unopened: u64,
    unanswered: u64,
}

impl Executables {
    /// Returns the kernel and unknown memory. `open_max`: files to hold open at the same time.
    /// `program`: everytick itself, which is also the file helper.
    pub fn new(open_max: usize, program: &str) -> Self {
        let reserved = [
            (ExecutableId::KERNEL, Retained::new(Executable::kernel())),
            (ExecutableId::UNKNOWN, Retained::new(Executable::unknown())),
        ];
        Self {
            by_id: reserved.into(),
            by_key: HashMap::new(),
            by_content: HashMap::new(),
            next_id: ExecutableId::UNKNOWN.0 + 1, // the last reserved one
            round: 0,
            file_helper: FileHelper::new(program),
            open: 0,
            open_max,
            unopened: 0,
            unanswered: 0,
        }
    }

    /// Returns an executable; the unknown one if it was removed.
    pub fn get(&self, id: ExecutableId) -> &Executable {
        &self.by_id.get(&id).unwrap_or_else(|| &self.by_id[&ExecutableId::UNKNOWN]).executable
    }

    /// Returns the executables that a window has frames in.
    pub fn of_window(&self, window: &Window) -> WindowExecutables {
        let ids = window.frames().map(|frame| frame.executable).chain([ExecutableId::UNKNOWN]);
        let executable = |id| Some((id, Arc::clone(&self.by_id.get(&id)?.executable)));
        WindowExecutables(ids.filter_map(executable).collect())
    }

    /// Returns how many are known.
    pub fn count(&self) -> usize {
        self.by_id.len()
    }

    /// Resolves a user address to a frame; `None` outside executable mappings.
    pub fn resolve(&self, address_space: &AddressSpace, address: VirtAddr) -> Option<Frame> {
        let (mapping, offset) = address_space.find(address)?;
        let executable = mapping.executable;
        Some(Frame { executable, address: self.get(executable).address_of(offset, address) })
    }

    /// Returns how many files could not be opened or held open.
    pub fn unopened(&self) -> u64 {
        self.unopened
    }

    /// Returns how many of these were on a file system that did not answer.
    pub fn unanswered(&self) -> u64 {
        self.unanswered
    }

    /// Returns whether a file system on which files stayed unopened has answered since the last
    /// call.
    pub fn take_recovered(&mut self) -> bool {
        self.file_helper.take_recovered()
    }

    /// Returns what the file helper has used so far.
    pub fn file_helper_usage(&self) -> Usage {
        self.file_helper.usage()
    }

    /// Retains an executable until this window is complete, because it has frames in it.
    pub fn mark_sampled(&mut self, id: ExecutableId, window: u64) {
        if let Some(retained) = self.by_id.get_mut(&id) {
            retained.last_sampled = retained.last_sampled.max(Some(window));
        }
    }

    /// Removes executables that are not in `mapped`, have no frames in a window from
    /// `oldest_window` on, and got no new mapping since the last call; closes their files. Returns
    /// what was removed.
    pub fn remove_unused(
        &mut self,
        mapped: &HashSet<ExecutableId>,
        oldest_window: u64,
    ) -> Vec<ExecutableId> {
        let round = self.round;
        self.round += 1;
        let is_unused = |id: &ExecutableId, retained: &Retained| {
            let is_reserved = [ExecutableId::KERNEL, ExecutableId::UNKNOWN].contains(id);
            let is_sampled = retained.last_sampled.is_some_and(|window| window >= oldest_window);
            !is_reserved && retained.last_mapped < round && !is_sampled && !mapped.contains(id)
        };
        let unused = self.by_id.iter().filter(|(id, retained)| is_unused(id, retained));
        let unused: HashSet<ExecutableId> = unused.map(|(id, _)| *id).collect();
        self.by_key.retain(|_, entry| {
            let is_assumption_recent =
                entry.assumed_unchanged_since.is_none_or(|since| since >= round);
            is_assumption_recent && !unused.contains(&entry.id)
        });
        if unused.is_empty() {
            return Vec::new();
        }
        for retained in unused.iter().filter_map(|id| self.by_id.remove(id)) {
            self.open -=
                usize::from(matches!(retained.executable.origin, ExecutableOrigin::File(_)));
        }
        self.by_content.retain(|_, id| !unused.contains(id));
        unused.into_iter().collect()
    }

    /// Returns the executable of a mapping, as of when the mapping was first seen.
    pub(super) fn find(&mut self, mapped: &MmapEvent) -> ExecutableId {
        match self.by_key.get(&key_of(mapped)) {
            Some(entry) => entry.id,
            None => self.find_or_open(mapped),
        }
    }

    /// Returns the executable of a new mapping; opens its file unless it is open and unchanged.
    pub(super) fn find_or_open(&mut self, mapped: &MmapEvent) -> ExecutableId {
        let key = key_of(mapped);
        let entry = self.by_key.get(&key).copied();
        let is_valid = |entry: &KeyEntry| {
            entry.assumed_unchanged_since.is_some() || self.is_unchanged(entry.id)
        };
        let id = match entry.filter(is_valid) {
            Some(entry) => entry.id,
            None => self.add(key, mapped),
        };
        if let Some(retained) = self.by_id.get_mut(&id) {
            retained.last_mapped = self.round;
        }
        id
    }

    /// Returns whether a file has the content that it had when it was opened: it may have been
    /// overwritten in place.
    fn is_unchanged(&self, id: ExecutableId) -> bool {
        let executable = self.get(id);
        match (&executable.origin, executable.content) {
            (ExecutableOrigin::File(file), Some(content)) => content.matches(file),
            _ => true,
        }
    }

    fn add(&mut self, key: MappingKey, mapped: &MmapEvent) -> ExecutableId {
        if self.by_key.len() >= EXECUTABLES_MAX {
            return ExecutableId::UNKNOWN;
        }
        let (id, is_verifiable) = if &*mapped.path == VDSO {
            (self.insert(Executable::vdso()), true)
        } else if is_memory(&mapped.path) {
            let name = memory_name(&mapped.path);
            (self.insert(Executable::without_file(name, ExecutableOrigin::Memory)), true)
        } else {
            self.add_file(mapped)
        };
        let assumed_unchanged_since = (!is_verifiable).then_some(self.round);
        self.by_key.insert(key, KeyEntry { id, assumed_unchanged_since });
        id
    }

    fn insert(&mut self, executable: Executable) -> ExecutableId {
        let id = ExecutableId(self.next_id);
        self.next_id += 1;
        self.by_id.insert(id, Retained::new(executable));
        id
    }

    /// Returns the executable of a file, and whether this very file is held open.
    fn add_file(&mut self, mapped: &MmapEvent) -> (ExecutableId, bool) {
        let name = path_name(&mapped.path);
        let opened = if self.open < self.open_max {
            self.file_helper.open(mapped)
        } else {
            Err(io::Error::other("too many executables are open"))
        };
        let OpenedFile { file, elf, content } = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.unopened += 1;
                self.unanswered += u64::from(error.kind() == io::ErrorKind::TimedOut);
                return (
                    self.insert(Executable::without_file(name, ExecutableOrigin::Unopened)),
                    false,
                );
            }
        };
        if let Some(id) = self.by_content.get(&content).filter(|id| self.is_unchanged(**id)) {
            return (*id, false); // a copy, or the same file under another name
        }
        self.open += 1;
        let Elf { build_id, segments } = elf;
        // A file that is not ELF contains code of a JIT compiler, which continues to write there.
        let content_id = if segments.is_empty() { None } else { content.id(&file).ok() };
        let id = self.insert(Executable {
            name: name.into(),
            build_id,
            origin: ExecutableOrigin::File(file),
            content: content_id,
            segments,
        });
        self.by_content.insert(content, id);
        (id, true)
    }
}

/// Returns whether a mapping is memory without a file. The kernel names such memory in brackets,
/// `//anon`, or not at all.
fn is_memory(path: &str) -> bool {
    !path.starts_with('/') || path.starts_with("//anon")
}

/// Names memory without a file: code there was made by a JIT compiler.
fn memory_name(path: &str) -> &str {
    if path.starts_with('[') && !path.starts_with("[anon") { path } else { "[jit]" }
}

/// Returns the path without what the kernel appends once the file is deleted.
fn path_name(path: &str) -> &str {
    path.strip_suffix(" (deleted)").unwrap_or(path)
}
