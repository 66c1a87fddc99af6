//! A profile: a window whose frames are symbolized, with all that its output formats need.

use crate::{BuildId, CaptureLedger, FileAddr, SampleKey, SampleTimes, Task};

/// A symbolized profile. All identifiers are indices into its vectors.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// Wall-clock time of the first tick, nanoseconds since 1970.
    pub start_unix_ns: u64,
    /// Nanoseconds that the profile covers.
    pub duration_ns: u64,
    /// Nanoseconds of CPU time that one sample stands for.
    pub period_ns: u64,
    /// Executables of the frames; those with most samples first, the kernel last.
    pub mappings: Vec<Mapping>,
    /// Functions of the frames.
    pub functions: Vec<Function>,
    /// The distinct frames.
    pub frames: Vec<SymbolizedFrame>,
    /// The distinct stacks as indices into `frames`, innermost frame first.
    pub stacks: Vec<Box<[u32]>>,
    /// The distinct tasks.
    pub tasks: Vec<Task>,
    /// The counted samples.
    pub samples: Vec<SampleCount>,
    /// Accounts for every tick.
    pub ledger: CaptureLedger,
    /// Further lines about the profile.
    pub comments: Vec<String>,
    /// When each sample was taken, if times were kept.
    pub timeline: Option<Timeline>,
}

/// When each sample of a profile was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// Start of the profile, nanoseconds of CLOCK_MONOTONIC.
    pub start_ns: u64,
    /// The samples by time; each [`SampleId`](crate::SampleId) is an index into
    /// [`Profile::samples`].
    pub times: SampleTimes,
}

/// An executable, or other memory with code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Path in the root of its process, or a name in brackets.
    pub name: String,
    /// Build ID, if any.
    pub build_id: Option<BuildId>,
    /// What the code is in.
    pub kind: MappingKind,
}

impl Mapping {
    /// Returns the text that is shown in place of a name: the file and the address in it. Memory
    /// without a file has only its name.
    pub fn unnamed(&self, address: u64) -> String {
        unnamed(&self.name, self.kind, address)
    }
}

/// See [`Mapping::unnamed`].
pub(crate) fn unnamed(path: &str, kind: MappingKind, address: u64) -> String {
    let file = path.rsplit('/').next().unwrap_or_default();
    match kind {
        MappingKind::Memory => file.to_owned(),
        _ => format!("{file}+{address:#x}"),
    }
}

/// What code can be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappingKind {
    /// The kernel with its modules and BPF programs.
    Kernel,
    /// A file.
    File,
    /// What the kernel maps into processes: the vDSO, and the pages of vsyscall and of uprobes.
    Vdso,
    /// Memory without a file: the code of a JIT compiler.
    Memory,
    /// Unknown: no mapping was known where the code ran.
    Unknown,
}

impl MappingKind {
    /// Name of the mapping of the kernel.
    pub const KERNEL: &str = "[kernel.kallsyms]";
    /// Name of the mapping of the vDSO.
    pub const VDSO: &str = "[vdso]";
    /// Name of the mapping of the vsyscall page.
    pub const VSYSCALL: &str = "[vsyscall]";
    /// Name of the mapping of code without a known one.
    pub const UNKNOWN: &str = "[unknown]";

    /// Returns what the mapping of this name is. Names in brackets are ours and the kernel's; a
    /// file has an absolute path.
    pub fn of_name(name: &str) -> Self {
        match name {
            Self::KERNEL => Self::Kernel,
            Self::VDSO | Self::VSYSCALL | "[uprobes]" => Self::Vdso,
            "" | Self::UNKNOWN => Self::Unknown,
            name if name.starts_with('[') || name.starts_with("//anon") => Self::Memory,
            _ => Self::File,
        }
    }
}

/// A function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Function {
    /// Demangled name.
    pub name: String,
    /// Name in the symbol table.
    pub system_name: String,
    /// Source file; empty if unknown.
    pub file: String,
    /// Line of the source file on which it starts; 0 if unknown.
    pub start_line: u32,
}

/// A frame after symbolization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymbolizedFrame {
    /// Index of its executable in [`Profile::mappings`].
    pub mapping: u32,
    /// Address in the executable.
    pub address: FileAddr,
    /// Functions at this address: the innermost inlined one first, the function itself last.
    /// Empty if no symbol was found.
    pub lines: Vec<Line>,
}

/// A line of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Index of the function in [`Profile::functions`].
    pub function: u32,
    /// Source line from 1; 0 if unknown.
    pub line: u32,
}

/// The number of samples with one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleCount {
    /// Task, stack and quality of the samples.
    pub key: SampleKey,
    /// Number of samples.
    pub count: u64,
}

impl Profile {
    /// Returns the mapping of a frame.
    pub fn mapping_of(&self, frame: &SymbolizedFrame) -> &Mapping {
        &self.mappings[frame.mapping as usize]
    }

    /// Returns the frames of a sample, innermost first.
    pub fn frames_of(
        &self,
        sample: &SampleCount,
    ) -> impl DoubleEndedIterator<Item = &SymbolizedFrame> {
        let stack = &self.stacks[sample.key.stack.0 as usize];
        stack.iter().map(|frame| &self.frames[*frame as usize])
    }

    /// Returns the task of a sample.
    pub fn task_of(&self, sample: &SampleCount) -> &Task {
        &self.tasks[sample.key.task.0 as usize]
    }
}
