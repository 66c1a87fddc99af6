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
    /// Words for the layout of a runtime's structures.
    RUNTIME_LAYOUT_WORDS: usize,
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

/// The layout of a runtime's structures, as its header in `bpf/runtimes` declares it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct RuntimeLayout([u64; RUNTIME_LAYOUT_WORDS]);

impl RuntimeLayout {
    /// Returns a layout of one runtime as one of any.
    pub fn of<Layout: IntoBytes + Immutable>(layout: &Layout) -> Self {
        const { assert!(size_of::<Layout>() <= size_of::<Self>(), "the layout fits") };
        let mut of_any = Self::default();
        of_any.as_mut_bytes()[..size_of::<Layout>()].copy_from_slice(layout.as_bytes());
        of_any
    }

    /// Returns it as that of a runtime; `None` if those are larger.
    pub fn read<Layout: FromBytes>(&self) -> Option<Layout> {
        Layout::read_from_prefix(self.as_bytes()).ok().map(|(layout, _)| layout)
    }
}

/// The runtime of a process, in the slab behind its mappings.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct RuntimeProcess {
    /// Address of the runtime's state.
    pub state: u64,
    /// Of the thread state: the first that is not 0 counts.
    pub values: [ThreadValue; 2],
    /// Offset from the thread pointer of glibc's `pthread_specific`, or of musl's `tsd`.
    pub specific: u32,
    /// `LIBC_*`.
    pub libc: u16,
    /// Changes when all code objects are to be sent again.
    pub epoch: u16,
    /// Where the fields of the runtime's structures are.
    pub layout: RuntimeLayout,
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
mirror!(RuntimeProcess = runtime_process { state, values, specific, libc, epoch, layout });
impl Mirrors<[types::thread_value; 2]> for [ThreadValue; 2] {}
impl Mirrors<[u64; RUNTIME_LAYOUT_WORDS]> for RuntimeLayout {}
