//! Samples with addresses as the kernel recorded them.

use profile::{Cpu, Pid, StackEnd, Tid, VirtAddr};
use unwind::Registers;

/// A sample whose addresses are not resolved yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawSample {
    /// Counts the samples of its CPU from 0, lost ones included.
    pub sequence: u64,
    /// The CPU that ticked.
    pub cpu: Cpu,
    /// The process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// The thread's name; empty in samples that do not carry it.
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
    /// Present when the kernel could not finish the walk: its state at the last user frame.
    pub snapshot: Option<Box<StackSnapshot>>,
}

/// One frame of a user stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserFrame {
    /// Where the thread goes on in this frame.
    pub address: VirtAddr,
    /// The frame is at the address itself; otherwise at the instruction before it, a call or a
    /// system call.
    pub is_exact: bool,
    /// Found by frame pointer, with nothing to confirm it.
    pub is_guessed: bool,
}

impl UserFrame {
    /// Returns the address by which rows, function and line of this frame are looked up: what it is
    /// behind may be the last instruction of its function. [`unwind::Registers::lookup_address`] is
    /// the same of an unwinder's frame.
    pub fn lookup_address(&self) -> VirtAddr {
        VirtAddr(self.address.0.wrapping_sub(u64::from(!self.is_exact)))
    }
}

/// The state of an unfinished walk, and the stack from there on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackSnapshot {
    /// Registers in the last frame found.
    pub registers: Registers,
    /// Address of the first byte of `stack`.
    pub start: u64,
    /// Stack memory from `start` upward.
    pub stack: Box<[u8]>,
    /// No more bytes were to be copied: the stack most likely goes on past them.
    pub is_full: bool,
}

/// Registers and stack of a thread at a tick, as perf recorded them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerfStackSnapshot {
    /// The interrupted instruction, or the one behind a system call.
    pub ip: u64,
    /// The flags register.
    pub flags: u64,
    /// General registers by DWARF number.
    pub registers: [u64; 16],
    /// Stack memory from the stack pointer upward.
    pub stack: Box<[u8]>,
}

/// perf's own record of a tick, taken a moment after the sampler's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerfSample {
    /// The CPU that ticked.
    pub cpu: Cpu,
    /// The thread.
    pub tid: Tid,
    /// Its registers and stack.
    pub snapshot: PerfStackSnapshot,
    /// The stack goes on past the recorded part.
    pub is_cut: bool,
}
