//! Jitdumps that are valid, cut, or changed.

use super::*;

const PID: u32 = 7;
/// The time of each record.
const TIME: u64 = 3 + (4 << 32);

/// Writes a jitdump.
struct Dump(Vec<u8>);

impl Dump {
    fn new() -> Self {
        let header = [MAGIC, VERSION, HEADER_BYTES as u32, MACHINE, 0, PID, 1, 2, 0, 0];
        Self(header.map(u32::to_ne_bytes).concat())
    }

    fn record(mut self, kind: u32, body: &[u8]) -> Self {
        let size = (RECORD_BYTES + body.len()) as u32;
        self.0.extend([kind, size].map(u32::to_ne_bytes).concat());
        self.0.extend(TIME.to_ne_bytes());
        self.0.extend(body);
        self
    }

    fn load(self, pid: u32, start: u64, name: &[u8], code: &[u8]) -> Self {
        let ids = [pid, pid + 1].map(u32::to_ne_bytes).concat();
        let numbers = [start, start, code.len() as u64, 1].map(u64::to_ne_bytes).concat();
        self.record(LOAD, &[&ids, &numbers, name, b"\0", code].concat())
    }

    fn moved(self, pid: u32, from: u64, to: u64, size: u64) -> Self {
        let ids = [pid, pid + 1].map(u32::to_ne_bytes).concat();
        let numbers = [from, from, to, size, 1].map(u64::to_ne_bytes).concat();
        self.record(MOVE, &[ids, numbers].concat())
    }

    /// Returns a jitdump with a record of each kind, and where its records begin, with its end.
    fn of_all_kinds() -> (Self, Vec<usize>) {
        let mut dump = Self::new();
        let mut starts = vec![dump.0.len()];
        let steps: [&dyn Fn(Self) -> Self; 7] = [
            &|dump| dump.record(2, &[7; 80]), // debug info
            &|dump| dump.record(4, &[8; 33]), // unwinding info
            &|dump| dump.load(PID, 0x1000, b"JS:*f /a b.js:1:2", &[0x90; 64]),
            &|dump| dump.load(PID, 0x2000, "\u{fc}ber".as_bytes(), &[0xc3; 1]),
            &|dump| dump.record(99, &[0; 12]),
            &|dump| dump.moved(PID, 0x2000, 0x3000, 1),
            &|dump| dump.record(3, &[]), // end
        ];
        for step in steps {
            dump = step(dump);
            starts.push(dump.0.len());
        }
        (dump, starts)
    }
}

fn entry(start: u64, end: u64, name: &str) -> MapEntry {
    MapEntry { time: TIME, ..MapEntry::new(start, end, name.into()) }
}

fn entries_of_all_kinds() -> Vec<MapEntry> {
    let moved = MapEntry { moved_from: Some(0x2000), ..entry(0x3000, 0x3001, "") };
    vec![entry(0x1000, 0x1040, "JS:*f /a b.js:1:2"), entry(0x2000, 0x2001, "\u{fc}ber"), moved]
}

fn parse_whole(dump: &[u8], is_last: bool) -> ParsedRecords {
    parse(JitDumpPart { bytes: dump, is_start: true, rest: dump.len() as u64, pid: PID, is_last })
}

/// Parses a jitdump in parts of at most some bytes.
fn parse_in_parts(dump: &[u8], part_bytes: usize) -> (Vec<MapEntry>, u64) {
    let (mut entries, mut malformed, mut at) = (Vec::new(), 0, 0);
    while at < dump.len() {
        let bytes = &dump[at..dump.len().min(at + part_bytes)];
        let rest = (dump.len() - at) as u64;
        let found = parse(JitDumpPart { bytes, is_start: at == 0, rest, pid: PID, is_last: false });
        assert!(found.consumed > 0 && found.consumed <= rest);
        entries.extend(found.entries);
        malformed += found.malformed;
        at += found.consumed as usize;
    }
    (entries, malformed)
}

#[test]
fn records_are_entries() {
    let (Dump(dump), _) = Dump::of_all_kinds();
    let found = parse_whole(&dump, false);
    assert_eq!(found.entries, entries_of_all_kinds());
    assert_eq!((found.consumed, found.malformed), (dump.len() as u64, 0));
    let names = "JS:*f /a b.js:1:2\u{fc}ber".len();
    let parsed = HEADER_BYTES + 4 * RECORD_BYTES + 2 * LOAD_BYTES + MOVE_BYTES + names;
    assert_eq!(found.parsed, parsed as u64, "no code is parsed");
    for part_bytes in 96..dump.len() + 2 {
        assert_eq!(parse_in_parts(&dump, part_bytes), (entries_of_all_kinds(), 0), "{part_bytes}");
    }
}

#[test]
fn a_jitdump_that_ends_anywhere_is_parsed_up_to_its_last_record() {
    let (Dump(dump), starts) = Dump::of_all_kinds();
    let (mut names, all) = (Vec::new(), entries_of_all_kinds());
    for length in 0..=dump.len() {
        let found = parse_whole(&dump[..length], false);
        let expected = starts.iter().rev().find(|start| **start <= length).unwrap_or(&0);
        assert_eq!((found.consumed, found.malformed), (*expected as u64, 0), "{length}");
        assert_eq!(found.entries, all[..found.entries.len()]);
        // The rest completes it.
        let rest = &dump[found.consumed as usize..];
        let is_start = found.consumed == 0;
        let part = JitDumpPart {
            bytes: rest,
            is_start,
            rest: rest.len() as u64,
            pid: PID,
            is_last: false,
        };
        assert_eq!([found.entries, parse(part).entries].concat(), all, "{length}");
        names.push(parse_whole(&dump[..length], true).entries.len());
    }
    // At last, code that is not complete has its name.
    assert!(names.is_sorted() && names[starts[3] - 1] == 1 && names[starts[4] - 1] == 2);
}

#[test]
fn inconsistent_records_are_counted_and_skipped() {
    let bytes_of_load = |numbers: [u64; 4], name: &[u8]| {
        let ids = [PID, PID].map(u32::to_ne_bytes).concat();
        [ids, numbers.map(u64::to_ne_bytes).concat(), name.to_vec()].concat()
    };
    let mut dump = Dump::new();
    for body in [
        vec![],                                            // too short for code
        bytes_of_load([1, 1, 100, 1], b"larger\0"),        // the code does not fit
        bytes_of_load([1, 1, u64::MAX, 1], b"overflow\0"), // nor here
        bytes_of_load([1, 1, 7, 1], b"noname"),            // the code lies on the name
        bytes_of_load([1, 1, 3, 1], b"unendedabc"),        // the name has no end
        bytes_of_load([1, 1, 0, 1], b"empty\0"),
        bytes_of_load([1, u64::MAX, 1, 1], b"beyond memory\0a"),
        bytes_of_load([1, 1, 1, 1], b" \0a"),
    ] {
        dump = dump.record(LOAD, &body);
    }
    dump = dump.record(MOVE, &[0; 47]).moved(PID, 1, u64::MAX, 2).moved(PID, u64::MAX, 1, 2);
    let Dump(dump) = dump.moved(PID, 1, 2, 0).load(PID, 0x10, b"good", b"x");
    let found = parse_whole(&dump, false);
    assert_eq!((found.entries, found.malformed), (vec![entry(0x10, 0x11, "good")], 12));
    assert_eq!(found.consumed, dump.len() as u64);
}

#[test]
fn code_of_another_process_has_no_entry() {
    let dump = Dump::new().load(PID + 1, 0x10, b"child", b"x").moved(PID + 1, 0x10, 0x20, 1);
    let found = parse_whole(&dump.load(PID, 0x10, b"own", b"x").0, false);
    assert_eq!((found.entries, found.malformed), (vec![entry(0x10, 0x11, "own")], 0));
}

#[test]
fn what_is_no_jitdump_of_this_machine_is_refused() {
    let header = |at: usize, number: u32| {
        let Dump(mut dump) = Dump::new();
        dump[at..at + 4].copy_from_slice(&number.to_ne_bytes());
        first_record(&dump)
    };
    assert_eq!(header(0, MAGIC), Ok(Some(HEADER_BYTES as u64)));
    assert_eq!(header(8, 48), Ok(Some(48)));
    assert_eq!(header(8, 39), Err(CodeNameGap::Malformed));
    assert_eq!(header(0, MAGIC + 1), Err(CodeNameGap::Malformed));
    assert_eq!(header(0, MAGIC.swap_bytes()), Err(CodeNameGap::Unsupported));
    assert_eq!(header(4, 2), Err(CodeNameGap::Unsupported));
    assert_eq!(header(12, 183), Err(CodeNameGap::Unsupported)); // EM_AARCH64
    assert_eq!(first_record(&[0; HEADER_BYTES - 1]), Ok(None));
}

#[test]
fn a_record_without_a_size_ends_the_jitdump() {
    let Dump(mut dump) = Dump::new().load(PID, 0x10, b"good", b"x");
    let end = dump.len();
    dump.extend([0; 100]);
    let found = parse_whole(&dump, true);
    assert_eq!((found.consumed, found.malformed, found.entries.len()), (end as u64, 1, 1));
}

#[test]
fn long_and_invalid_names_are_cut_and_replaced() {
    let dump = Dump::new().load(PID, 1, &[b'n'; 10_000], b"x").load(PID, 3, b"a\xffb", b"x");
    let entries = parse_whole(&dump.0, false).entries;
    assert!(entries[0].name.ends_with("...[10000 bytes]") && entries[0].name.len() <= 4096);
    assert_eq!(entries[1].name, "a\u{fffd}b");
    // A name that no part has whole is malformed, once it begins a part.
    assert_eq!(parse_in_parts(&dump.0, 4096), (vec![entries[1].clone()], 1));
}

/// Whatever is changed, parsing ends within the bytes that there are, and entries are ranges with
/// names.
#[test]
fn mutations_never_break_the_parser() {
    let (Dump(valid), starts) = Dump::of_all_kinds();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    for _ in 0..50_000 {
        let mut dump = valid.clone();
        for _ in 0..=random(6) {
            let at = random(dump.len());
            match random(4) {
                0 => dump[at] = random(256) as u8,
                1 => dump.truncate(at + 1),
                2 => dump.insert(at, [0, 0xff, 1, 0x80][random(4)]),
                _ => {
                    let field = starts[random(starts.len())] + 4 * random(14);
                    let number = [0, 1, u32::MAX, random(200) as u32][random(4)];
                    if let Some(bytes) = dump.get_mut(field..field + 4) {
                        bytes.copy_from_slice(&number.to_ne_bytes());
                    }
                }
            }
        }
        // The file may also be longer or shorter than the part that was read.
        let rest = [dump.len(), random(2 * dump.len()), usize::MAX][random(3)] as u64;
        let (is_start, is_last) = (random(2) == 0, random(2) == 0);
        let found = parse(JitDumpPart { bytes: &dump, is_start, rest, pid: PID, is_last });
        assert!(found.consumed <= rest && found.parsed <= dump.len() as u64);
        assert!(found.entries.len() as u64 + found.malformed <= 1 + dump.len() as u64 / 16);
        for entry in &found.entries {
            assert!(entry.start < entry.end);
            assert_eq!(entry.name.is_empty(), entry.moved_from.is_some());
        }
    }
}
