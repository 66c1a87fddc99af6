//! Strings and line tables of real interpreters, as `tests/golden/cpython/write.py` has written
//! them, and what their authors would not write.

use std::fs;
use std::path::Path;

use super::{CodeObject, CodeParts, CpythonVersion, code_object};
use crate::kernel::abi::CODE_LINES_MAX;
use crate::runtimes::text::TextPart;

/// Bytes of a line table of which the rest is unknown.
const LINES_MAX: usize = 1024;

/// Reads what each version has written.
fn golden_files() -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cpython");
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let texts = entries.filter(|path| path.extension().is_some_and(|ending| ending == "txt"));
    let files: Vec<String> = texts.map(|path| fs::read_to_string(path).unwrap()).collect();
    assert!(files.len() >= 7, "{} files", files.len());
    files
}

fn unhex(digits: &str) -> Vec<u8> {
    let pairs = (0..digits.len()).step_by(2);
    pairs.map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// Returns the version of a line `version HEX`. Of those before 3.11 only the minor version is
/// found in a file.
fn version_of(line: &str) -> CpythonVersion {
    let hex = u32::from_str_radix(line.strip_prefix("version ").unwrap(), 16).unwrap();
    let hex = if hex < 0x030b_0000 { hex & 0xffff_0000 } else { hex };
    CpythonVersion::from_hex(hex).unwrap()
}

/// A code object that an interpreter has written.
struct GoldenCode {
    name: String,
    first_line: u32,
    table: Vec<u8>,
    /// The lines from each position on, 0 for none.
    runs: Vec<(u32, u32)>,
    /// The position after the last instruction.
    end: u32,
}

impl GoldenCode {
    /// Parses `code NAME FIRST_LINE TABLE` and `lines POSITION:LINE... POSITION:end`.
    fn parse(code: &str, lines: &str) -> Self {
        let mut fields = code.strip_prefix("code ").unwrap().rsplitn(3, ' ');
        let [table, first_line, name] = [0; 3].map(|_| fields.next().unwrap());
        let runs = lines.split(' ').skip(1).map(|run| run.split_once(':').unwrap());
        let mut runs: Vec<(u32, &str)> =
            runs.map(|(position, line)| (position.parse().unwrap(), line)).collect();
        let (end, _) = runs.pop().unwrap();
        let runs = runs.into_iter().map(|(position, line)| (position, line.parse().unwrap()));
        Self {
            name: name.into(),
            first_line: first_line.parse().unwrap(),
            table: unhex(table),
            runs: runs.collect(),
            end,
        }
    }

    /// Returns the line of a position as the interpreter has it.
    fn line(&self, position: u32) -> Option<u32> {
        let before = self.runs.iter().take_while(|(start, _)| *start <= position);
        before.last().map(|(_, line)| *line).filter(|line| *line != 0)
    }

    /// Returns the code object as the kernel side sends it.
    fn decoded(&self, version: CpythonVersion) -> CodeObject {
        let parts = CodeParts {
            first_line: self.first_line,
            lines: &self.table[..self.table.len().min(LINES_MAX)],
            lines_length: self.table.len() as u32,
            ..CodeParts::default()
        };
        code_object::decode(version, &parts)
    }
}

#[test]
fn lines_are_those_of_the_interpreter() {
    for file in golden_files() {
        let mut lines = file.lines();
        let version = version_of(lines.next().unwrap());
        let (mut checked, mut unknown) = (0, 0);
        let mut lines = lines.filter(|line| !line.starts_with("text "));
        while let (Some(code), Some(positions)) = (lines.next(), lines.next()) {
            let golden = GoldenCode::parse(code, positions);
            let decoded = golden.decoded(version);
            let is_cut = golden.table.len() > LINES_MAX;
            for position in (0..golden.end).step_by(2) {
                let line = decoded.line(position);
                if is_cut && line.is_none() {
                    unknown += 1;
                } else {
                    assert_eq!(line, golden.line(position), "{version} {} {position}", golden.name);
                    checked += 1;
                }
            }
            assert_eq!(decoded.line(u32::MAX), None);
            assert_eq!(decoded.line(0u32.wrapping_sub(2)), Some(golden.first_line));
        }
        assert!(checked > 700, "{version}: {checked} positions");
        // From 3.11 on the line with 150 sums has a table that is cut.
        assert_eq!(unknown > 0, version.minor() >= 11, "{version}: {unknown}");
    }
}

#[test]
fn strings_are_those_of_the_interpreter() {
    for file in golden_files() {
        let version = version_of(file.lines().next().unwrap());
        let texts: Vec<&str> = file.lines().filter(|line| line.starts_with("text ")).collect();
        assert!(texts.len() >= 7);
        for text in texts {
            let fields: Vec<&str> = text.split(' ').collect();
            let [_, width, length, memory, expected] = fields[..] else { panic!("{text}") };
            let memory = unhex(memory);
            let part = TextPart {
                bytes: &memory,
                width: width.parse().unwrap(),
                length: length.parse().unwrap(),
            };
            let parts = CodeParts { name: part, file: part, ..CodeParts::default() };
            let code = code_object::decode(version, &parts);
            let expected = String::from_utf8(unhex(expected)).unwrap();
            assert_eq!(code.name.as_deref(), Some(&*expected));
            assert_eq!(code.file.as_deref(), Some(&*expected));
        }
    }
}

#[test]
fn malformed_line_tables_do_no_harm() {
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    let endless_numbers = vec![0xff; 4 * CODE_LINES_MAX];
    let mut tables = vec![Vec::new(), vec![0; 1], endless_numbers, vec![0x80; CODE_LINES_MAX]];
    tables.extend((0..200).map(|_| (0..CODE_LINES_MAX).map(|_| random()).collect()));
    for minor in 7..=15 {
        let patch = if minor < 11 { 0 } else { 0xf0 };
        let version = CpythonVersion::from_hex(3 << 24 | minor << 16 | patch).unwrap();
        for (table, first_line) in tables.iter().zip([0, 1, 1 << 31, u32::MAX].iter().cycle()) {
            let lines_length = [table.len() as u32, u32::MAX][table.len() % 2];
            let parts = CodeParts {
                first_line: *first_line,
                lines: table,
                lines_length,
                ..CodeParts::default()
            };
            let code = code_object::decode(version, &parts);
            for position in [0, 1, 2, 100, 4096, 1 << 20, 1 << 30, u32::MAX - 1, u32::MAX] {
                code.line(position);
            }
            assert!(code.bytes() <= CODE_LINES_MAX);
        }
    }
}
