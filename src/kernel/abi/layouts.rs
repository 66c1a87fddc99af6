//! Layouts of the structures of each runtime, as `struct NAME_layout` of `bpf/runtimes/NAME.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::compare::{Mirrors, constants, mirror, same_type};
use crate::kernel::skeleton::types;

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
