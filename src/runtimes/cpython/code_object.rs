//! The name and the lines of a code object, from what the kernel side read of it.

use super::line_table::LineTable;
use super::text::TextPart;
use super::version::CpythonVersion;

/// What was read of a code object.
#[derive(Clone, Copy, Debug, Default)]
pub struct CodeParts<'a> {
    /// The beginning of its name, which is qualified from 3.11 on.
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

/// A code object: a function, or what else is compiled as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeObject {
    /// Its name; from 3.11 on with the class or function around it: `Class.method`,
    /// `outer.<locals>.inner`. `None` if it could not be read.
    pub name: Option<Box<str>>,
    /// The name of its file. `None` if it could not be read.
    pub file: Option<Box<str>>,
    /// Its first line.
    pub first_line: u32,
    lines: LineTable,
}

impl CodeObject {
    /// Returns the code object of a process with this version.
    pub fn new(version: CpythonVersion, parts: &CodeParts<'_>) -> Self {
        let CodeParts { name, file, first_line, lines, lines_length } = *parts;
        let lines = LineTable::new(version, first_line, lines, lines_length);
        Self { name: name.beginning(), file: file.end(), first_line, lines }
    }

    /// Returns the line of the instruction at a position, in bytes from the start of the bytecode;
    /// `None` if the instruction has none, or it was not read.
    pub fn line(&self, position: u32) -> Option<u32> {
        self.lines.line(position)
    }

    /// Returns the bytes that its texts and its line table take.
    pub fn bytes(&self) -> usize {
        let texts = [&self.name, &self.file].into_iter().flatten();
        texts.map(|text| text.len()).sum::<usize>() + self.lines.bytes()
    }
}
