//! A profile: a window whose frames have names, with what is needed to write it anywhere.

use crate::{BuildId, CaptureLedger, FileAddr, SampleKey, Task};

/// A named profile. Identifiers are places in the vectors here.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// Wall-clock time of the first tick, nanoseconds since 1970.
    pub start_unix_ns: u64,
    /// Nanoseconds it covers.
    pub duration_ns: u64,
    /// Nanoseconds of CPU time that one sample stands for.
    pub period_ns: u64,
    /// Executables that frames lie in; those with most samples first, the kernel last.
    pub mappings: Vec<Mapping>,
    /// Functions that frames name.
    pub functions: Vec<Function>,
    /// The distinct frames.
    pub frames: Vec<SymbolizedFrame>,
    /// The distinct stacks as places in `frames`, innermost first.
    pub stacks: Vec<Box<[u32]>>,
    /// The distinct tasks.
    pub tasks: Vec<Task>,
    /// The counted samples.
    pub samples: Vec<SampleCount>,
    /// Where every tick went.
    pub ledger: CaptureLedger,
    /// What else the profile should carry about itself, a line each.
    pub comments: Vec<String>,
}

/// An executable, or other memory that code ran in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Path in its process's root, or a name in brackets.
    pub name: String,
    /// Its build id, if it has one.
    pub build_id: Option<BuildId>,
    /// What it is.
    pub kind: MappingKind,
}

/// What code can lie in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappingKind {
    /// The kernel with its modules and BPF programs.
    Kernel,
    /// A file.
    File,
    /// Memory without a file: made by a JIT compiler, or the kernel's vDSO.
    Memory,
}

/// A function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Function {
    /// Name for people.
    pub name: String,
    /// Name for the linker.
    pub system_name: String,
    /// Source file that holds it; empty when not known.
    pub file: String,
}

/// A frame and what is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymbolizedFrame {
    /// Place of its executable in [`Profile::mappings`].
    pub mapping: u32,
    /// Its address there.
    pub address: FileAddr,
    /// Functions at this address: the innermost inlined one first, the function itself last.
    /// Empty when it has no name.
    pub lines: Vec<Line>,
}

/// A place in a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Place of the function in [`Profile::functions`].
    pub function: u32,
    /// Source line, from 1; 0 when not known.
    pub line: u32,
}

/// Samples that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleCount {
    /// What they have in common.
    pub key: SampleKey,
    /// How many there are.
    pub count: u64,
}

impl Profile {
    /// Names the mapping of a frame.
    pub fn mapping_of(&self, frame: &SymbolizedFrame) -> &Mapping {
        &self.mappings[frame.mapping as usize]
    }

    /// Gives the frames of a sample, innermost first.
    pub fn frames_of(
        &self,
        sample: &SampleCount,
    ) -> impl DoubleEndedIterator<Item = &SymbolizedFrame> {
        let stack = &self.stacks[sample.key.stack.0 as usize];
        stack.iter().map(|frame| &self.frames[*frame as usize])
    }

    /// Gives the task of a sample.
    pub fn task_of(&self, sample: &SampleCount) -> &Task {
        &self.tasks[sample.key.task.0 as usize]
    }
}
