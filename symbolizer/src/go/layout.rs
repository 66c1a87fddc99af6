//! The formats of Go's function table (`.gopclntab`), by the version in its header.
//!
//! Source: the Go source tree, `runtime/symtab.go` (`pcHeader`), `runtime/runtime2.go` (`_func`),
//! `runtime/symtabinl.go` (`inlinedCall`), of Go 1.16 to 1.27.

use crate::elf::{FileBytes, number};

/// The first bytes of a header: a number for the version, two zeros, and the sizes of instructions
/// and pointers on x86-64.
pub(super) const STARTS: [[u8; 8]; 3] = [
    [0xfa, 0xff, 0xff, 0xff, 0, 0, 1, 8],
    [0xf0, 0xff, 0xff, 0xff, 0, 0, 1, 8],
    [0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8],
];
/// Bytes of the longest header.
pub(super) const HEADER_MAX: usize = 72;
/// Functions of one file.
const FUNCTIONS_MAX: u64 = 1 << 21;

/// The versions of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// Functions have addresses.
    Go116,
    /// Functions have offsets in the text.
    Go118,
    /// Functions also have the line on which they start.
    Go120,
}

/// Where the parts of a table are: offsets in bytes from its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub version: Version,
    /// Number of functions.
    pub count: u64,
    pub names: u64,
    /// Numbers of files in each unit to offsets in `files`.
    pub units: u64,
    pub files: u64,
    /// Values by address.
    pub values: u64,
    pub functions: u64,
}

impl Layout {
    /// Reads the header of a table at an offset of a file; `None` if there is none.
    pub fn read(file: &FileBytes, at: u64) -> Option<Self> {
        let header = file.read(at, HEADER_MAX).ok()?;
        let version = STARTS.iter().position(|start| header.starts_with(start))?;
        let version = [Version::Go116, Version::Go118, Version::Go120][version];
        // Since 1.18 there is one more word, where the text starts; it is 0 since 1.26.
        let first = if version == Version::Go116 { 2 } else { 3 };
        let word = |at: usize| number(&header, 8 + 8 * at, 8);
        let layout = Self {
            version,
            count: word(0),
            names: word(first),
            units: word(first + 1),
            files: word(first + 2),
            values: word(first + 3),
            functions: word(first + 4),
        };
        (1..=FUNCTIONS_MAX).contains(&layout.count).then_some(layout)
    }

    /// Returns the bytes of an entry of the list of functions: two numbers.
    pub fn entry(&self) -> u64 {
        if self.version == Version::Go116 { 16 } else { 8 }
    }

    /// Returns the bytes of a function's record before its lists.
    pub fn record(&self) -> u64 {
        if self.version == Version::Go118 { 40 } else { 44 }
    }

    /// Returns the bytes of a call in an inlining tree, and where in it the name and the position
    /// of the call are.
    pub fn inlined_call(&self) -> (u64, usize, usize) {
        if self.version == Version::Go120 { (16, 4, 8) } else { (20, 12, 16) }
    }
}
