//! One executable: a file, memory without a file, or the kernel.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use profile::{
    BuildId, CodeNameId, ExecutableId, FileAddr, FileOffset, InterpretedLanguage, MappingKind, Pid,
    VirtAddr,
};

use super::code_name_gap::CodeNameGap;
use super::code_names::CodeName;
use super::content::{self, ContentId};
use super::debug_files::SeparateDebugFiles;
use super::elf::{self, Elf, Segment};
use super::kernel_code::{VDSO, copy_vdso, kernel_build_id};
use crate::runtimes::Recognition;

/// What a mapping executes.
#[derive(Debug)]
pub struct Executable {
    /// Path in the root of its process, or a name in brackets.
    pub name: Box<str>,
    /// Its build ID, if it has one.
    pub build_id: Option<BuildId>,
    /// Where its symbols can be found.
    pub origin: ExecutableOrigin,
    /// The content of its file when it was opened, if it is an ELF file.
    pub content: Option<ContentId>,
    pub(super) segments: Vec<Segment>,
    /// Its debug info and symbols that lie in other files.
    pub debug_files: SeparateDebugFiles,
    /// The runtime or the C library that its file contains.
    pub recognition: Option<Box<Recognition>>,
    /// The process that has mapped it first, if it is memory of processes.
    pub(super) process: Option<Pid>,
}

/// Where the code of an executable comes from.
#[derive(Debug)]
pub enum ExecutableOrigin {
    /// The running kernel.
    Kernel,
    /// A file that is held open.
    File(File),
    /// A copy of the kernel's vDSO.
    Vdso(File),
    /// Memory without a file.
    Memory,
    /// A file that is not open: deleted, replaced since it was mapped, not accessible to us, or
    /// beyond the limit of open files. What its headers contain is known if they are in memory.
    Unopened,
}

impl Executable {
    /// Returns those with reserved ids: they are there whatever is mapped.
    pub(super) fn reserved() -> impl Iterator<Item = (ExecutableId, Self)> {
        let interpreted = |language: InterpretedLanguage| {
            let name = language.mapping_name();
            (language.executable(), Self::without_file(name, ExecutableOrigin::Memory))
        };
        let others = [
            (ExecutableId::KERNEL, Self::kernel()),
            (ExecutableId::UNKNOWN, Self::unknown()),
            (ExecutableId::VSYSCALL, Self::vsyscall()),
        ];
        others.into_iter().chain(InterpretedLanguage::all().map(interpreted))
    }

    /// Returns memory that nothing is known about.
    pub fn unknown() -> Self {
        Self::without_file(MappingKind::UNKNOWN, ExecutableOrigin::Memory)
    }

    /// Returns the running kernel.
    fn kernel() -> Self {
        let build_id = kernel_build_id();
        Self { build_id, ..Self::without_file(MappingKind::KERNEL, ExecutableOrigin::Kernel) }
    }

    /// Returns the vsyscall page.
    fn vsyscall() -> Self {
        Self::without_file(MappingKind::VSYSCALL, ExecutableOrigin::Memory)
    }

    /// Returns a copy of the vDSO.
    pub(super) fn vdso() -> Self {
        let Ok(copy) = copy_vdso() else {
            return Self::without_file(VDSO, ExecutableOrigin::Memory);
        };
        let Elf { build_id, segments } = elf::read(&copy).unwrap_or_default();
        Self { build_id, segments, ..Self::without_file(VDSO, ExecutableOrigin::Vdso(copy)) }
    }

    /// Returns an executable of which no headers were read.
    pub(super) fn without_file(name: &str, origin: ExecutableOrigin) -> Self {
        let (build_id, content, segments, process) = (None, None, Vec::new(), None);
        let (debug_files, recognition) = (SeparateDebugFiles::default(), None);
        let name = name.into();
        Self { name, build_id, origin, content, segments, debug_files, recognition, process }
    }

    /// Returns memory of a process.
    pub(super) fn memory_of(pid: Pid, name: &str) -> Self {
        Self { process: Some(pid), ..Self::without_file(name, ExecutableOrigin::Memory) }
    }

    /// Returns whether a JIT compiler may write its code: memory without a file, or a file that is
    /// no program, such as one of memfd_create.
    pub(super) fn may_be_jit_code(&self) -> bool {
        match self.origin {
            ExecutableOrigin::Memory => self.kind() == MappingKind::Memory,
            ExecutableOrigin::File(_) => self.segments.is_empty(),
            ExecutableOrigin::Kernel | ExecutableOrigin::Vdso(_) | ExecutableOrigin::Unopened => {
                false
            }
        }
    }

    /// Returns its kind in pprof.
    pub fn kind(&self) -> MappingKind {
        match self.origin {
            ExecutableOrigin::Kernel => MappingKind::Kernel,
            ExecutableOrigin::File(_) | ExecutableOrigin::Unopened => MappingKind::File,
            ExecutableOrigin::Vdso(_) => MappingKind::Vdso,
            ExecutableOrigin::Memory => MappingKind::of_name(&self.name),
        }
    }

    /// Returns the range of file addresses that its code lies in, by its program headers.
    pub fn text(&self) -> Option<Range<u64>> {
        let ranges = self.segments.iter().filter_map(Segment::text);
        ranges.reduce(|all, one| all.start.min(one.start)..all.end.max(one.end))
    }

    /// Returns whether its file is open and has code.
    pub(super) fn has_text(&self) -> bool {
        matches!(self.origin, ExecutableOrigin::File(_)) && self.text().is_some()
    }

    /// Returns the address in the file of the first byte of a mapping, executable or not.
    pub(super) fn address_of_mapping(&self, offset: FileOffset) -> Option<FileAddr> {
        elf::address_of_mapping(&self.segments, offset)
    }

    /// Returns the offset of an address in the text of its file, and the bytes of text from there
    /// on; `None` outside its text.
    pub(super) fn text_from(&self, address: FileAddr) -> Option<(FileOffset, u64)> {
        self.segments.iter().find_map(|segment| segment.text_from(address))
    }

    /// Returns its file, if it is open.
    pub fn file(&self) -> Option<&File> {
        match &self.origin {
            ExecutableOrigin::File(file) | ExecutableOrigin::Vdso(file) => Some(file),
            ExecutableOrigin::Kernel | ExecutableOrigin::Memory | ExecutableOrigin::Unopened => {
                None
            }
        }
    }

    /// Returns whether its file has been written since it was opened: what the file contains now
    /// says nothing about the code that was mapped.
    pub fn is_changed(&self) -> bool {
        match (&self.origin, self.content) {
            (ExecutableOrigin::File(file), Some(content)) => !content.matches(file),
            _ => false,
        }
    }

    /// Returns whether its file is open and is the one at this path in our own root.
    pub fn is_at(&self, path: &Path) -> bool {
        let ExecutableOrigin::File(file) = &self.origin else { return false };
        content::is_at(file, path)
    }

    /// Returns the address in the file of a mapped byte. Memory keeps its virtual address; a file
    /// without load segments counts from its start.
    pub fn address_of(&self, offset: FileOffset, address: VirtAddr) -> FileAddr {
        match self.origin {
            ExecutableOrigin::Kernel | ExecutableOrigin::Memory => FileAddr(address.0),
            ExecutableOrigin::File(_) | ExecutableOrigin::Vdso(_) | ExecutableOrigin::Unopened => {
                elf::address_of(&self.segments, offset).unwrap_or(FileAddr(offset.0))
            }
        }
    }
}

/// Returns whether a mapping is memory without a file. The kernel names such memory in brackets,
/// `//anon`, or not at all.
pub(super) fn is_memory(path: &str) -> bool {
    !path.starts_with('/') || path.starts_with("//anon")
}

/// Names memory without a file: code there was made by a JIT compiler.
pub(super) fn memory_name(path: &str) -> &str {
    if path.starts_with('[') && !path.starts_with("[anon") { path } else { "[jit]" }
}

/// Names of code, or why there are none.
pub(super) type CodeNamesById = HashMap<CodeNameId, Result<CodeName, CodeNameGap>>;

/// The executables that a window has frames in, held open and unchanged while this exists, and the
/// names that its frames refer to.
#[derive(Debug)]
pub struct WindowExecutables {
    pub(super) by_id: HashMap<ExecutableId, Arc<Executable>>,
    pub(super) code_names: CodeNamesById,
    /// Frames in code that comes into the kernel have a name of code, or why they have none.
    pub knows_kernel_code: bool,
}

impl WindowExecutables {
    /// Returns an executable; the unknown one if the window has no frames in it.
    pub fn get(&self, id: ExecutableId) -> &Arc<Executable> {
        self.by_id.get(&id).unwrap_or_else(|| &self.by_id[&ExecutableId::UNKNOWN])
    }

    /// Returns the name that a frame refers to.
    ///
    /// # Errors
    /// Why it has none.
    pub fn code_name(&self, id: CodeNameId) -> Result<&CodeName, CodeNameGap> {
        match self.code_names.get(&id) {
            Some(name) => name.as_ref().map_err(|gap| *gap),
            None => Err(CodeNameGap::NoSpace),
        }
    }

    /// Lists all of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Executable>> {
        self.by_id.values()
    }
}
