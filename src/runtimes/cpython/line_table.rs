//! The lines of a code object, by the position in its bytecode.
//!
//! Sources: `Objects/lnotab_notes.txt` of CPython up to 3.9 and of 3.10, and `Objects/locations.md`
//! (later `InternalDocs/code_objects.md`) from 3.11 on. The bytes were copied from a process and
//! are untrusted; a look-up takes time in proportion to their number.

use super::version::CpythonVersion;
use crate::kernel::abi::CODE_LINES_MAX;
use crate::runtimes::code_object::CodeLines;

/// How lines are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineFormat {
    /// Up to 3.9: pairs of the bytes to the next line, and the lines to there.
    Lnotab,
    /// 3.10: pairs of the bytes of a range, and the lines from the last range to this one.
    Ranges,
    /// From 3.11 on: entries of several bytes, with columns.
    Locations,
}

/// The line table of a code object, or the beginning of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LineTable {
    format: LineFormat,
    first_line: u32,
    bytes: Box<[u8]>,
    is_whole: bool,
}

impl LineTable {
    /// `length`: bytes of the whole table.
    pub fn new(version: CpythonVersion, first_line: u32, bytes: &[u8], length: u32) -> Self {
        let format = match version.minor() {
            ..=9 => LineFormat::Lnotab,
            10 => LineFormat::Ranges,
            11.. => LineFormat::Locations,
        };
        let bytes: Box<[u8]> = bytes[..bytes.len().min(CODE_LINES_MAX)].into();
        let is_whole = bytes.len() >= length as usize;
        Self { format, first_line, bytes, is_whole }
    }
}

impl CodeLines for LineTable {
    fn line(&self, position: u32) -> Option<u32> {
        if position == u32::MAX {
            return None; // unknown
        }
        if position.cast_signed() < 0 {
            return Some(self.first_line); // the first instruction comes next
        }
        let position = u64::from(position);
        let line = match self.format {
            LineFormat::Lnotab => self.line_by_lnotab(position),
            LineFormat::Ranges => self.line_by_ranges(position),
            LineFormat::Locations => self.line_by_locations(position),
        };
        u32::try_from(line?).ok().filter(|line| *line > 0)
    }

    fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl LineTable {
    /// As `PyCode_Addr2Line` of 3.9 does.
    fn line_by_lnotab(&self, position: u64) -> Option<i64> {
        let (pairs, _) = self.bytes.as_chunks();
        let (mut start, mut line) = (0, i64::from(self.first_line));
        for [bytes, lines] in pairs.iter().copied() {
            start += u64::from(bytes);
            if start > position {
                return Some(line);
            }
            line += i64::from(lines.cast_signed());
        }
        self.is_whole.then_some(line)
    }

    /// As `_PyCode_CheckLineNumber` of 3.10 does.
    fn line_by_ranges(&self, position: u64) -> Option<i64> {
        const NO_LINE: i8 = -128;
        let (pairs, _) = self.bytes.as_chunks();
        let (mut end, mut line) = (0, i64::from(self.first_line));
        for [bytes, lines] in pairs.iter().copied() {
            end += u64::from(bytes);
            let has_line = lines.cast_signed() != NO_LINE;
            if has_line {
                line += i64::from(lines.cast_signed());
            }
            if position < end {
                return has_line.then_some(line);
            }
        }
        None
    }

    /// As `_PyCode_CheckLineNumber` of 3.11 does.
    fn line_by_locations(&self, position: u64) -> Option<i64> {
        const UNIT: u64 = 2;
        const NO_COLUMNS: u8 = 13;
        const LONG: u8 = 14;
        const NO_LOCATION: u8 = 15;
        let mut bytes = Bytes(&self.bytes);
        let (mut end, mut line) = (0, i64::from(self.first_line));
        loop {
            let head = bytes.next()?;
            if head & 0x80 == 0 {
                return None; // it is no head of an entry
            }
            let code = head >> 3 & 15;
            match code {
                0..=9 => bytes.skip(1)?,
                10..=12 => {
                    line += i64::from(code - 10);
                    bytes.skip(2)?;
                }
                NO_COLUMNS => line += bytes.signed()?,
                LONG => {
                    line += bytes.signed()?;
                    for _ in ["end line", "column", "end column"] {
                        bytes.unsigned()?;
                    }
                }
                _ => {}
            }
            end += (u64::from(head & 7) + 1) * UNIT;
            if position < end {
                return (code != NO_LOCATION).then_some(line);
            }
        }
    }
}

/// The rest of a table.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.0 = self.0.get(count..)?;
        Some(())
    }

    /// Reads a number of six bits a byte, the lowest first; `None` if it has more than 30.
    fn unsigned(&mut self) -> Option<i64> {
        let mut number = 0;
        for shift in [0, 6, 12, 18, 24] {
            let byte = self.next()?;
            number |= i64::from(byte & 0x3f) << shift;
            if byte & 0x40 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// Reads a number whose lowest bit is its sign.
    fn signed(&mut self) -> Option<i64> {
        let number = self.unsigned()?;
        Some(if number & 1 == 0 { number >> 1 } else { -(number >> 1) })
    }
}
