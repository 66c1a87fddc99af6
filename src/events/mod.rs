//! Station 1: bytes from the kernel become typed events, in the order of time.
//!
//! [`spawn_reader`] runs the one thread that empties the kernel's rings. It parses,
//! and hands [`EventBatch`]es on; an [`Orderer`] then merges samples and process events
//! of all CPUs by time. Nothing here reads /proc.

mod order;
mod perf_sample;
mod reader;
mod sample;
mod side_band;

use profile::{Cpu, Pid, StackEnd, Tid, VirtAddr};
use unwind::Registers;

pub use order::{Orderer, TimedEvent};
pub use reader::{EventBatch, Reader, Rings, spawn_reader};

/// Gives the time on the clock of events: nanoseconds of CLOCK_MONOTONIC.
pub fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Gives the CPU time of this thread: of wall time, a busy machine takes most.
pub fn cpu_time() -> std::time::Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    std::time::Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

/// Something that the kernel told. Times are nanoseconds of CLOCK_MONOTONIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A process or thread was forked.
    Fork(ForkEvent),
    /// A thread took a name, perhaps by executing another file.
    Comm(CommEvent),
    /// A process mapped executable memory.
    Mmap(MmapEvent),
    /// A thread ended.
    Exit(ExitEvent),
    /// A tick of the sampling clock.
    Sample(Box<RawSample>),
    /// perf's own record of such a tick.
    PerfSample(Box<PerfSample>),
}

/// A fork: the child has its parent's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForkEvent {
    /// The child's process; equal to `parent` when it is a thread.
    pub pid: Pid,
    /// The process that forked.
    pub parent: Pid,
}

/// A new name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommEvent {
    /// The process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// Its name.
    pub comm: Box<str>,
    /// The process executes another file: what it had mapped is gone.
    pub is_exec: bool,
}

/// A range of executable memory and what lies behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MmapEvent {
    /// The process.
    pub pid: Pid,
    /// A thread of it that runs, by which /proc leads to its memory: the main thread may be gone.
    pub tid: Tid,
    /// First address.
    pub start: VirtAddr,
    /// Address after the last.
    pub end: VirtAddr,
    /// Offset in the file of the first address.
    pub offset: u64,
    /// Which file.
    pub file: FileIdentity,
    /// Its path in the process's root when it was mapped, or a name such as `[vdso]` or `//anon`.
    pub path: Box<str>,
}

/// How the kernel tells one file from another: by its place in a file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// Device, major number.
    pub major: u32,
    /// Device, minor number.
    pub minor: u32,
    /// Number within the device; 0 means no file.
    pub inode: u64,
}

/// The end of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitEvent {
    /// Its process.
    pub pid: Pid,
    /// The thread; with the number of the process it is the main thread.
    pub tid: Tid,
}

/// One sample with addresses as the kernel gave them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawSample {
    /// Counts the CPU's samples from 0, lost ones included.
    pub sequence: u64,
    /// Where it ticked.
    pub cpu: Cpu,
    /// The process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// The thread's name.
    pub comm: Box<str>,
    /// Its cgroup in the cgroup v2 hierarchy.
    pub cgroup_id: u64,
    /// Kernel frames, innermost first: an instruction, then return addresses.
    pub kernel: Box<[VirtAddr]>,
    /// User frames, innermost first.
    pub user: Box<[UserFrame]>,
    /// Why the kernel frames end.
    pub kernel_end: StackEnd,
    /// Why the user frames end.
    pub user_end: StackEnd,
    /// What it takes to go on from the last of the user frames, if that is still to be done.
    pub snapshot: Option<Box<StackSnapshot>>,
}

/// One frame of a user stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserFrame {
    /// An instruction, or the return address of a call.
    pub address: VirtAddr,
    /// Whether it is the very instruction where the thread was interrupted, and no return address.
    pub is_exact: bool,
    /// Whether it was found by frame pointer, with nothing to confirm it.
    pub is_guessed: bool,
}

impl UserFrame {
    /// Returns the address to look up in mappings, rows and symbols: one byte less for a return
    /// address, which may lie past the end of the calling function.
    pub fn lookup_address(&self) -> VirtAddr {
        VirtAddr(self.address.0.wrapping_sub(u64::from(!self.is_exact)))
    }
}

/// Where a walk stands at a tick, and the stack from there on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackSnapshot {
    /// The frame.
    pub at: Registers,
    /// Memory around its stack pointer and above.
    pub stack: Box<[u8]>,
}

/// Registers and stack of a thread as they were at a tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerfStackSnapshot {
    /// The interrupted instruction.
    pub ip: u64,
    /// General registers by DWARF number.
    pub registers: [u64; 16],
    /// Memory around the stack pointer and above.
    pub stack: Box<[u8]>,
}

/// What perf recorded of a tick by itself, a moment after the sampler did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerfSample {
    /// Where it ticked.
    pub cpu: Cpu,
    /// The thread.
    pub tid: Tid,
    /// Its registers, and its stack from the stack pointer on.
    pub snapshot: PerfStackSnapshot,
    /// Whether the stack goes on behind what was copied.
    pub is_cut: bool,
}
