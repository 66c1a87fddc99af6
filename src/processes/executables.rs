//! The files behind mappings: each stored once, opened while a process that maps it lives.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use profile::{BuildId, ExecutableId, FileAddr, FileOffset, Frame, MappingKind, Pid, VirtAddr};

use super::elf::{self, Segment};
use super::mappings::Memory;
use crate::events::{FileIdentity, Mapped};

/// An executable: a file, memory without a file, or the kernel.
#[derive(Debug)]
pub struct Executable {
    /// Path in its process's root, or a name in brackets.
    pub name: Box<str>,
    /// Its build id, if it has one.
    pub build_id: Option<BuildId>,
    /// Where its symbols can be found.
    pub origin: Origin,
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

/// How a mapping names its file: two mappings with equal keys have the same executable.
/// Memory without a file is its process's own.
type Key = (FileIdentity, Box<str>, Option<Pid>);

/// What tells files apart once they are open. Tools that rewrite a file keep its build id, so
/// size and segments count too; without a build id it is the place in the file system.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Content {
    BuildId(BuildId, u64, Vec<Segment>),
    Inode(u64, u64, u64),
}

/// All executables met so far.
#[derive(Debug)]
pub struct Executables {
    all: Vec<Executable>,
    by_key: HashMap<Key, ExecutableId>,
    by_content: HashMap<Content, ExecutableId>,
    open: usize,
    open_max: usize,
    unopened: u64,
}

/// Executables known at once; what comes on top is taken for unknown memory.
const EXECUTABLES_MAX: usize = 1 << 16;

impl Executables {
    /// Knows the kernel and unknown memory. `open_max`: files to hold open at the same time.
    pub fn new(open_max: usize) -> Self {
        let kernel = Executable {
            name: "[kernel.kallsyms]".into(),
            build_id: super::proc::kernel_build_id(),
            origin: Origin::Kernel,
            segments: Vec::new(),
        };
        let all = vec![kernel, memory("[unknown]")]; // at the places that ExecutableId knows
        let (by_key, by_content) = (HashMap::new(), HashMap::new());
        Self { all, by_key, by_content, open: 0, open_max, unopened: 0 }
    }

    /// Gives an executable.
    pub fn get(&self, id: ExecutableId) -> &Executable {
        &self.all[id.0 as usize]
    }

    /// Finds the instruction at a user address; `None` outside executable mappings.
    pub fn resolve(&self, memory: &Memory, address: VirtAddr) -> Option<Frame> {
        let (mapping, offset) = memory.find(address)?;
        let executable = mapping.executable;
        Some(Frame { executable, address: self.get(executable).address_of(offset, address) })
    }

    /// Executables whose file could not be opened or not be held.
    pub fn unopened(&self) -> u64 {
        self.unopened
    }

    /// Gives the executable behind a mapping; meets it if it is new.
    pub(super) fn find_or_open(&mut self, mapped: &Mapped) -> ExecutableId {
        let owner = is_memory(&mapped.path).then_some(mapped.pid);
        let key = (mapped.file.clone(), mapped.path.clone(), owner);
        if let Some(id) = self.by_key.get(&key) {
            return *id;
        }
        let id = if self.by_key.len() >= EXECUTABLES_MAX {
            return ExecutableId::UNKNOWN;
        } else if &*mapped.path == "[vdso]" {
            self.store(vdso())
        } else if is_memory(&mapped.path) {
            self.store(memory(memory_name(&mapped.path)))
        } else {
            self.meet_file(mapped)
        };
        self.by_key.insert(key, id);
        id
    }

    fn store(&mut self, executable: Executable) -> ExecutableId {
        self.all.push(executable);
        ExecutableId(self.all.len() as u32 - 1)
    }

    fn meet_file(&mut self, mapped: &Mapped) -> ExecutableId {
        let name = path_name(&mapped.path);
        let Ok((file, elf)) = self.open(mapped) else {
            self.unopened += 1;
            let build_id = match &mapped.file {
                FileIdentity::BuildId(id) => Some(id.clone()),
                FileIdentity::Inode { .. } => None,
            };
            return self.store(Executable {
                name,
                build_id,
                origin: Origin::Unopened,
                segments: Vec::new(),
            });
        };
        let Ok(content) = content_of(&file, &elf) else {
            return ExecutableId::UNKNOWN;
        };
        if let Some(id) = self.by_content.get(&content) {
            return *id; // the same file under another name
        }
        self.open += 1;
        let elf::Elf { build_id, segments } = elf;
        let id = self.store(Executable { name, build_id, origin: Origin::File(file), segments });
        self.by_content.insert(content, id);
        id
    }

    /// Opens the file of a mapping: the mapping itself where the kernel lets us, else its
    /// path in the process's root, else in ours. A path may lead to another file by now, so
    /// it counts only if it has the identity that the kernel told.
    fn open(&self, mapped: &Mapped) -> io::Result<(File, elf::Elf)> {
        if self.open >= self.open_max {
            return Err(io::Error::other("too many executables are open"));
        }
        open_mapping(mapped)
            .or_else(|_| {
                open_checked(&format!("/proc/{}/root{}", mapped.pid, mapped.path), &mapped.file)
            })
            .or_else(|_| open_checked(&mapped.path, &mapped.file))
    }
}

fn content_of(file: &File, elf: &elf::Elf) -> io::Result<Content> {
    let found = file.metadata()?;
    Ok(match &elf.build_id {
        Some(id) => Content::BuildId(id.clone(), found.len(), elf.segments.clone()),
        None => Content::Inode(found.dev(), found.ino(), found.len()),
    })
}

fn open_mapping(mapped: &Mapped) -> io::Result<(File, elf::Elf)> {
    let Mapped { pid: Pid(pid), start, end, .. } = mapped;
    let path = format!("/proc/{pid}/map_files/{start:x}-{end:x}");
    let (file, elf) = open_regular(&path)?;
    match &mapped.file {
        // The process may have mapped another file there since.
        FileIdentity::BuildId(id) if elf.build_id.as_ref() != Some(id) => {
            Err(io::ErrorKind::NotFound.into())
        }
        _ => Ok((file, elf)),
    }
}

fn open_checked(path: &str, identity: &FileIdentity) -> io::Result<(File, elf::Elf)> {
    let (file, elf) = open_regular(path)?;
    let is_it = match identity {
        FileIdentity::BuildId(id) => elf.build_id.as_ref() == Some(id),
        FileIdentity::Inode { major, minor, inode } => {
            let found = file.metadata()?;
            let device = found.dev();
            (rustix::fs::major(device), rustix::fs::minor(device), found.ino())
                == (*major, *minor, *inode)
        }
    };
    if is_it { Ok((file, elf)) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// Opens a regular file and nothing else: opening a pipe or a device can block or do something.
fn open_regular(path: &str) -> io::Result<(File, elf::Elf)> {
    let harmless = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let file = File::options().read(true).custom_flags(harmless.bits() as i32).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let elf = elf::read(&file).unwrap_or_default();
    Ok((file, elf))
}

/// Tells memory without a file, which the kernel names in brackets, `//anon` or not at all.
fn is_memory(path: &str) -> bool {
    !path.starts_with('/') || path.starts_with("//anon")
}

fn vdso() -> Executable {
    let Ok(copy) = super::proc::copy_vdso() else { return memory("[vdso]") };
    let elf::Elf { build_id, segments } = elf::read(&copy).unwrap_or_default();
    Executable { name: "[vdso]".into(), build_id, origin: Origin::Vdso(copy), segments }
}

fn memory(name: &str) -> Executable {
    Executable { name: name.into(), build_id: None, origin: Origin::Memory, segments: Vec::new() }
}

/// Names memory without a file: code there was made by a JIT compiler.
fn memory_name(path: &str) -> &str {
    if path.starts_with('[') && !path.starts_with("[anon") { path } else { "[jit]" }
}

/// The path without what the kernel appends once the file is deleted.
fn path_name(path: &str) -> Box<str> {
    path.strip_suffix(" (deleted)").unwrap_or(path).into()
}
