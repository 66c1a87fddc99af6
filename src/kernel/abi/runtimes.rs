//! Runtimes of processes and interpreter frames: `bpf/runtimes/abi.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::compare::{Mirrors, constants, mirror, same_type, same_values};
use crate::kernel::skeleton::types;

constants!(interpreter_limit {
    /// Elements of a list of interpreter frames, entries included.
    INTERPRETER_FRAMES_MAX: usize,
    /// The same where the kernel has no `bpf_loop`.
    TAIL_CALL_INTERPRETER_FRAMES_MAX: usize,
    /// Bytes of a code object's name, from its start.
    CODE_NAME_MAX: usize,
    /// Bytes of a code object's file name, up to the end.
    CODE_FILE_MAX: usize,
    /// Bytes of a code object's line table, from the start.
    CODE_LINES_MAX: usize,
    /// Code objects that are remembered as sent.
    CODE_TAGS: u32,
});
constants!(thread_value_kind {
    /// In [`ThreadValue::kind`]: there is none.
    THREAD_VALUE_NONE: u32,
    /// The value is at an offset from the thread pointer.
    THREAD_VALUE_STATIC: u32,
    /// The value is in the block of a module that was loaded later.
    THREAD_VALUE_DYNAMIC: u32,
    /// The value is that of a key of `pthread_getspecific`.
    THREAD_VALUE_KEY: u32,
});
constants!(libc_kind {
    /// In [`RuntimeProcess::libc`]: the C library is glibc.
    LIBC_GLIBC: u16,
    /// The C library is musl.
    LIBC_MUSL: u16,
});
constants!(position_kind {
    /// In [`CpythonLayout::position_kind`]: an int, bytes from the start of the bytecode.
    POSITION_BYTES: u8,
    /// An int, units of 2 bytes.
    POSITION_UNITS: u8,
    /// A pointer to the instruction.
    POSITION_POINTER: u8,
});
constants!(entry_kind {
    /// In [`CpythonLayout::entry_kind`]: entries are not found (3.7 to 3.9).
    ENTRY_NONE: u8,
    /// Every frame has an entry, its cframe (3.10).
    ENTRY_CFRAME_EACH: u8,
    /// A frame with `is_entry` is the last of its cframe (3.11).
    ENTRY_CFRAME_LAST: u8,
    /// Frames with an owner from `entry_owner` on are entries (3.12).
    ENTRY_FRAME: u8,
});

/// The second word of an [`InterpreterRecord`], where a sample has its sequence number.
pub const RECORD_INTERPRETER: u64 = marker(types::record_marker::RECORD_MARKER_INTERPRETER.0 as _);
/// The second word of a [`CodeRecord`].
pub const RECORD_CODE: u64 = marker(types::record_marker::RECORD_MARKER_CODE.0 as _);
/// In [`InterpreterFrame::code`]: an entry into the interpreter; the rest is its anchor.
pub const INTERPRETER_ENTRY: u64 = 1 << types::interpreter_flag_bit::INTERPRETER_ENTRY_BIT.0;

const fn marker(value: i32) -> u64 {
    value as i64 as u64
}

/// The runtime of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RuntimeKind {
    /// None that is known.
    None,
    /// CPython, 3.7 or later.
    Cpython,
}

impl RuntimeKind {
    /// The number of kinds.
    pub const COUNT: usize = Self::ALL.len();
    const ALL: [Self; 2] = [Self::None, Self::Cpython];

    /// Returns the kind with a value, if there is one.
    pub fn from_value(value: u8) -> Option<Self> {
        Self::ALL.get(usize::from(value)).copied()
    }
}

same_values!(RuntimeKind = runtime_kind {
    None = RUNTIME_NONE,
    Cpython = RUNTIME_CPYTHON,
} RUNTIMES);

/// Why a list of interpreter frames ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum InterpreterEnd {
    /// At the first frame of the thread.
    Complete,
    /// There are more frames than the limit, or than fit into the tick's time.
    Depth,
    /// A frame could not be read.
    Unreadable,
    /// A frame is not one: its address is none, its owner is not known, or it calls itself.
    Malformed,
    /// The thread runs no interpreter. No record has this.
    NoThread,
}

impl InterpreterEnd {
    /// The number of ends.
    pub const COUNT: usize = Self::ALL.len();
    const ALL: [Self; 5] =
        [Self::Complete, Self::Depth, Self::Unreadable, Self::Malformed, Self::NoThread];

    /// Returns the end with a value, if there is one.
    pub fn from_value(value: u8) -> Option<Self> {
        Self::ALL.get(usize::from(value)).copied()
    }
}

same_values!(InterpreterEnd = interpreter_end {
    Complete = INTERPRETER_END_COMPLETE,
    Depth = INTERPRETER_END_DEPTH,
    Unreadable = INTERPRETER_END_UNREADABLE,
    Malformed = INTERPRETER_END_MALFORMED,
    NoThread = INTERPRETER_END_NO_THREAD,
} INTERPRETER_ENDS);

/// A frame of interpreted code, or an entry into the interpreter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InterpreterFrame {
    /// Address of the code object; of an entry, [`INTERPRETER_ENTRY`] and its anchor.
    pub code: u64,
    /// Offset of the instruction and fingerprint of the code object; of an entry, the number of
    /// its native frame.
    pub position: u64,
}

/// Head of a record of interpreter frames; [`InterpreterFrame`]s follow, innermost first.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InterpreterRecord {
    /// Nanoseconds of CLOCK_MONOTONIC: that of the sample.
    pub time: u64,
    /// [`RECORD_INTERPRETER`].
    pub marker: u64,
    /// Of the sample, on its CPU.
    pub sequence: u64,
    /// Process.
    pub pid: u32,
    /// CPU.
    pub cpu: u32,
    /// Elements that follow.
    pub count: u16,
    /// A [`RuntimeKind`].
    pub kind: u8,
    /// An [`InterpreterEnd`].
    pub end: u8,
    /// Zero.
    pub reserved: u32,
}

/// Head of a record of a code object. The bytes of its name, file name and line table follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CodeRecord {
    /// Nanoseconds of CLOCK_MONOTONIC: that of the sample that saw it first.
    pub time: u64,
    /// [`RECORD_CODE`].
    pub marker: u64,
    /// Address of the code object.
    pub code: u64,
    /// Process.
    pub pid: u32,
    /// Fingerprint of the code object.
    pub fingerprint: u32,
    /// Its first line.
    pub first_line: u32,
    /// Length of its whole name, in characters.
    pub name_length: u32,
    /// Length of its whole file name, in characters.
    pub file_length: u32,
    /// Length of its whole line table, in bytes.
    pub lines_length: u32,
    /// Bytes of the name that follow: its start.
    pub name_bytes: u16,
    /// Bytes of the file name that follow: its end.
    pub file_bytes: u16,
    /// Bytes of the line table that follow: its start.
    pub lines_bytes: u16,
    /// Bytes of a character of the name: 1, 2 or 4; 0 is ASCII.
    pub name_width: u8,
    /// Bytes of a character of the file name, likewise.
    pub file_width: u8,
    /// A [`RuntimeKind`].
    pub kind: u8,
    /// Zero.
    pub reserved: [u8; 7],
}

/// Where a thread keeps a pointer of its own.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ThreadValue {
    /// Of the words {module, offset} that `__tls_get_addr` takes, or of the key, an int.
    pub address: u64,
    /// From the thread pointer, or added to the second of these words.
    pub offset: i32,
    /// `THREAD_VALUE_*`.
    pub kind: u32,
}

/// Offsets in CPython's structures, in bytes; 0 where a version has no such field, unless it says
/// otherwise.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct CpythonLayout {
    /// Of `PyThreadState`: the current frame; 0 if the cframe has it.
    pub thread_frame: u16,
    /// Of `PyThreadState`: the current cframe.
    pub thread_cframe: u16,
    /// Of a cframe: its current frame; may be 0.
    pub cframe_frame: u16,
    /// Of a cframe: the one before.
    pub cframe_previous: u16,
    /// Of a frame: its code object; may be 0.
    pub frame_code: u16,
    /// Of a frame: its caller.
    pub frame_previous: u16,
    /// Of a frame: where it is in the bytecode, as `position_kind` says.
    pub frame_position: u16,
    /// Of a frame: its owner, a byte; in 3.11 whether it is the last of its group.
    pub frame_owner: u16,
    /// Of a code object: its first line, an `int`.
    pub code_first_line: u16,
    /// Of a code object: its name, qualified from 3.11 on.
    pub code_name: u16,
    /// Of a code object: the name of its file.
    pub code_file: u16,
    /// Of a code object: its line table.
    pub code_line_table: u16,
    /// Of a code object: a number that no other code object of the process has.
    pub code_version: u16,
    /// Of a code object: the first byte of its bytecode.
    pub code_bytecode: u16,
    /// Of a string: its length in characters.
    pub text_length: u16,
    /// Of a string: its state, of which bits say the width of its characters.
    pub text_state: u16,
    /// Of a string of ASCII: the first character.
    pub text_ascii: u16,
    /// Of another string: the first character.
    pub text_compact: u16,
    /// Of a bytes object: its length.
    pub bytes_length: u16,
    /// Of a bytes object: the first byte.
    pub bytes_data: u16,
    /// The first of three bits of a string's state with its kind; the next two are `compact` and
    /// `ascii`.
    pub text_kind_shift: u8,
    /// How a frame notes where it is: `POSITION_*`.
    pub position_kind: u8,
    /// Where entries are recorded: `ENTRY_*`.
    pub entry_kind: u8,
    /// Owners from this one on are those of entries.
    pub entry_owner: u8,
    /// Bits of a frame's code object that are no part of its address.
    pub code_tag_mask: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// The runtime of a process, in the slab behind its mappings.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct RuntimeProcess {
    /// Address of `_PyRuntime`.
    pub state: u64,
    /// Of the thread state: the first that is not 0 counts.
    pub values: [ThreadValue; 2],
    /// Offset from the thread pointer of glibc's `pthread_specific`, or of musl's `tsd`.
    pub specific: u32,
    /// `LIBC_*`.
    pub libc: u16,
    /// Changes when all code objects are to be sent again.
    pub epoch: u16,
    /// CPython's structures.
    pub cpython: CpythonLayout,
}

mirror!(InterpreterFrame = interpreter_frame { code, position });
mirror!(
    InterpreterRecord =
        interpreter_record { time, marker, sequence, pid, cpu, count, kind, end, reserved }
);
mirror!(
    CodeRecord = code_record {
        time,
        marker,
        code,
        pid,
        fingerprint,
        first_line,
        name_length,
        file_length,
        lines_length,
        name_bytes,
        file_bytes,
        lines_bytes,
        name_width,
        file_width,
        kind,
        reserved,
    }
);
mirror!(ThreadValue = thread_value { address, offset, kind });
mirror!(
    CpythonLayout = cpython_layout {
        thread_frame,
        thread_cframe,
        cframe_frame,
        cframe_previous,
        frame_code,
        frame_previous,
        frame_position,
        frame_owner,
        code_first_line,
        code_name,
        code_file,
        code_line_table,
        code_version,
        code_bytecode,
        text_length,
        text_state,
        text_ascii,
        text_compact,
        bytes_length,
        bytes_data,
        text_kind_shift,
        position_kind,
        entry_kind,
        entry_owner,
        code_tag_mask,
        reserved,
    }
);
mirror!(RuntimeProcess = runtime_process { state, values, specific, libc, epoch, cpython });
impl Mirrors<[types::thread_value; 2]> for [ThreadValue; 2] {}
