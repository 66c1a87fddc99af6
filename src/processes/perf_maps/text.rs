//! The text of perf maps: `START SIZE NAME` in each line, in hexadecimal, the name up to its end.
//!
//! Source: `tools/perf/Documentation/jit-interface.txt` of the kernel. HotSpot writes numbers with
//! `0x`, V8 without.

use prost::Message;
use symbolizer::bounded;

/// Bytes of the largest address, and of the largest size, with `0x`.
const NUMBER_MAX: usize = 18;

/// One entry of a perf map or a jitdump: the name of a range of addresses.
#[derive(Clone, PartialEq, Eq, Message)]
pub(in crate::processes) struct MapEntry {
    /// First address.
    #[prost(fixed64, tag = "1")]
    pub start: u64,
    /// Address after the last.
    #[prost(fixed64, tag = "2")]
    pub end: u64,
    /// At most [`symbolizer::TEXT_MAX`] bytes.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Where the code was before it was moved; its name is the one that it had there.
    #[prost(fixed64, optional, tag = "4")]
    pub moved_from: Option<u64>,
    /// When the code was there, in nanoseconds of CLOCK_MONOTONIC; 0 if that is not known.
    #[prost(fixed64, tag = "5")]
    pub time: u64,
}

impl MapEntry {
    /// Returns the entry of code that was not moved, and was there at a time that is not known.
    pub fn new(start: u64, end: u64, name: String) -> Self {
        Self { start, end, name, moved_from: None, time: 0 }
    }
}

/// What a part of a perf map contains.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::processes) struct ParsedText {
    /// In the order of the file.
    pub entries: Vec<MapEntry>,
    /// Bytes up to the end of the last line that is complete.
    pub consumed: usize,
    /// Lines that are no entries.
    pub malformed: u64,
}

/// Parses a part of a perf map. Its last line is left for the next part unless it ends there or
/// `is_last` says that nothing follows. A part without any end of a line is skipped as one
/// malformed line if it has `line_max` bytes.
pub(in crate::processes) fn parse(text: &[u8], is_last: bool, line_max: usize) -> ParsedText {
    let mut parsed = ParsedText::default();
    let lines_end = match text.iter().rposition(|byte| *byte == b'\n') {
        _ if is_last => text.len(),
        Some(at) => at + 1,
        None if text.len() >= line_max => {
            return ParsedText { consumed: text.len(), malformed: 1, ..parsed };
        }
        None => 0,
    };
    parsed.consumed = lines_end;
    for line in text[..lines_end].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match parse_line(line) {
            Some(entry) => parsed.entries.push(entry),
            None => parsed.malformed += 1,
        }
    }
    parsed
}

/// Parses a line; `None` if it is malformed, or of no bytes.
fn parse_line(line: &[u8]) -> Option<MapEntry> {
    let (start, rest) = number(line)?;
    let (size, name) = number(rest)?;
    let end = start.checked_add(size).filter(|end| *end > start)?;
    let name = name.strip_suffix(b"\r").unwrap_or(name);
    let (name, _) = bounded(&String::from_utf8_lossy(name));
    (!name.trim().is_empty()).then(|| MapEntry::new(start, end, name))
}

/// Parses a number and the space behind it. Returns it, and the rest of the line.
fn number(line: &[u8]) -> Option<(u64, &[u8])> {
    let line = line.trim_ascii_start();
    let length = line.iter().take(NUMBER_MAX + 1).position(|byte| [b' ', b'\t'].contains(byte))?;
    let digits = std::str::from_utf8(&line[..length]).ok()?;
    let digits = digits.strip_prefix("0x").or(digits.strip_prefix("0X")).unwrap_or(digits);
    let is_number = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = is_number.then(|| u64::from_str_radix(digits, 16).ok())??;
    Some((number, &line[length + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE_MAX: usize = 1 << 16;

    fn names(text: &[u8]) -> Vec<(u64, u64, String)> {
        let entries = parse(text, false, LINE_MAX).entries.into_iter();
        entries.map(|entry| (entry.start, entry.end, entry.name)).collect()
    }

    #[test]
    fn lines_of_runtimes_are_entries() {
        let text = b"3e5b 40 LazyCompile:*fib /app/main.js:1:13\n\
                     0x00007f10 0x20 Ljava/lang/String;::hash code\n7f00 1A py::f:/a b.py\r\n";
        let expected = [
            (0x3e5b, 0x3e9b, "LazyCompile:*fib /app/main.js:1:13".to_owned()),
            (0x7f10, 0x7f30, "Ljava/lang/String;::hash code".to_owned()),
            (0x7f00, 0x7f1a, "py::f:/a b.py".to_owned()),
        ];
        assert_eq!(names(text), expected);
    }

    #[test]
    fn malformed_lines_are_counted_and_skipped() {
        let text = b"\nx\n1 2\n1 2 \n1 0 empty\n-1 2 a\n+1 2 a\n0x 2 a\nffffffffffffffff 2 a\n\
                     1ffffffffffffffff 2 a\n 1 2 f\n00000000000000000000000001 2 a\n\xff 1 a\n";
        let parsed = parse(text, false, LINE_MAX);
        assert_eq!(names(text), [(1, 3, "f".to_owned())]);
        assert_eq!((parsed.consumed, parsed.malformed), (text.len(), 11));
    }

    #[test]
    fn an_incomplete_line_waits_for_its_rest() {
        let parsed = parse(b"1 2 f\n3 4 g", false, LINE_MAX);
        assert_eq!((parsed.entries.len(), parsed.consumed), (1, 6));
        let parsed = parse(b"1 2 f\n3 4 g", true, LINE_MAX);
        assert_eq!((parsed.entries.len(), parsed.consumed), (2, 11));
        let endless = vec![0; LINE_MAX];
        let parsed = parse(&endless, false, LINE_MAX);
        assert_eq!((parsed.consumed, parsed.malformed), (LINE_MAX, 1));
    }

    #[test]
    fn long_and_invalid_names_are_cut_and_replaced() {
        let text = [b"1 2 ".to_vec(), vec![b'n'; 10_000], b"\n3 4 a\xffb\n".to_vec()].concat();
        let names = names(&text);
        assert!(names[0].2.ends_with("...[10000 bytes]") && names[0].2.len() <= 4096);
        assert_eq!(names[1].2, "a\u{fffd}b");
    }

    /// Whatever is changed, parsing ends, entries are ranges, and all bytes up to the last line are
    /// consumed.
    #[test]
    fn mutations_never_break_the_parser() {
        let valid = b"3e5b 40 LazyCompile:*fib /app/main.js:1:13\n0x7f10 0x20 Interpreter\n\
                      ffffffffff600000 1000 [vsyscall]\n7f00 1a py::f:/a b.py\n";
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % below
        };
        for _ in 0..50_000 {
            let mut text = valid.to_vec();
            for _ in 0..=random(6) {
                let at = random(text.len());
                match random(4) {
                    0 => text[at] = random(256) as u8,
                    1 => text.truncate(at + 1),
                    2 => text.insert(at, b" \n0x\t-\xff"[random(7)]),
                    _ => text.extend_from_within(at..),
                }
            }
            let is_last = random(2) == 0;
            let parsed = parse(&text, is_last, LINE_MAX);
            let lines = text[..parsed.consumed].split(|byte| *byte == b'\n');
            let lines = lines.filter(|line| !line.is_empty()).count() as u64;
            assert_eq!(parsed.entries.len() as u64 + parsed.malformed, lines);
            assert!(parsed.entries.iter().all(|entry| entry.start < entry.end));
            assert!(parsed.entries.iter().all(|entry| !entry.name.is_empty()));
            assert!(!is_last || parsed.consumed == text.len());
        }
    }
}
