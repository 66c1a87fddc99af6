//! All executables: each stored once, its file opened while a process that maps it is alive.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::sync::Arc;

use profile::{ExecutableId, FileAddr, Frame, Pid, Tid, VirtAddr, Window};
use unwind::arch::VSYSCALL;

use super::content::{self, Content};
use super::debug_files::SeparateDebugFiles;
use super::elf::Elf;
use super::executable::{
    CodeNamesById, Executable, ExecutableOrigin, WindowExecutables, is_memory, memory_name,
};
use super::file_helper::{ComparedText, Device, FileHelper, OpenedFile};
use super::kernel_code::VDSO;
use super::mappings::AddressSpace;
use super::tracking_limit::{RefusalCounts, TrackingLimit};
use crate::events::{FileIdentity, MmapEvent};
use crate::limits::{Charge, Owner, SharedPool};
use crate::procfs::without_deleted;
use crate::runtimes::Recognition;
use crate::workers::Usage;

/// Executables known at once; further ones count as unknown memory.
const EXECUTABLES_MAX: usize = 1 << 16;
/// Bytes that the name of a mapping takes besides its text.
const KEY_BYTES: u64 = 160;
/// Bytes that an executable takes besides its name and its segments.
const EXECUTABLE_BYTES: u64 = 512;
/// Bytes that a segment takes, here and in the content that identifies the file.
const SEGMENT_BYTES: u64 = 64;
/// Bytes that a recognized runtime or C library takes.
const RECOGNITION_BYTES: u64 = size_of::<Recognition>() as u64;

/// How a mapping names its file: mappings with equal keys have the same executable. Memory without
/// a file belongs to its process, except for the vDSO, which all share; programs may name it as
/// they like (PR_SET_VMA_ANON_NAME), so its name counts as we show it.
type MappingKey = (FileIdentity, Box<str>, Option<Pid>);

fn key_of(mapped: &MmapEvent) -> MappingKey {
    match &*mapped.path {
        VDSO => (mapped.file, VDSO.into(), None),
        path if is_memory(path) => (mapped.file, memory_name(path).into(), Some(mapped.pid)),
        path => (mapped.file, path.into(), None),
    }
}

/// The executable of a key.
#[derive(Debug)]
struct KeyEntry {
    id: ExecutableId,
    /// The round since which the file is assumed to be unchanged; the assumption holds until the
    /// end of the next round. Set when the file cannot be checked because it is not open itself: it
    /// could not be opened, or it is a copy of an open file.
    assumed_unchanged_since: Option<u64>,
    /// Pays for its memory.
    _memory: Charge,
}

/// An executable, and why it is retained.
#[derive(Debug)]
struct Retained {
    executable: Arc<Executable>,
    /// The last round with a new mapping of it.
    last_mapped: u64,
    /// The last window with frames in it.
    last_sampled: Option<u64>,
    /// Pays for its memory and for the open file; `None` for those of the kernel.
    charges: Option<(Charge, Option<Charge>)>,
}

impl Retained {
    fn new(executable: Executable, charges: Option<(Charge, Option<Charge>)>) -> Self {
        Self { executable: Arc::new(executable), last_mapped: 0, last_sampled: None, charges }
    }
}

/// The executables that are mapped somewhere, or were a moment ago, or have frames in a window that
/// is not complete.
///
/// Each is charged to the owner of the process that mapped it first, with its memory and its open
/// file. Processes of other owners use it as well and pay nothing.
#[derive(Debug)]
pub struct Executables {
    by_id: HashMap<ExecutableId, Retained>,
    by_key: HashMap<MappingKey, KeyEntry>,
    by_content: HashMap<Content, ExecutableId>,
    next_id: u32,
    /// Counts calls of [`Self::remove_unused`].
    round: u64,
    pub(super) file_helper: FileHelper,
    /// The memory of all that is known about processes.
    pub(super) memory: SharedPool,
    pub(super) open_files: SharedPool,
    pub(super) refusals: RefusalCounts,
    unopened: u64,
    unanswered: u64,
}

impl Executables {
    /// Returns those that are reserved. `open_max`: files to hold open at the same time.
    /// `memory`: bytes for executables, processes and mappings. `program`: everytick itself, which
    /// is also the file helper.
    pub fn new(open_max: usize, memory: u64, program: &str) -> Self {
        let reserved = Executable::reserved().map(|(id, one)| (id, Retained::new(one, None)));
        Self {
            by_id: reserved.collect(),
            by_key: HashMap::new(),
            by_content: HashMap::new(),
            next_id: ExecutableId::FIRST_UNRESERVED.0,
            round: 0,
            file_helper: FileHelper::new(program),
            memory: SharedPool::new(memory),
            open_files: SharedPool::new(open_max as u64),
            refusals: RefusalCounts::default(),
            unopened: 0,
            unanswered: 0,
        }
    }

    /// Returns an executable; the unknown one if it was removed.
    pub fn get(&self, id: ExecutableId) -> &Executable {
        &self.by_id.get(&id).unwrap_or_else(|| &self.by_id[&ExecutableId::UNKNOWN]).executable
    }

    /// Returns the executables that a window has frames in, with the names of its code.
    pub(super) fn of_window(
        &self,
        window: &Window,
        code_names: CodeNamesById,
    ) -> WindowExecutables {
        let ids = window.frames().map(|frame| frame.executable).chain([ExecutableId::UNKNOWN]);
        let executable = |id| Some((id, Arc::clone(&self.by_id.get(&id)?.executable)));
        let by_id = ids.filter_map(executable).collect();
        WindowExecutables { by_id, code_names, knows_kernel_code: false }
    }

    /// Returns whether an executable is memory, or a file that is no program: what its code is, is
    /// not known.
    pub(super) fn is_opaque(&self, id: ExecutableId) -> bool {
        let executable = self.get(id);
        executable.segments.is_empty() && !matches!(executable.origin, ExecutableOrigin::Kernel)
    }

    /// Returns whether memory of a process, through its thread, contains text of an executable's
    /// file. `owner`: who pays for comparing.
    pub(super) fn is_copy(
        &mut self,
        id: ExecutableId,
        process: (Pid, Tid),
        text: ComparedText,
        owner: Owner,
    ) -> bool {
        let Some(Retained { executable, .. }) = self.by_id.get(&id) else { return false };
        let file = executable.file().filter(|_| !executable.is_changed());
        file.is_some_and(|file| self.file_helper.is_copy(process, file, text, owner))
    }

    /// Returns how many are known.
    pub fn count(&self) -> usize {
        self.by_id.len()
    }

    /// Resolves a user address to a frame; `None` outside executable mappings.
    pub fn resolve(&self, address_space: &AddressSpace, address: VirtAddr) -> Option<Frame> {
        if VSYSCALL.contains(&address.0) {
            let address = FileAddr(address.0);
            return Some(Frame::new(ExecutableId::VSYSCALL, address));
        }
        let (mapping, offset) = address_space.find(address)?;
        let executable = mapping.executable;
        Some(Frame::new(executable, self.get(executable).address_of(offset, address)))
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
            let is_sampled = retained.last_sampled.is_some_and(|window| window >= oldest_window);
            !id.is_reserved() && retained.last_mapped < round && !is_sampled && !mapped.contains(id)
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
        self.by_id.retain(|id, _| !unused.contains(id));
        self.by_content.retain(|_, id| !unused.contains(id));
        unused.into_iter().collect()
    }

    /// Returns who pays for an executable: the owner of the process that mapped it first.
    pub fn owner(&self, id: ExecutableId) -> Owner {
        let charges = self.by_id.get(&id).and_then(|retained| retained.charges.as_ref());
        charges.map_or(Owner::SYSTEM, |(memory, _)| memory.owner())
    }

    /// Returns the executable of a mapping, as of when the mapping was first seen; `None` if it was
    /// not.
    pub(super) fn find(&self, mapped: &MmapEvent) -> Option<ExecutableId> {
        self.by_key.get(&key_of(mapped)).map(|entry| entry.id)
    }

    /// Returns the executable of a new mapping if its file is open and unchanged. `owner`: of the
    /// process, for which a file is opened that another owner had no share left for.
    pub(super) fn find_unchanged(
        &mut self,
        mapped: &MmapEvent,
        owner: Owner,
    ) -> Option<ExecutableId> {
        let entry = self.by_key.get(&key_of(mapped))?;
        let id = entry.id;
        let executable = self.get(id);
        let is_valid = match (&executable.origin, entry.assumed_unchanged_since) {
            (ExecutableOrigin::Unopened, _) => self.owner(id) == owner,
            (_, Some(_)) => true,
            (_, None) => !executable.is_changed(),
        };
        is_valid.then(|| self.mark_mapped(id))
    }

    /// Opens the file of a new mapping, and returns its executable. `owner`: who pays for it.
    pub(super) fn open(&mut self, mapped: &MmapEvent, owner: Owner) -> ExecutableId {
        let id = self.add(mapped, owner);
        self.mark_mapped(id)
    }

    fn mark_mapped(&mut self, id: ExecutableId) -> ExecutableId {
        if let Some(retained) = self.by_id.get_mut(&id) {
            retained.last_mapped = self.round;
        }
        id
    }

    fn add(&mut self, mapped: &MmapEvent, owner: Owner) -> ExecutableId {
        let key = key_of(mapped);
        self.by_key.remove(&key);
        let bytes = KEY_BYTES + key.1.len() as u64;
        let has_space = self.by_key.len() < EXECUTABLES_MAX;
        // The file helper is not asked for a file that would not fit.
        let charge = self.memory.charge(owner, bytes).filter(|_| {
            has_space && self.memory.has_space(owner, EXECUTABLE_BYTES + key.1.len() as u64)
        });
        let Some(charge) = charge else {
            self.refusals.count(TrackingLimit::Executables);
            return ExecutableId::UNKNOWN;
        };
        let (id, is_verifiable) = if &*mapped.path == VDSO {
            (self.insert(Executable::vdso(), Owner::SYSTEM, None), true)
        } else if is_memory(&mapped.path) {
            let memory = Executable::memory_of(mapped.pid, &key.1);
            (self.insert(memory, owner, None), true)
        } else {
            self.add_file(mapped, owner)
        };
        let assumed_unchanged_since = (!is_verifiable).then_some(self.round);
        if let Some(id) = id {
            self.by_key.insert(key, KeyEntry { id, assumed_unchanged_since, _memory: charge });
        }
        id.unwrap_or(ExecutableId::UNKNOWN)
    }

    /// Stores an executable; `None` when it does not fit. `file`: pays for its open file.
    fn insert(
        &mut self,
        executable: Executable,
        owner: Owner,
        file: Option<Charge>,
    ) -> Option<ExecutableId> {
        let segments = executable.segments.len() as u64 * SEGMENT_BYTES;
        let recognition = executable.recognition.as_ref().map_or(0, |_| RECOGNITION_BYTES);
        let bytes = EXECUTABLE_BYTES + executable.name.len() as u64 + segments + recognition;
        let Some(memory) = self.memory.charge(owner, bytes) else {
            self.refusals.count(TrackingLimit::Executables);
            return None;
        };
        let id = ExecutableId(self.next_id);
        self.next_id += 1;
        self.by_id.insert(id, Retained::new(executable, Some((memory, file))));
        Some(id)
    }

    /// Returns the executable of a file, and whether this very file is held open.
    fn add_file(&mut self, mapped: &MmapEvent, owner: Owner) -> (Option<ExecutableId>, bool) {
        let name = without_deleted(&mapped.path);
        let mut file_charge = self.open_files.charge(owner, 1);
        let opened = if file_charge.is_some() {
            self.file_helper.open(mapped, owner)
        } else {
            self.refusals.count(TrackingLimit::OpenFiles);
            Err(io::Error::other("too many executables are open"))
        };
        let OpenedFile { file, device, elf, content, recognition } = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.unopened += 1;
                self.unanswered += u64::from(error.kind() == io::ErrorKind::TimedOut);
                let is_answered = error.kind() != io::ErrorKind::TimedOut;
                let headers = is_answered.then(|| self.file_helper.mapped_headers(mapped, owner));
                let Elf { build_id, segments } = headers.and_then(Result::ok).unwrap_or_default();
                let unopened = Executable::without_file(name, ExecutableOrigin::Unopened);
                let unopened = Executable { build_id, segments, ..unopened };
                return (self.insert(unopened, owner, None), false);
            }
        };
        let mut debug_files = self.file_helper.debug_files(mapped, &file, owner);
        if !file_charge.as_mut().is_some_and(|charge| charge.grow(debug_files.count())) {
            self.refusals.count(TrackingLimit::OpenFiles);
            debug_files = SeparateDebugFiles::default();
        }
        if let Some(id) = self.find_same(&file, device, (&content, &debug_files), owner) {
            return (Some(id), false); // a copy, or the same file under another name
        }
        let Elf { build_id, segments } = elf;
        // A file that is not ELF contains code of a JIT compiler, which continues to write there.
        let content_id = if segments.is_empty() { None } else { content.id(&file).ok() };
        let executable = Executable {
            name: name.into(),
            build_id,
            origin: ExecutableOrigin::File(file),
            content: content_id,
            segments,
            debug_files,
            recognition,
            process: None,
        };
        let id = self.insert(executable, owner, file_charge);
        if let Some(id) = id {
            self.by_content.insert(content, id);
        }
        (id, true)
    }

    /// Returns the executable with the content and the debug files of a file that was just opened.
    /// `device`: of the file; `owner`: who pays for comparing.
    fn find_same(
        &mut self,
        file: &File,
        device: Device,
        (content, debug_files): (&Content, &SeparateDebugFiles),
        owner: Owner,
    ) -> Option<ExecutableId> {
        let id = *self.by_content.get(content)?;
        let known = Arc::clone(&self.by_id.get(&id)?.executable);
        let has_same_names = known.debug_files.is_same(debug_files);
        let other = known.file().filter(|_| has_same_names && !known.is_changed())?;
        let is_same = content.is_proof()
            || content::is_one_inode(file, other)
            || self.file_helper.is_same(device, [file, other], owner);
        is_same.then_some(id)
    }
}
