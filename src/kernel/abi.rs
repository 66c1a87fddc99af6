//! Mirrors of `bpf/abi.h`, proven equal to the compiled programs' BTF while this compiles.
//!
//! Size, each offset and each field's type are compared, and no field may be left
//! out; the values of `enum outcome` and `enum stack_end` are compared with
//! [`TickOutcome`] and [`StackEnd`].

use std::mem::offset_of;

use profile::{StackEnd, TickOutcome};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::skeleton::types;

/// Bytes of a task's name, NUL included.
pub const COMM_LEN: usize = 16;
/// Classes of the sampler's time in one tick.
pub const TIME_CLASSES: usize = 128;
/// Classes to each power of two of nanoseconds.
pub const TIME_CLASSES_PER_POWER: u32 = 4;
/// Most frames of a kernel stack.
pub const KERNEL_FRAMES_MAX: u32 = 127;
/// User frames walked at most.
pub const USER_FRAMES_MAX: u32 = 1024;
/// The same where the walk goes on by tail calls.
pub const TAIL_CALL_FRAMES_MAX: u32 = 512;
/// Set in [`Sample::flags`]: the user stack is not walked to its end. Room for all frames, the
/// [`Registers`] of the last one, and its stack follow.
pub const SAMPLE_UNFINISHED: u8 = 1;
/// Set in a user frame: it is the very instruction where the thread was, no return address.
pub const FRAME_EXACT: u64 = 1 << 63;
/// Set in a user frame: it was found by frame pointer with nothing to confirm it.
pub const FRAME_GUESSED: u64 = 1 << 62;
/// In [`Registers::known`]: the frame pointer is...
pub const KNOWN_FP: u32 = 1;
/// ...the base register is...
pub const KNOWN_BASE: u32 = 2;
/// ...all registers are.
pub const KNOWN_ALL: u32 = 4;
/// Bytes of stack that a tick takes along: whole pages.
pub const STACK_SNAPSHOT_MAX: usize = 65536;
/// The same where there is no more, or not the room for it.
pub const STACK_SNAPSHOT_SHORT: usize = 16384;
/// Bytes of a page.
pub const PAGE_BYTES: u64 = 4096;
/// Bytes of a slab.
pub const SLAB_BYTES: usize = 1 << 18;
/// Slabs at most.
pub const SLABS_MAX: u32 = 4096;
/// Units of 8 bytes in a slab, as a power of two: a place is a slab's number and a unit.
pub const SLAB_UNITS_SHIFT: u32 = 15;
/// Blocks of all tables together.
pub const BLOCKS_MAX: u32 = 65536;
/// In place of a block's place: it has no rows, and never will.
pub const BLOCK_EMPTY: u32 = 1;
/// In place of a block's place: it has rows, but there is no room for them.
pub const BLOCK_REFUSED: u32 = 2;
/// Mappings of one process.
pub const MAPPINGS_MAX: usize = 8000;

/// Head of a record in the ring; addresses of 8 bytes follow, innermost first, the kernel's before the user's.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Sample {
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// Counts this CPU's samples from 0, lost ones included.
    pub sequence: u64,
    /// The task's cgroup in the cgroup v2 hierarchy.
    pub cgroup_id: u64,
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// CPU.
    pub cpu: u32,
    /// Kernel addresses that follow.
    pub kernel_frames: u16,
    /// User addresses after them.
    pub user_frames: u16,
    /// A [`StackEnd`].
    pub kernel_end: u8,
    /// A [`StackEnd`].
    pub user_end: u8,
    /// `SAMPLE_*`.
    pub flags: u8,
    /// Zero.
    pub reserved: [u8; 5],
    /// The thread's name, NUL-terminated.
    pub comm: [u8; COMM_LEN],
}

/// Where a thread stands in one frame.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Registers {
    /// Its instruction, or the one that a call returns to.
    pub ip: u64,
    /// Its stack pointer.
    pub sp: u64,
    /// Its frame pointer...
    pub fp: u64,
    /// ...and its base register, if they are known.
    pub base: u64,
    /// What is known, of `KNOWN_*`.
    pub known: u32,
    /// 1 when `ip` is a return address.
    pub is_return: u32,
    /// General registers by DWARF number, if all are known.
    pub all: [u64; 16],
}

/// Head of a process's mappings in a slab; [`Mapping`]s follow in the order of their addresses.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Process {
    /// As our pid namespace numbers it.
    pub pid: u32,
    /// Mappings that follow.
    pub count: u32,
    /// When it got its memory, as the programs saw it; 0 when that was before them.
    pub stamp: u64,
}

/// An executable mapping in a slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// Bytes from the start of its table's text to `start`.
    pub text: u64,
    /// Of its table.
    pub first_block: u32,
    /// Bytes of text that a block covers, as a power of two.
    pub block_shift: u32,
}

/// How to get from a frame to its caller; [`unwind::Rule`] reads and writes it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Rule {
    /// What the operation wants.
    pub offset: i32,
    /// Operation below, register above.
    pub op_register: u8,
    /// Where the caller's fp is.
    pub fp: i8,
    /// Where the caller's base register is.
    pub base: i8,
    /// Where the return address is.
    pub ra: i8,
}

/// What one CPU's sampler counted.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Counters {
    /// Ticks that came.
    pub ticks: u64,
    /// Ticks by how they ended, indexed by [`TickOutcome`].
    pub outcomes: [u64; TickOutcome::COUNT],
    /// Nanoseconds spent in ticks.
    pub time_total: u64,
    /// Nanoseconds of the longest tick.
    pub time_max: u64,
    /// Ticks by their time: below 4 ns the time itself, then 4 classes to each power of two.
    pub time_classes: [u64; TIME_CLASSES],
    /// Child processes of COMMAND that could not be followed.
    pub descendants_missed: u64,
    /// Ticks that took a copy of their stack along.
    pub copies: u64,
}

/// Key of the map of wanted cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoBytes, Immutable)]
#[repr(C)]
pub struct CgroupKey {
    /// Inode number of the directory.
    pub id: u64,
    /// Number of the hierarchy; 0 is cgroup v2.
    pub hierarchy: u64,
}

/// Key of the map of wanted names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoBytes, Immutable)]
#[repr(C)]
pub struct CommKey {
    /// The name, padded with NUL.
    pub name: [u8; COMM_LEN],
}

const fn same_type<T>(_: &T, _: &T) {}

macro_rules! mirror {
    ($ours:ident = $theirs:ident { $($field:ident),* $(,)? }) => {
        const _: () = {
            assert!(size_of::<$ours>() == size_of::<types::$theirs>());
            $(assert!(offset_of!($ours, $field) == offset_of!(types::$theirs, $field));)*
        };
        const _: fn(&$ours, &types::$theirs) = |ours, theirs| {
            let types::$theirs { $($field: _),* } = theirs;
            $(same_type(&ours.$field, &theirs.$field);)*
        };
    };
}

mirror!(
    Sample = sample {
        time,
        sequence,
        cgroup_id,
        pid,
        tid,
        cpu,
        kernel_frames,
        user_frames,
        kernel_end,
        user_end,
        flags,
        reserved,
        comm,
    }
);
mirror!(Registers = registers { ip, sp, fp, base, known, is_return, all });
mirror!(Process = process { pid, count, stamp });
mirror!(Mapping = mapping { start, end, text, first_block, block_shift });
mirror!(Rule = rule { offset, op_register, fp, base, ra });
mirror!(
    Counters = counters {
        ticks,
        outcomes,
        time_total,
        time_max,
        time_classes,
        descendants_missed,
        copies
    }
);
mirror!(CgroupKey = cgroup_key { id, hierarchy });
mirror!(CommKey = comm_key { name });

macro_rules! same_values {
    ($ours:ident = $theirs:ident { $($variant:ident = $constant:ident),* $(,)? } $count:ident) => {
        const _: () = {
            $(assert!($ours::$variant as u32 == types::$theirs::$constant.0);)*
            let compared = [$($ours::$variant),*];
            assert!(compared.len() == $ours::COUNT);
            assert!(compared.len() == types::$theirs::$count.0 as usize);
        };
    };
}

same_values!(TickOutcome = outcome {
    Delivered = OUTCOME_DELIVERED,
    LostRingFull = OUTCOME_LOST_RING_FULL,
    SkippedIdle = OUTCOME_SKIPPED_IDLE,
    SkippedProcess = OUTCOME_SKIPPED_PROCESS,
    SkippedCgroup = OUTCOME_SKIPPED_CGROUP,
    SkippedComm = OUTCOME_SKIPPED_COMM,
    SkippedMode = OUTCOME_SKIPPED_MODE,
    SkippedNamespace = OUTCOME_SKIPPED_NAMESPACE,
} OUTCOMES);

same_values!(StackEnd = stack_end {
    Absent = STACK_END_ABSENT,
    Complete = STACK_END_COMPLETE,
    Depth = STACK_END_DEPTH,
    NoRow = STACK_END_NO_ROW,
    ReturnAddress = STACK_END_RETURN_ADDRESS,
    Unreadable = STACK_END_UNREADABLE,
    ThirtyTwoBit = STACK_END_32_BIT,
    KernelRefused = STACK_END_KERNEL_REFUSED,
    NoMapping = STACK_END_NO_MAPPING,
    NotExpressible = STACK_END_NOT_EXPRESSIBLE,
    WorkLimit = STACK_END_WORK_LIMIT,
    NoTable = STACK_END_NO_TABLE,
    SnapshotEnd = STACK_END_SNAPSHOT_END,
} STACK_ENDS);
