//! Events: what the kernel reports about processes, and samples.

use profile::{Pid, Tid, VirtAddr};

use super::interpreter::{CodeRecord, InterpreterStack};
use super::raw_sample::{PerfSample, RawSample};

/// Nanoseconds by which a record may become visible after the time that it carries: the kernel
/// may be interrupted while it writes one.
pub const LATE_RECORD_NS: u64 = 5_000_000;

/// An event and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedEvent {
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// What happened.
    pub event: Event,
}

/// Something that the kernel reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A process or thread was forked.
    Fork(ForkEvent),
    /// A thread got a name, perhaps by executing another file.
    Comm(CommEvent),
    /// A process mapped executable memory.
    Mmap(MmapEvent),
    /// A process moved executable memory to another address.
    Move(MoveEvent),
    /// A thread ended.
    Exit(ExitEvent),
    /// Code came into the kernel, or left it.
    KernelCode(KernelCodeEvent),
    /// A code object of an interpreter.
    CodeObject(Box<CodeRecord>),
    /// The interpreter frames of the sample that comes from the same CPU at the same time.
    Interpreter(Box<InterpreterStack>),
    /// A sample.
    Sample(Box<RawSample>),
    /// perf's own record of the same tick.
    PerfSample(Box<PerfSample>),
}

impl Event {
    /// Returns whether the event is of a tick; otherwise it is a process event.
    pub(super) fn is_of_tick(&self) -> bool {
        matches!(
            self,
            Self::CodeObject(_) | Self::Interpreter(_) | Self::Sample(_) | Self::PerfSample(_)
        )
    }
}

/// A fork. A child process starts with its parent's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForkEvent {
    /// The child's process; equal to `parent` when the child is a thread.
    pub pid: Pid,
    /// The child's first thread, or the child itself when it is a thread.
    pub tid: Tid,
    /// The process that forked.
    pub parent: Pid,
    /// Its thread that did.
    pub parent_tid: Tid,
}

/// A new name of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommEvent {
    /// The process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// Its name.
    pub comm: Box<str>,
    /// The process executes another file: its previous mappings are gone.
    pub is_exec: bool,
}

/// A range of executable memory and the file behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MmapEvent {
    /// The process.
    pub pid: Pid,
    /// A running thread of it, through which /proc leads to its memory: the main thread may have
    /// ended.
    pub tid: Tid,
    /// First address.
    pub start: VirtAddr,
    /// Address after the last.
    pub end: VirtAddr,
    /// Offset in the file of the first address.
    pub offset: u64,
    /// Which file.
    pub file: FileIdentity,
    /// Path in the process's root at the time of the mapping, or a name such as `[vdso]` or
    /// `//anon`.
    pub path: Box<str>,
}

/// A process has moved code by mremap; which code and where to is not reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoveEvent {
    /// The process.
    pub pid: Pid,
    /// Moves before it that were not reported.
    pub missed: u64,
}

/// How the kernel tells files apart: by device and inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// Device, major number.
    pub major: u32,
    /// Device, minor number.
    pub minor: u32,
    /// Number within the device; 0 for no file.
    pub inode: u64,
}

/// The end of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitEvent {
    /// Its process.
    pub pid: Pid,
    /// The thread; equal to `pid` when it is the main thread.
    pub tid: Tid,
}

/// Code that is in the kernel for a time: a BPF program or a trampoline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelCodeEvent {
    /// First address.
    pub start: VirtAddr,
    /// Address after the last.
    pub end: VirtAddr,
    /// Its name in the kernel's list of symbols.
    pub name: Box<str>,
    /// It left.
    pub is_removed: bool,
}
