//! Frames and code objects of interpreters, as the kernel recorded them.

use profile::{Cpu, Pid, VirtAddr};

use crate::kernel::abi::{InterpreterEnd, RuntimeKind};

/// The interpreter frames of a sample. Its event comes before the sample's, at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterpreterStack {
    /// Of the sample, on its CPU.
    pub sequence: u64,
    /// The CPU that ticked.
    pub cpu: Cpu,
    /// The process.
    pub pid: Pid,
    /// Its runtime, which is not `None`.
    pub runtime: RuntimeKind,
    /// Frames and entries, innermost first.
    pub frames: Box<[InterpreterFrame]>,
    /// Why they end.
    pub end: InterpreterEnd,
}

/// One element of an [`InterpreterStack`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterpreterFrame {
    /// A frame of interpreted code.
    Code {
        /// Address of its code object.
        code: VirtAddr,
        /// Fingerprint of the code object; 0 if the kernel could not read it, and of some code
        /// of the interpreter itself.
        fingerprint: u32,
        /// Byte offset in the bytecode of the instruction that the frame is at, if it is known.
        position: Option<u32>,
    },
    /// The evaluation loop that the frames before it run in, up to the previous entry.
    Entry {
        /// Address of a record that this evaluation loop has on its stack.
        anchor: VirtAddr,
        /// The number of the native user frame that the anchor lies in, 0 for the innermost;
        /// `None` if the kernel's walk did not reach it.
        native_frame: Option<u32>,
    },
}

/// A code object that a tick saw for the first time, with its parts as the interpreter stores them.
/// Its event comes before those of this tick's frames, at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeRecord {
    /// The process.
    pub pid: Pid,
    /// Its runtime, which is not `None`.
    pub runtime: RuntimeKind,
    /// Address of the code object.
    pub code: VirtAddr,
    /// Its fingerprint.
    pub fingerprint: u32,
    /// Its first line.
    pub first_line: u32,
    /// The start of its name.
    pub name: CodeText,
    /// The end of its file name.
    pub file: CodeText,
    /// The start of its line table.
    pub lines: Box<[u8]>,
    /// Length of the whole line table, in bytes.
    pub lines_length: u32,
}

/// Text of a code object, or the part of it that was recorded: nothing if it could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeText {
    /// The characters, each of `width` bytes.
    pub bytes: Box<[u8]>,
    /// Bytes of a character: 1 for Latin-1, 2 for UCS-2, 4 for UCS-4, 0 for ASCII of one byte.
    pub width: u8,
    /// Length of the whole text, in characters.
    pub length: u32,
}
