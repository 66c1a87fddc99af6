//! The files behind mappings: each stored once, opened while a process that maps it lives.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use profile::{
    BuildId, ExecutableId, FileAddr, FileOffset, Frame, MappingKind, Pid, VirtAddr, Window,
};
use symbolizer::Usage;

use super::content::{Content, ContentId};
use super::elf::{self, Segment};
use super::file_helper::{FileHelper, Opened};
use super::mappings::AddressSpace;
use crate::events::{FileIdentity, MmapEvent};

/// An executable: a file, memory without a file, or the kernel.
#[derive(Debug)]
pub struct Executable {
    /// Path in its process's root, or a name in brackets.
    pub name: Box<str>,
    /// Its build id, if it has one.
    pub build_id: Option<BuildId>,
    /// Where its symbols can be found.
    pub origin: Origin,
    /// What its file held when it was opened, if it is an ELF file.
    pub content: Option<ContentId>,
    segments: Vec<Segment>,
}

/// What is behind an executable.
#[derive(Debug)]
pub enum Origin {
    /// The running kernel.
    Kernel,
    /// A file that is held open.
    File(File),
    /// The kernel's vDSO, copied.
    Vdso(File),
    /// Memory without a file.
    Memory,
    /// A file that could not be opened: gone, or not the file that was mapped, or one too many.
    Unopened,
}

impl Executable {
    /// Memory that nothing is known about.
    pub fn unknown() -> Self {
        memory("[unknown]")
    }

    /// Says what pprof should know it as.
    pub fn kind(&self) -> MappingKind {
        match self.origin {
            Origin::Kernel => MappingKind::Kernel,
            Origin::File(_) | Origin::Unopened => MappingKind::File,
            Origin::Vdso(_) | Origin::Memory => MappingKind::Memory,
        }
    }

    /// Gives the addresses that its code lies between, as its program headers tell.
    pub fn text(&self) -> Option<Range<u64>> {
        let ranges = self.segments.iter().filter_map(Segment::text);
        ranges.reduce(|all, one| all.start.min(one.start)..all.end.max(one.end))
    }

    /// Gives its file, if there is one that is open.
    pub fn file(&self) -> Option<&File> {
        match &self.origin {
            Origin::File(file) | Origin::Vdso(file) => Some(file),
            Origin::Kernel | Origin::Memory | Origin::Unopened => None,
        }
    }

    /// Gives the address in the file of an offset in it. Memory keeps its virtual address, and
    /// a file without load segments counts from its start.
    pub fn address_of(&self, offset: FileOffset, address: VirtAddr) -> FileAddr {
        match self.origin {
            Origin::Kernel | Origin::Memory => FileAddr(address.0),
            Origin::File(_) | Origin::Vdso(_) | Origin::Unopened => {
                elf::address_of(&self.segments, offset).unwrap_or(FileAddr(offset.0))
            }
        }
    }
}

/// What the kernel calls the code that it gives every process.
const VDSO: &str = "[vdso]";

/// How a mapping names its file: two mappings with equal keys have the same executable.
/// Memory without a file is its process's own, but for the vDSO, which all share.
type Key = (FileIdentity, Box<str>, Option<Pid>);

fn key_of(mapped: &MmapEvent) -> Key {
    let is_own = is_memory(&mapped.path) && &*mapped.path != VDSO;
    let owner = is_own.then_some(mapped.pid);
    (mapped.file, mapped.path.clone(), owner)
}

/// What a key stands for.
#[derive(Clone, Copy, Debug)]
struct Meant {
    id: ExecutableId,
    /// The round of [`Executables::forget`] in which that was found out, if no open file would tell of a change: it could not be
    /// opened, or is a copy of one that is. That is believed until the end of the next round.
    unwatched: Option<u64>,
}

/// The executables that a window has frames in: as they were and open, however long it takes to name it.
#[derive(Debug)]
pub struct WindowExecutables(HashMap<ExecutableId, Arc<Executable>>);

impl WindowExecutables {
    /// Gives an executable; what is unknown for one that the window has no frames in.
    pub fn get(&self, id: ExecutableId) -> &Arc<Executable> {
        self.0.get(&id).unwrap_or_else(|| &self.0[&ExecutableId::UNKNOWN])
    }

    /// Gives all of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Executable>> {
        self.0.values()
    }
}

/// An executable, and why it is kept.
#[derive(Debug)]
struct Known {
    executable: Arc<Executable>,
    /// The round of [`Executables::forget`] in which a mapping of it was last heard of.
    heard: u64,
    /// The last window that it has frames in.
    sampled: Option<u64>,
}

impl Known {
    fn new(executable: Executable) -> Self {
        Self { executable: Arc::new(executable), heard: 0, sampled: None }
    }
}

/// All executables that are mapped somewhere, or were a moment ago, or have frames in a window that is not complete.
#[derive(Debug)]
pub struct Executables {
    all: HashMap<ExecutableId, Known>,
    next: u32,
    round: u64,
    by_key: HashMap<Key, Meant>,
    by_content: HashMap<Content, ExecutableId>,
    file_helper: FileHelper,
    open: usize,
    open_max: usize,
    unopened: u64,
    unanswered: u64,
}

/// Executables known at once; what comes on top is taken for unknown memory.
const EXECUTABLES_MAX: usize = 1 << 16;

impl Executables {
    /// Knows the kernel and unknown memory. `open_max`: files to hold open at the same time. `program`: everytick itself,
    /// which is also the worker that opens them.
    pub fn new(open_max: usize, program: &str) -> Self {
        let kernel = Executable {
            name: "[kernel.kallsyms]".into(),
            build_id: super::proc::kernel_build_id(),
            origin: Origin::Kernel,
            ..memory("")
        };
        let all = [(ExecutableId::KERNEL, kernel), (ExecutableId::UNKNOWN, Executable::unknown())];
        let all = all.map(|(id, executable)| (id, Known::new(executable)));
        let next = ExecutableId::UNKNOWN.0 + 1; // the last of those that have a meaning of their own
        Self {
            all: all.into(),
            next,
            round: 0,
            by_key: HashMap::new(),
            by_content: HashMap::new(),
            file_helper: FileHelper::new(program),
            open: 0,
            open_max,
            unopened: 0,
            unanswered: 0,
        }
    }

    /// Gives an executable; what is unknown for one that was forgotten.
    pub fn get(&self, id: ExecutableId) -> &Executable {
        &self.all.get(&id).unwrap_or_else(|| &self.all[&ExecutableId::UNKNOWN]).executable
    }

    /// Keeps those that a window has frames in.
    pub fn of_window(&self, window: &Window) -> WindowExecutables {
        let ids = window.frames().map(|frame| frame.executable).chain([ExecutableId::UNKNOWN]);
        let known = ids.filter_map(|id| Some((id, Arc::clone(&self.all.get(&id)?.executable))));
        WindowExecutables(known.collect())
    }

    /// How many are known.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Finds the instruction at a user address; `None` outside executable mappings.
    pub fn resolve(&self, memory: &AddressSpace, address: VirtAddr) -> Option<Frame> {
        let (mapping, offset) = memory.find(address)?;
        let executable = mapping.executable;
        Some(Frame { executable, address: self.get(executable).address_of(offset, address) })
    }

    /// Executables whose file could not be opened or not be held.
    pub fn unopened(&self) -> u64 {
        self.unopened
    }

    /// Whether a file system answers again that had not: files of it may be taken for unopened that can be opened.
    pub fn take_recovered(&mut self) -> bool {
        self.file_helper.take_recovered()
    }

    /// Those among them whose file system did not answer.
    pub fn unanswered(&self) -> u64 {
        self.unanswered
    }

    /// What the process has used so far that opens files.
    pub fn file_helper_usage(&self) -> Usage {
        self.file_helper.usage()
    }

    /// Keeps an executable until this window is complete: it has frames in it.
    pub fn mark_sampled(&mut self, id: ExecutableId, window: u64) {
        if let Some(known) = self.all.get_mut(&id) {
            known.sampled = known.sampled.max(Some(window));
        }
    }

    /// Forgets what is not `mapped`, has no frames in a window from `oldest` on, and was not heard of since the last time
    /// that this was called; closes its files. Gives what is forgotten.
    pub fn remove_unused(
        &mut self,
        mapped: &HashSet<ExecutableId>,
        oldest: u64,
    ) -> Vec<ExecutableId> {
        let round = self.round;
        self.round += 1;
        let is_unused = |id: &ExecutableId, known: &Known| {
            let is_lasting = [ExecutableId::KERNEL, ExecutableId::UNKNOWN].contains(id);
            let is_sampled = known.sampled.is_some_and(|window| window >= oldest);
            !is_lasting && known.heard < round && !is_sampled && !mapped.contains(id)
        };
        let unused: HashSet<ExecutableId> =
            self.all.iter().filter(|(id, at)| is_unused(id, at)).map(|(id, _)| *id).collect();
        let is_believed = |meant: &Meant| meant.unwatched.is_none_or(|found| found >= round);
        self.by_key.retain(|_, meant| is_believed(meant) && !unused.contains(&meant.id));
        if unused.is_empty() {
            return Vec::new();
        }
        for known in unused.iter().filter_map(|id| self.all.remove(id)) {
            self.open -= usize::from(matches!(known.executable.origin, Origin::File(_)));
        }
        self.by_content.retain(|_, id| !unused.contains(id));
        unused.into_iter().collect()
    }

    /// Gives the executable behind a mapping that has been opened when it was first heard of.
    pub(super) fn find(&mut self, mapped: &MmapEvent) -> ExecutableId {
        match self.by_key.get(&key_of(mapped)) {
            Some(meant) => meant.id,
            None => self.find_or_open(mapped),
        }
    }

    /// Gives the executable behind a mapping; meets it if it is new.
    pub(super) fn find_or_open(&mut self, mapped: &MmapEvent) -> ExecutableId {
        let key = key_of(mapped);
        let is_right = |meant: &Meant| meant.unwatched.is_some() || self.is_as_it_was(meant.id);
        let id = match self.by_key.get(&key).copied().filter(is_right) {
            Some(meant) => meant.id,
            None => self.meet(key, mapped),
        };
        if let Some(known) = self.all.get_mut(&id) {
            known.heard = self.round;
        }
        id
    }

    /// Whether a file still holds what it did when it was opened: it may be written anew in its place.
    fn is_as_it_was(&self, id: ExecutableId) -> bool {
        let executable = self.get(id);
        match (&executable.origin, executable.content) {
            (Origin::File(file), Some(content)) => content.is_in(file),
            _ => true,
        }
    }

    fn meet(&mut self, key: Key, mapped: &MmapEvent) -> ExecutableId {
        if self.by_key.len() >= EXECUTABLES_MAX {
            return ExecutableId::UNKNOWN;
        }
        let (id, is_watched) = if &*mapped.path == VDSO {
            (self.store(vdso()), true)
        } else if is_memory(&mapped.path) {
            (self.store(memory(memory_name(&mapped.path))), true)
        } else {
            self.meet_file(mapped)
        };
        let unwatched = (!is_watched).then_some(self.round);
        self.by_key.insert(key, Meant { id, unwatched });
        id
    }

    fn store(&mut self, executable: Executable) -> ExecutableId {
        let id = ExecutableId(self.next);
        self.next += 1;
        self.all.insert(id, Known::new(executable));
        id
    }

    /// Gives the executable behind a file, and whether it is this very file that is held open.
    fn meet_file(&mut self, mapped: &MmapEvent) -> (ExecutableId, bool) {
        let name = path_name(&mapped.path);
        let found = if self.open < self.open_max {
            self.file_helper.open(mapped)
        } else {
            Err(io::Error::other("too many executables are open"))
        };
        let Opened { file, elf, content } = match found {
            Ok(opened) => opened,
            Err(error) => {
                self.unopened += 1;
                self.unanswered += u64::from(error.kind() == io::ErrorKind::TimedOut);
                let unopened = Executable { origin: Origin::Unopened, ..memory(&name) };
                return (self.store(unopened), false);
            }
        };
        if let Some(id) = self.by_content.get(&content).filter(|id| self.is_as_it_was(**id)) {
            return (*id, false); // a copy, or the same file under another name
        }
        self.open += 1;
        // What is no ELF file is code of a JIT compiler, which writes on in it.
        let known = if elf.segments.is_empty() { None } else { content.id(&file).ok() };
        let elf::Elf { build_id, segments } = elf;
        let (origin, named) = (Origin::File(file), memory(&name));
        let id = self.store(Executable { build_id, origin, content: known, segments, ..named });
        self.by_content.insert(content, id);
        (id, true)
    }
}

/// Tells memory without a file, which the kernel names in brackets, `//anon` or not at all.
fn is_memory(path: &str) -> bool {
    !path.starts_with('/') || path.starts_with("//anon")
}

fn vdso() -> Executable {
    let Ok(copy) = super::proc::copy_vdso() else { return memory(VDSO) };
    let elf::Elf { build_id, segments } = elf::read(&copy).unwrap_or_default();
    Executable { build_id, origin: Origin::Vdso(copy), segments, ..memory(VDSO) }
}

fn memory(name: &str) -> Executable {
    let (origin, segments) = (Origin::Memory, Vec::new());
    Executable { name: name.into(), build_id: None, origin, content: None, segments }
}

/// Names memory without a file: code there was made by a JIT compiler.
fn memory_name(path: &str) -> &str {
    if path.starts_with('[') && !path.starts_with("[anon") { path } else { "[jit]" }
}

/// The path without what the kernel appends once the file is deleted.
fn path_name(path: &str) -> Box<str> {
    path.strip_suffix(" (deleted)").unwrap_or(path).into()
}
