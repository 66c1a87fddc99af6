//! The name and the lines of a code object, from what the kernel side read of it.

use std::fmt;

use super::text::TextPart;

/// What was read of a code object.
#[derive(Clone, Copy, Debug, Default)]
pub struct CodeParts<'a> {
    /// The beginning of its name.
    pub name: TextPart<'a>,
    /// The end of the name of its file.
    pub file: TextPart<'a>,
    /// Its first line.
    pub first_line: u32,
    /// The beginning of its line table.
    pub lines: &'a [u8],
    /// Bytes of its whole line table.
    pub lines_length: u32,
}

/// The lines of a code object.
pub(super) trait CodeLines: fmt::Debug + Send + Sync {
    /// Returns the line of the instruction at a position, in bytes from the start of the bytecode;
    /// `None` if the instruction has none, or it was not read.
    fn line(&self, position: u32) -> Option<u32>;

    /// Returns the bytes that the lines take in memory.
    fn bytes(&self) -> usize;
}

/// A code object: a function, or what else is compiled as one.
#[derive(Debug)]
pub struct CodeObject {
    /// Its name, in as much detail as the runtime has it. `None` if it could not be read.
    pub name: Option<Box<str>>,
    /// The name of its file. `None` if it could not be read.
    pub file: Option<Box<str>>,
    /// Its first line.
    pub first_line: u32,
    /// Whether its frames are those of a function, and not of the interpreter itself.
    pub is_function: bool,
    pub(super) lines: Box<dyn CodeLines>,
}

impl CodeObject {
    /// Returns the line of the instruction at a position, in bytes from the start of the bytecode;
    /// `None` if the instruction has none, or it was not read.
    pub fn line(&self, position: u32) -> Option<u32> {
        self.lines.line(position)
    }

    /// Returns the bytes that its texts and its lines take.
    pub fn bytes(&self) -> usize {
        let texts = [&self.name, &self.file].into_iter().flatten();
        texts.map(|text| text.len()).sum::<usize>() + self.lines.bytes()
    }
}
