//! A profile: a window whose frames are symbolized, with all that its output formats need.

use crate::{BuildId, CaptureLedger, FileAddr, InterpretedLanguage, SampleKey, SampleTimes, Task};

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
    /// Returns a mapping. A file whose own name ends like that of machinery gets another end, so
    /// that it is not taken for machinery where only names are known.
    pub fn new(name: &str, build_id: Option<BuildId>, kind: MappingKind) -> Self {
        let is_lookalike =
            kind == MappingKind::File && MappingKind::of_name(name) == MappingKind::Interpreter;
        let name = [name, if is_lookalike { "_" } else { "" }].concat();
        Self { name, build_id, kind }
    }

    /// Returns the mapping of those frames in this file that are an interpreter's machinery.
    pub fn machinery(&self) -> Self {
        let name = [&self.name, MappingKind::MACHINERY_SUFFIX].concat();
        Self { name, build_id: self.build_id.clone(), kind: MappingKind::Interpreter }
    }

    /// Returns the path of the file; of memory and the kernel, the name in brackets.
    pub fn path(&self) -> &str {
        path_of(&self.name)
    }

    /// Returns the text that is shown in place of a name: the file and the address in it. Memory
    /// without a file, and functions that an interpreter runs, have only the name of the mapping.
    pub fn unnamed(&self, address: u64) -> String {
        unnamed(&self.name, self.kind, address)
    }
}

/// See [`Mapping::path`].
pub(crate) fn path_of(name: &str) -> &str {
    name.strip_suffix(MappingKind::MACHINERY_SUFFIX).unwrap_or(name)
}

/// See [`Mapping::unnamed`].
pub(crate) fn unnamed(name: &str, kind: MappingKind, address: u64) -> String {
    let file = path_of(name).rsplit('/').next().unwrap_or_default();
    match kind {
        MappingKind::Memory | MappingKind::Interpreted(_) => file.to_owned(),
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
    /// No code of the CPU, but functions that an interpreter runs.
    Interpreted(InterpretedLanguage),
    /// A file, as far as it is the machinery with which an interpreter runs such functions.
    Interpreter,
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
    /// What the name of a mapping of machinery has behind the path of the file.
    pub const MACHINERY_SUFFIX: &str = " [interpreter]";

    /// Returns what the mapping of this name is. Names in brackets are ours and the kernel's; a
    /// file has an absolute path.
    pub fn of_name(name: &str) -> Self {
        if let Some(language) = InterpretedLanguage::of_mapping(name) {
            return Self::Interpreted(language);
        }
        match name {
            Self::KERNEL => Self::Kernel,
            Self::VDSO | Self::VSYSCALL | "[uprobes]" => Self::Vdso,
            "" | Self::UNKNOWN => Self::Unknown,
            name if name.starts_with('[') || name.starts_with("//anon") => Self::Memory,
            name if name.ends_with(Self::MACHINERY_SUFFIX) => Self::Interpreter,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_mappings_say_what_they_are() {
        for (name, kind) in [
            ("[kernel.kallsyms]", MappingKind::Kernel),
            ("[vdso]", MappingKind::Vdso),
            ("[jit]", MappingKind::Memory),
            ("[python]", MappingKind::Interpreted(InterpretedLanguage::Python)),
            ("[unknown]", MappingKind::Unknown),
            ("/usr/bin/python3.11", MappingKind::File),
            ("/usr/bin/python3.11 [interpreter]", MappingKind::Interpreter),
            ("/opt/[interpreter]", MappingKind::File),
        ] {
            assert_eq!(MappingKind::of_name(name), kind, "{name}");
        }
    }

    #[test]
    fn machinery_is_named_by_its_file_and_no_file_passes_for_it() {
        let build_id = BuildId::from_hex("abcd");
        let file = Mapping::new("/usr/bin/python3", build_id, MappingKind::File);
        let machinery = file.machinery();
        assert_eq!(machinery.name, "/usr/bin/python3 [interpreter]");
        assert_eq!((machinery.path(), &machinery.build_id), (file.path(), &file.build_id));
        assert_eq!(machinery.unnamed(0x10), "python3+0x10");
        let lookalike = Mapping::new(&machinery.name, None, MappingKind::File);
        assert_eq!(MappingKind::of_name(&lookalike.name), MappingKind::File);
        assert_eq!(lookalike.name, "/usr/bin/python3 [interpreter]_");
    }
}
