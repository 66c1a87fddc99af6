//! Limits, records and map values of the sampler: `bpf/abi.h`.

use profile::TickOutcome;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::compare::{Mirrors, constants, mirror, same_type};
use crate::kernel::skeleton::types;

constants!(stack_limit {
    /// Frames of a kernel stack at most.
    KERNEL_FRAMES_MAX: u32,
    /// Frames of a user stack at most.
    USER_FRAMES_MAX: u32,
    /// The same for the tail-call unwinder.
    TAIL_CALL_FRAMES_MAX: u32,
    /// General registers.
    REGISTERS: usize,
    /// Bytes of a task's name, NUL included.
    COMM_LEN: usize,
});
constants!(snapshot_size {
    /// Bytes of the longer stack snapshot: whole pages.
    STACK_SNAPSHOT_MAX: usize,
    /// Bytes of the shorter one, for a shorter stack or a ring that fills up.
    STACK_SNAPSHOT_SHORT: usize,
    /// Bytes of a page.
    PAGE_BYTES: u64,
});
constants!(time_class_limit {
    /// Classes to each power of two of nanoseconds.
    TIME_CLASSES_PER_POWER: u32,
    /// Classes of the sampler's time in one tick.
    TIME_CLASSES: usize,
});
constants!(slab_layout {
    /// Bytes of a slab.
    SLAB_BYTES: usize,
    /// Bytes of the unit in which slots are addressed.
    SLAB_UNIT_BYTES: usize,
    /// Units in a slab, as a power of two: a slot is a slab's number and a unit.
    SLAB_UNITS_SHIFT: u32,
    /// Slabs at most.
    SLABS_MAX: u32,
});
constants!(map_limit {
    /// Blocks of all tables together.
    BLOCKS_MAX: u32,
    /// Mappings of one process that are published at most.
    MAPPINGS_MAX: usize,
});
constants!(block_state {
    /// In place of a block's slot: the block has no rows and never will.
    BLOCK_EMPTY: u32,
    /// In place of a block's slot: the block has rows, but they do not fit or are in
    /// backoff.
    BLOCK_REFUSED: u32,
});
constants!(sample_flag {
    /// In [`Sample::flags`]: the walk stopped early, and the record is an [`UnfinishedSample`].
    SAMPLE_UNFINISHED: u8,
});
constants!(known_register {
    /// In [`Registers::known`]: the frame pointer is known.
    KNOWN_FP: u32,
    /// The base register is known.
    KNOWN_BASE: u32,
    /// All registers are known: the frame was interrupted.
    KNOWN_ALL: u32,
    /// The registers of the frame that this one called are known.
    KNOWN_CALLEE: u32,
});

/// In a user frame: it is at the address itself, not behind a call or system call.
pub const FRAME_EXACT: u64 = 1 << types::frame_flag_bit::FRAME_EXACT_BIT.0;
/// In a user frame: found by frame pointer, and no unwind row confirms it.
pub const FRAME_GUESSED: u64 = 1 << types::frame_flag_bit::FRAME_GUESSED_BIT.0;

/// Head of a record in the ring. Addresses of 8 bytes follow, each stack innermost first, the
/// kernel's before the user's.
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
    /// A [`profile::StackEnd`].
    pub kernel_end: u8,
    /// A [`profile::StackEnd`].
    pub user_end: u8,
    /// `SAMPLE_*`.
    pub flags: u8,
    /// Zero.
    pub reserved: [u8; 5],
    /// The thread's name, NUL-terminated.
    pub comm: [u8; COMM_LEN],
}

/// The registers of one frame.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Registers {
    /// Where the thread goes on in this frame.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer, if it is known.
    pub fp: u64,
    /// Base register, if it is known.
    pub base: u64,
    /// Which of them are known: `KNOWN_*`.
    pub known: u32,
    /// 1 if `ip` is behind the instruction that the frame is at.
    pub is_behind: u32,
    /// General registers by DWARF number: of this frame or of the one that it called, if known.
    pub all: [u64; REGISTERS],
}

/// A sample whose walk the agent finishes. A stack snapshot of up to [`STACK_SNAPSHOT_MAX`] bytes
/// follows, from the start of the page that the red zone begins in.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UnfinishedSample {
    /// Its head.
    pub sample: Sample,
    /// The frames of both stacks. As many are valid as `sample` counts.
    pub frames: [u64; (KERNEL_FRAMES_MAX + USER_FRAMES_MAX) as usize],
    /// Of the last frame.
    pub registers: Registers,
    /// Valid bytes of the stack snapshot.
    pub stack_bytes: u64,
    /// Where the stack snapshot begins.
    pub stack: [u8; 0],
}

/// Head of a process's mappings in a slab; [`MappingEntry`]s follow, sorted by address, and then
/// its runtime.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ProcessHeader {
    /// In the agent's pid namespace.
    pub pid: u32,
    /// Mappings that follow.
    pub count: u32,
    /// When its address space was created, as the programs saw it; 0 if that was before them.
    pub generation: u64,
    /// 1 if the process has more mappings than are published.
    pub is_partial: u32,
    /// A [`RuntimeKind`](super::RuntimeKind). If it is not `None`, a
    /// [`RuntimeProcess`](super::RuntimeProcess) follows the mappings.
    pub runtime: u32,
}

/// A process has moved code: a record in the ring, shorter than any sample.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MovedCode {
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// Moves on this CPU since the last record, which came too fast.
    pub missed: u64,
    /// Process.
    pub pid: u32,
    /// Zero.
    pub reserved: u32,
}

/// An executable mapping in a slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MappingEntry {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// Bytes from the start of its table's text to `start`.
    pub text_offset: u64,
    /// Of its table.
    pub first_block: u32,
    /// Bytes of text that a block covers, as a power of two.
    pub block_shift: u32,
}

/// How to get from a frame to its caller; [`unwind::Rule`] reads and writes it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Rule {
    /// Operand of the operation.
    pub offset: i32,
    /// Operation in the low half, register in the high half.
    pub op_register: u8,
    /// Where the caller's fp is saved.
    pub fp: i8,
    /// Where the caller's base register is saved.
    pub base: i8,
    /// Where the return address is saved.
    pub ra: i8,
}

/// What one CPU's sampler counted.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Counters {
    /// All ticks.
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
}

/// Key of the map of selected cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoBytes, Immutable)]
#[repr(C)]
pub struct CgroupKey {
    /// Inode number of the directory.
    pub id: u64,
    /// Number of the hierarchy; 0 is cgroup v2.
    pub hierarchy: u64,
}

/// Key of the map of selected names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoBytes, Immutable)]
#[repr(C)]
pub struct CommKey {
    /// The name, padded with NUL.
    pub name: [u8; COMM_LEN],
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
mirror!(Registers = registers { ip, sp, fp, base, known, is_behind, all });
mirror!(UnfinishedSample = unfinished_sample { sample, frames, registers, stack_bytes, stack });
mirror!(ProcessHeader = process_header { pid, count, generation, is_partial, runtime });
mirror!(MappingEntry = mapping_entry { start, end, text_offset, first_block, block_shift });
mirror!(MovedCode = moved_code { time, missed, pid, reserved });
mirror!(Rule = rule { offset, op_register, fp, base, ra });
mirror!(
    Counters = counters { ticks, outcomes, time_total, time_max, time_classes, descendants_missed }
);
mirror!(CgroupKey = cgroup_key { id, hierarchy });
mirror!(CommKey = comm_key { name });
