//! The frames and code objects that the kernel side finds in CPython.

mod memory;

use std::cell::RefCell;
use std::ffi::c_void;

use memory::{
    Code, Layout, Memory, PYTHON_3_9, PYTHON_3_10, PYTHON_3_11, PYTHON_3_12, PYTHON_3_15, Python,
};
use proptest::prelude::*;

const FRAMES_MAX: usize = 1024;
const ENTRY: u64 = 1 << 63;

/// The position of a frame whose first instruction comes next.
const BEFORE: u32 = 2_u32.wrapping_neg();

const COMPLETE: u32 = 0;
const DEPTH: u32 = 1;
const UNREADABLE: u32 = 2;
const MALFORMED: u32 = 3;
const NO_THREAD: u32 = 4;

const STATIC: u32 = 1;
const DYNAMIC: u32 = 2;
const KEY: u32 = 3;

/// The thread pointer, and structures that tests use.
const POINTER: u64 = 0x7f00_0000_0700;
const THREAD: u64 = 0x5500_0000_0000;
const CFRAME: u64 = 0x7ffc_0000_0000;
const FRAME: u64 = 0x7fa0_0000_0000;
const CODE: u64 = 0x7fb0_0000_0000;
const TEXT: u64 = 0x7fc0_0000_0000;

#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Value {
    address: u64,
    offset: i32,
    kind: u32,
}

#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Thread {
    pointer: u64,
    values: [Value; 2],
    specific: u32,
    is_musl: bool,
}

/// `struct interpreter_frame`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
struct Frame {
    code: u64,
    position: u64,
}

#[repr(C)]
struct HostCode {
    code: u64,
    fingerprint: u32,
    first_line: u32,
    name_length: u32,
    file_length: u32,
    lines_length: u32,
    name_bytes: u32,
    file_bytes: u32,
    lines_bytes: u32,
    name_width: u8,
    file_width: u8,
    bytes: *const u8,
}

/// A record of a code object: its lengths are those of the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Described {
    code: u64,
    fingerprint: u32,
    first_line: u32,
    name: (u32, u8, Vec<u8>),
    file: (u32, u8, Vec<u8>),
    lines: (u32, Vec<u8>),
}

type ReadBytes = unsafe extern "C" fn(*const c_void, u64, *mut u8, u32) -> bool;
type Meet = unsafe extern "C" fn(*mut c_void, *const HostCode);
type Read<'a> = &'a dyn Fn(u64, &mut [u8]) -> bool;

unsafe extern "C" {
    fn host_walk_cpython(
        layout: *const Layout,
        thread: *const Thread,
        read: ReadBytes,
        from: *const c_void,
        meet: Meet,
        met: *mut c_void,
        frames: *mut Frame,
        count: *mut u32,
    ) -> u32;
}

unsafe extern "C" fn read_bytes(from: *const c_void, address: u64, to: *mut u8, size: u32) -> bool {
    // SAFETY: `from` is the pointer that `walk` passed, and `to` is memory of the C function.
    let (read, to) =
        unsafe { (&*from.cast::<Read<'_>>(), std::slice::from_raw_parts_mut(to, size as usize)) };
    read(address, to)
}

unsafe extern "C" fn meet(codes: *mut c_void, code: *const HostCode) {
    // SAFETY: `codes` is the pointer that `walk` passed, and `code` has all bytes that it counts.
    let (codes, code, bytes) = unsafe {
        let code = &*code;
        let bytes = (code.name_bytes + code.file_bytes + code.lines_bytes) as usize;
        let bytes = std::slice::from_raw_parts(code.bytes, bytes);
        (&mut *codes.cast::<Vec<Described>>(), code, bytes)
    };
    let (name, rest) = bytes.split_at(code.name_bytes as usize);
    let (file, lines) = rest.split_at(code.file_bytes as usize);
    codes.push(Described {
        code: code.code,
        fingerprint: code.fingerprint,
        first_line: code.first_line,
        name: (code.name_length, code.name_width, name.into()),
        file: (code.file_length, code.file_width, file.into()),
        lines: (code.lines_length, lines.into()),
    });
}

/// Walks a thread's frames. Returns them, why they end, and the code objects on the way.
fn walk(layout: &Layout, thread: &Thread, read: Read<'_>) -> (Vec<Frame>, u32, Vec<Described>) {
    let (mut frames, mut count) = (vec![Frame::default(); FRAMES_MAX], 0);
    let mut codes: Vec<Described> = Vec::new();
    let from: *const Read<'_> = &read;
    // SAFETY: the function reads `layout` and `thread`, writes up to `FRAMES_MAX` elements and
    // `count`, and passes the two pointers to the two functions until it returns.
    let end = unsafe {
        let met = (&raw mut codes).cast();
        let (to, count) = (frames.as_mut_ptr(), &raw mut count);
        host_walk_cpython(layout, thread, read_bytes, from.cast(), meet, met, to, count)
    };
    frames.truncate(count as usize);
    (frames, end, codes)
}

impl Python {
    /// Returns a process whose thread has its state at an offset from the thread pointer.
    fn new(layout: Layout) -> Self {
        let mut python = Self { memory: Memory::default(), layout };
        python.memory.set_word(POINTER, 0, THREAD);
        python
    }

    fn walk(&self) -> (Vec<Frame>, u32, Vec<Described>) {
        let value = Value { kind: STATIC, ..Value::default() };
        self.walk_by(&Thread { pointer: POINTER, values: [value; 2], ..Thread::default() })
    }

    fn walk_by(&self, thread: &Thread) -> (Vec<Frame>, u32, Vec<Described>) {
        walk(&self.layout, thread, &|address, to| match self.memory.read(address, to.len()) {
            Some(bytes) => {
                to.copy_from_slice(bytes);
                true
            }
            None => false,
        })
    }

    /// Writes three frames, the outermost with a fourth as its caller if `previous` is not 0, each
    /// of its own code object and 8 bytes further into it.
    fn three_frames(&mut self, owners: [u8; 3], previous: u64) {
        for (number, owner) in (0u64..).zip(owners) {
            let (frame, code) = (FRAME + number * 0x100, CODE + number * 0x1000);
            let caller = if number < 2 { frame + 0x100 } else { previous };
            let (offset, version) = (8 * number as i32, 7 + number as u32);
            self.frame(frame, code, caller, offset, owner);
            let (name, file) = (TEXT, TEXT + 0x1000);
            self.code(code, &Code { first_line: 3, version, name, file, lines: &[] });
        }
    }
}

fn frame(code: u64, fingerprint: u32, offset: u32) -> Frame {
    Frame { code, position: u64::from(fingerprint) << 32 | u64::from(offset) }
}

fn entry(anchor: u64) -> Frame {
    Frame { code: anchor | ENTRY, position: u64::MAX }
}

/// Returns the codes and offsets of frames, without fingerprints, and entries.
fn without_fingerprints(frames: &[Frame]) -> Vec<Frame> {
    let strip = |f: &Frame| match f.code & ENTRY {
        0 => Frame { position: f.position & 0xffff_ffff, ..*f },
        _ => *f,
    };
    frames.iter().map(strip).collect()
}

#[test]
fn entry_frames_end_groups_in_3_12() {
    let mut python = Python::new(PYTHON_3_12);
    python.memory.set_word(THREAD, 56, CFRAME);
    python.memory.set_word(CFRAME, 0, FRAME);
    python.three_frames([0, 3, 1], CFRAME + 0x500);
    python.frame(CFRAME + 0x500, CODE, 0, 0, 3);
    let (frames, end, codes) = python.walk();
    let expected = [
        frame(CODE, 7, 0),
        entry(FRAME + 0x100),
        frame(CODE + 0x2000, 9, 16),
        entry(CFRAME + 0x500),
    ];
    assert_eq!((&frames[..], end), (&expected[..], COMPLETE));
    assert_eq!(codes.iter().map(|code| code.code).collect::<Vec<_>>(), [CODE, CODE + 0x2000]);
}

#[test]
fn is_entry_ends_groups_in_3_11() {
    let mut python = Python::new(PYTHON_3_11);
    python.memory.set_word(THREAD, 56, CFRAME);
    python.memory.set_word(CFRAME, 8, FRAME);
    python.memory.set_word(CFRAME, 16, CFRAME + 0x100);
    python.memory.set_word(CFRAME + 0x100, 16, 0);
    python.three_frames([0, 1, 1], 0);
    let (frames, end, _) = python.walk();
    let expected = [
        frame(CODE, 0, 0),
        frame(CODE + 0x1000, 0, 8),
        entry(CFRAME),
        frame(CODE + 0x2000, 0, 16),
        entry(CFRAME + 0x100),
    ];
    assert_eq!((without_fingerprints(&frames), end), (expected.to_vec(), COMPLETE));
}

#[test]
fn frame_that_has_not_begun_is_before_its_first_instruction() {
    for layout in [PYTHON_3_9, PYTHON_3_10] {
        let mut python = Python::new(layout);
        python.memory.set_word(THREAD, 24, FRAME);
        python.memory.set_word(THREAD, 48, CFRAME);
        python.three_frames([0; 3], 0);
        python.memory.set(FRAME, layout.frame_position, &(-1_i32).to_ne_bytes());
        let (frames, _, _) = python.walk();
        assert_eq!(without_fingerprints(&frames)[0], frame(CODE, 0, BEFORE));
    }
}

#[test]
fn every_frame_has_an_entry_in_3_10_and_none_in_3_9() {
    let mut python = Python::new(PYTHON_3_10);
    python.memory.set_word(THREAD, 24, FRAME);
    python.memory.set_word(THREAD, 48, CFRAME);
    for number in 0..3 {
        python.memory.set_word(CFRAME + number * 0x100, 8, CFRAME + (number + 1) * 0x100);
    }
    python.three_frames([0; 3], 0);
    let codes = [frame(CODE, 0, 0), frame(CODE + 0x1000, 0, 8), frame(CODE + 0x2000, 0, 16)];
    let (frames, end, _) = python.walk();
    let anchors = [CFRAME, CFRAME + 0x100, CFRAME + 0x200];
    let expected: Vec<_> =
        codes.iter().zip(anchors).flat_map(|(frame, anchor)| [*frame, entry(anchor)]).collect();
    assert_eq!((without_fingerprints(&frames), end), (expected, COMPLETE));

    let mut python = Python::new(PYTHON_3_9);
    python.memory.set_word(THREAD, 24, FRAME);
    python.three_frames([0; 3], 0);
    let (frames, end, _) = python.walk();
    assert_eq!((without_fingerprints(&frames), end), (codes.to_vec(), COMPLETE));
    let fingerprints: Vec<_> = frames.iter().map(|frame| frame.position >> 32).collect();
    assert_ne!(fingerprints[0], fingerprints[1], "their line tables are at two addresses");
}

#[test]
fn base_frame_of_3_15_ends_the_list() {
    let mut python = Python::new(PYTHON_3_15);
    python.memory.set_word(THREAD, 72, FRAME);
    python.three_frames([0, 4, 0], THREAD + 0x200);
    python.frame(FRAME, CODE | 1, FRAME + 0x100, -2, 0);
    python.frame(THREAD + 0x200, CODE | 1, 0, 0, 3);
    let (frames, end, _) = python.walk();
    let expected = [frame(CODE, 7, BEFORE), entry(FRAME + 0x100), frame(CODE + 0x2000, 9, 16)];
    assert_eq!((&frames[..], end), (&expected[..], COMPLETE));
}

#[test]
fn frames_on_one_stack_are_read_many_at_once() {
    const FRAMES: u64 = 40;
    const FRAME_BYTES: u64 = 136;
    let mut python = Python::new(PYTHON_3_12);
    python.memory.set_word(THREAD, 56, CFRAME);
    // The innermost frame is the highest. An entry elsewhere comes after half of the frames, and
    // the stack has two pages, with nothing below and above.
    let frame_at = |number: u64| FRAME + 8192 - FRAME_BYTES * (number + 1);
    python.memory.reserve(FRAME, 8192);
    python.memory.set_word(CFRAME, 0, frame_at(0));
    for number in 0..FRAMES {
        let caller = match number + 1 {
            20 => CFRAME + 0x500,
            FRAMES => 0,
            next => frame_at(next),
        };
        let code = CODE + number / 2 * 0x1000; // each function calls itself once
        python.frame(frame_at(number), code, caller, number as i32, 0);
        let (version, file) = (number as u32 / 2, TEXT);
        python.code(code, &Code { first_line: 3, version, name: TEXT, file, lines: &[] });
    }
    python.frame(CFRAME + 0x500, CODE, frame_at(20), 0, 3);

    let reads = RefCell::new(Vec::new());
    let value = Value { kind: STATIC, ..Value::default() };
    let thread = Thread { pointer: POINTER, values: [value; 2], ..Thread::default() };
    let (frames, end, codes) = walk(&python.layout, &thread, &|address, to| {
        reads.borrow_mut().push(address);
        python.memory.read(address, to.len()).map(|bytes| to.copy_from_slice(bytes)).is_some()
    });
    assert_eq!((frames.len() as u64, end, codes.len()), (FRAMES + 1, COMPLETE, 20));
    let without_entry = frames.iter().filter(|frame| frame.code & ENTRY == 0);
    for (number, found) in (0u64..).zip(without_entry) {
        let code = CODE + number / 2 * 0x1000;
        assert_eq!(*found, frame(code, number as u32 / 2, number as u32));
    }
    let is_of_stack = |address: &&u64| (FRAME..FRAME + 8192).contains(*address);
    let reads = reads.borrow().iter().filter(is_of_stack).count();
    assert!(reads <= 10, "{reads} reads of {FRAMES} frames");
}

#[test]
fn thread_state_is_found_in_every_place() {
    let mut python = Python::new(PYTHON_3_9);
    python.memory.set_word(THREAD, 24, FRAME);
    python.three_frames([0; 3], 0);
    let (slot, block, key, values) = (0x6000, 0x7000, 0x8000, 0x9000);
    python.memory.set(slot, 0, &[3u64.to_ne_bytes(), 0x40u64.to_ne_bytes()].concat());
    python.memory.set(key, 0, &37u32.to_ne_bytes());
    python.memory.set_word(POINTER, 8, 0xa000); // dtv
    python.memory.set_word(0xa000, 3 * 16, block);
    python.memory.set_word(0xa000, 3 * 8, block + 0x100);
    python.memory.set_word(block, 0x48, THREAD);
    python.memory.set_word(block + 0x100, 0x48, THREAD);
    python.memory.set_word(POINTER, 0x80, values);
    python.memory.set_word(POINTER, 0x510 + 8, values);
    python.memory.set_word(values, 5 * 16 + 8, THREAD); // glibc: the sixth of the second block
    python.memory.set_word(values, 37 * 8, THREAD); // musl
    let unset = Value { kind: STATIC, offset: 16, ..Value::default() };
    let ends = |value: Value, specific, is_musl| {
        let values = [unset, value];
        python.walk_by(&Thread { pointer: POINTER, values, specific, is_musl }).1
    };
    let dynamic = Value { address: slot, offset: 8, kind: DYNAMIC };
    let by_key = Value { address: key, offset: 0, kind: KEY };
    for (specific, is_musl) in [(0x510, false), (0x80, true)] {
        assert_eq!(ends(dynamic, specific, is_musl), COMPLETE);
        assert_eq!(ends(by_key, specific, is_musl), COMPLETE);
        assert_eq!(ends(unset, specific, is_musl), NO_THREAD);
        assert_eq!(ends(Value { address: 0x10, ..dynamic }, specific, is_musl), NO_THREAD);
        assert_eq!(ends(Value { address: slot, ..by_key }, specific, is_musl), NO_THREAD);
        assert_eq!(ends(Value::default(), specific, is_musl), NO_THREAD);
    }
}

#[test]
fn damaged_list_ends_with_the_reason() {
    let damaged = |damage: fn(&mut Python)| {
        let mut python = Python::new(PYTHON_3_12);
        python.memory.set_word(THREAD, 56, CFRAME);
        python.memory.set_word(CFRAME, 0, FRAME);
        python.three_frames([0; 3], 0);
        damage(&mut python);
        let (frames, end, _) = python.walk();
        (frames.len(), end)
    };
    assert_eq!(damaged(|_| {}), (3, COMPLETE));
    assert_eq!(damaged(|python| python.memory.set_word(CFRAME, 0, 0)), (0, COMPLETE));
    assert_eq!(damaged(|python| python.memory.set_word(THREAD, 56, 0)), (0, UNREADABLE));
    fn second(python: &mut Python, field: u16, value: u64) {
        python.memory.set_word(FRAME + 0x100, field, value);
    }
    assert_eq!(damaged(|python| second(python, 8, FRAME + 0x100)), (1, MALFORMED));
    assert_eq!(damaged(|python| second(python, 8, FRAME + 4)), (2, MALFORMED));
    assert_eq!(damaged(|python| second(python, 8, 1 << 60)), (2, MALFORMED));
    assert_eq!(damaged(|python| second(python, 8, 0x8000)), (2, UNREADABLE));
    assert_eq!(damaged(|python| second(python, 0, 0)), (1, MALFORMED));
    let owner = |python: &mut Python| python.memory.set(FRAME + 0x100, 70, &[5]);
    assert_eq!(damaged(owner), (1, MALFORMED));
    // Only the one frame is unknown whose code object cannot be read.
    assert_eq!(damaged(|python| second(python, 0, 0x8000)), (3, COMPLETE));
    // A loop of several frames.
    assert_eq!(damaged(|python| second(python, 8, FRAME)), (FRAMES_MAX, DEPTH));
}

#[test]
fn code_object_is_described_up_to_the_limits() {
    let describe = |layout: Layout, width: u8, name: &[u8], file: &[u8], lines: &[u8]| {
        let mut python = Python::new(layout);
        python.memory.set_word(THREAD, 72, FRAME);
        python.text(TEXT, width, name);
        python.text(TEXT + 0x1_0000, width, file);
        let (name, file) = (TEXT, TEXT + 0x1_0000);
        python.code(CODE, &Code { first_line: 3, version: 7, name, file, lines });
        python.frame(FRAME, CODE, 0, 0, 0);
        let (_, end, codes) = python.walk();
        assert_eq!((end, codes.len()), (COMPLETE, 1));
        codes.into_iter().next().expect("one code object")
    };
    let code = describe(PYTHON_3_15, 0, b"Class.method", b"/lib/a.py", &[9, 8]);
    assert_eq!((code.code, code.fingerprint, code.first_line), (CODE, 7, 3));
    assert_eq!(code.name, (12, 0, b"Class.method".to_vec()));
    assert_eq!((code.file, code.lines), ((9, 0, b"/lib/a.py".to_vec()), (2, vec![9, 8])));

    let long: Vec<u8> = (0..=u8::MAX).cycle().take(5000).collect();
    let code = describe(PYTHON_3_15, 2, &long, &long, &long);
    assert_eq!(code.name, (2500, 2, long[..256].to_vec()));
    assert_eq!(code.file, (2500, 2, long[5000 - 256..].to_vec()));
    assert_eq!(code.lines, (5000, long[..4096].to_vec()));

    // Of a free-threaded build: the state is further behind the length.
    let layout = Layout { text: [32, 48, 56, 72], text_kind_shift: 8, ..PYTHON_3_15 };
    let code = describe(layout, 1, "é".as_bytes(), b"", b"");
    assert_eq!((code.name, code.file), ((2, 1, "é".into()), (0, 1, vec![])));
}

#[test]
fn parts_that_cannot_be_read_have_no_bytes() {
    let mut python = Python::new(PYTHON_3_15);
    python.memory.set_word(THREAD, 72, FRAME);
    python.text(TEXT, 0, b"name");
    python.memory.set(TEXT, 32, &[0]); // not compact
    let (name, file) = (TEXT, 0x8000);
    python.code(CODE, &Code { first_line: 3, version: 7, name, file, lines: b"lines" });
    python.memory.set_word(CODE + 0x800, 16, 1 << 40);
    python.frame(FRAME, CODE, 0, 0, 0);
    let (_, _, codes) = python.walk();
    let nothing = (0, 0, vec![]);
    assert_eq!((&codes[0].name, &codes[0].file), (&nothing, &nothing));
    assert_eq!(codes[0].lines, (0, vec![]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// The words of memory are pointers into it, small numbers and any value.
    #[test]
    fn walk_of_any_memory_ends(
        words in prop::collection::vec(
            prop_oneof![
                4 => (0u64..64).prop_map(|at| 0x1_0000 + at * 8),
                1 => 0u64..300,
                1 => any::<u64>(),
            ],
            64..96,
        ),
        version in 0usize..5,
    ) {
        let layouts = [PYTHON_3_9, PYTHON_3_10, PYTHON_3_11, PYTHON_3_12, PYTHON_3_15];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let read = |address: u64, to: &mut [u8]| {
            // Reads repeat the memory, so that few of them fail.
            let at = (address % 0x200) as usize;
            bytes.get(at..at + to.len()).map(|bytes| to.copy_from_slice(bytes)).is_some()
        };
        let value = Value { kind: STATIC, ..Value::default() };
        let thread = Thread { pointer: 0x1_0000, values: [value; 2], ..Thread::default() };
        let (frames, end, codes) = walk(&layouts[version], &thread, &read);
        prop_assert!(frames.len() <= FRAMES_MAX && end <= NO_THREAD);
        for code in codes {
            prop_assert!(code.name.2.len() <= 256 && code.file.2.len() <= 256);
            prop_assert!(code.lines.1.len() <= 4096);
        }
    }
}
