//! The frames of running interpreters, read from their memory by what is known of their files: each
//! function and line must be the one that the program itself reports.
//!
//! It is checked with the Python of the machine. `EVERYTICK_PYTHONS` adds other ones: commands,
//! separated by semicolons.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};

use common::wait_until;
use everytick::kernel::abi::{self, CpythonLayout};
use everytick::processes::{Executables, Processes};
use everytick::procfs;
use everytick::runtimes::{CodeObject, CodeParts, LibcKind, RuntimeProcess, TextPart, ThreadValue};
use profile::Pid;

/// Writes the thread pointer and its frames, then waits without the global lock, or spins.
const PROGRAM: &str = r#"
import sys, threading

class Outer:
    def method(self, values):
        return sorted(values, key=lambda value: inner(
            3))

def inner(depth):
    if depth:
        return inner(
            depth - 1
        )
    return größe()

def größe():
    frame = sys._getframe(1)
    while frame:
        code = frame.f_code
        name = getattr(code, "co_qualname", code.co_name)
        print("frame", name, frame.f_lineno, code.co_filename)
        frame = frame.f_back
    print("thread", threading.get_ident(), flush=True)
    if sys.argv[1] == "wait":
        sys.stdin.read()
    while True:
        pass

def generator():
    yield Outer().method([1])

def main():
    for item in generator():
        pass

if sys.argv[2] == "thread":
    thread = threading.Thread(target=main)
    thread.start()
    thread.join()
else:
    main()
"#;

/// Most frames that the program has.
const FRAMES_MAX: usize = 64;

/// A running program that has written what it is.
struct Python {
    child: Child,
    /// The thread pointer of the thread with the frames.
    thread: u64,
    /// Name, line and file of each frame but the innermost, the inner ones first.
    frames: Vec<(String, u32, String)>,
}

impl Python {
    fn start(command: &str, arguments: [&str; 2]) -> Self {
        let mut words = command.split(' ');
        let mut python = Command::new(words.next().unwrap());
        python.args(words).args(["-c", PROGRAM]).args(arguments);
        python.env("PYTHONIOENCODING", "utf-8");
        let python = python.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = python.spawn().expect("it starts");
        let mut python = Self { child, thread: 0, frames: Vec::new() };
        for line in BufReader::new(python.child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let (kind, rest) = line.split_once(' ').unwrap();
            if kind == "thread" {
                python.thread = rest.parse().unwrap();
                return python;
            }
            let fields: Vec<&str> = rest.splitn(3, ' ').collect();
            python.frames.push((fields[0].into(), fields[1].parse().unwrap(), fields[2].into()));
        }
        panic!("{command} ended early");
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn layout_of(process: &RuntimeProcess) -> CpythonLayout {
    process.layout.read().unwrap()
}

/// The memory of a process.
struct Memory(File);

impl Memory {
    fn bytes(&self, address: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact_at(&mut bytes, address).unwrap_or_else(|error| {
            panic!("cannot read {address:x}: {error}");
        });
        bytes
    }

    fn number(&self, address: u64, size: usize) -> u64 {
        let bytes = self.bytes(address, size);
        bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn pointer(&self, address: u64, offset: u16) -> u64 {
        self.number(address + u64::from(offset), 8)
    }

    /// Returns a pointer of a thread, as the kernel side reads it.
    fn thread_value(&self, process: &RuntimeProcess, thread: u64, value: ThreadValue) -> u64 {
        let specific = u64::from(process.specific);
        match (value, process.libc) {
            (ThreadValue::None, _) => 0,
            (ThreadValue::Static(offset), _) => {
                self.pointer(thread.wrapping_add_signed(offset.into()), 0)
            }
            (ThreadValue::Dynamic { slot, offset }, libc) => {
                let size = if libc == LibcKind::Glibc { 16 } else { 8 };
                let (module, in_block) = (self.pointer(slot, 0), self.pointer(slot, 8));
                let block = self.pointer(self.pointer(thread, 8) + size * module, 0);
                let address = (block + in_block).wrapping_add_signed(offset.into());
                self.pointer(address, 0)
            }
            (ThreadValue::Key(address), LibcKind::Glibc) => {
                let key = self.number(address, 4);
                let block = self.pointer(thread + specific + key / 32 * 8, 0);
                self.pointer(block + key % 32 * 16, 8)
            }
            (ThreadValue::Key(address), LibcKind::Musl) => {
                let key = self.number(address, 4);
                self.pointer(self.pointer(thread + specific, 0) + key * 8, 0)
            }
        }
    }

    /// Returns the code object of each frame of a thread, and where the frame is in it.
    fn frames(&self, process: &RuntimeProcess, thread_state: u64) -> Vec<(CodeObject, u32)> {
        let layout = &layout_of(process);
        let mut frame = match layout.thread_frame {
            0 => {
                let cframe = self.pointer(thread_state, layout.thread_cframe);
                self.pointer(cframe, layout.cframe_frame)
            }
            offset => self.pointer(thread_state, offset),
        };
        let mut frames = Vec::new();
        while frame != 0 && frames.len() < FRAMES_MAX {
            let owner = self.number(frame + u64::from(layout.frame_owner), 1);
            let is_entry =
                layout.entry_kind == abi::ENTRY_FRAME && owner >= u64::from(layout.entry_owner);
            if !is_entry {
                let tag = u64::from(layout.code_tag_mask);
                let code = self.pointer(frame, layout.frame_code) & !tag;
                frames.push((self.code(process, code), self.position(layout, frame, code)));
            }
            frame = self.pointer(frame, layout.frame_previous);
        }
        frames
    }

    fn position(&self, layout: &CpythonLayout, frame: u64, code: u64) -> u32 {
        let at = frame + u64::from(layout.frame_position);
        match layout.position_kind {
            abi::POSITION_BYTES => self.number(at, 4) as u32,
            abi::POSITION_UNITS => (self.number(at, 4) as u32).wrapping_mul(2),
            abi::POSITION_POINTER => {
                let bytecode = code + u64::from(layout.code_bytecode);
                self.number(at, 8).wrapping_sub(bytecode) as u32
            }
            other => panic!("position kind {other}"),
        }
    }

    /// Returns a string: the width of its characters, their number, and the bytes.
    fn text(&self, layout: &CpythonLayout, text: u64) -> (u8, u32, Vec<u8>) {
        let state = self.number(text + u64::from(layout.text_state), 4) >> layout.text_kind_shift;
        let (kind, is_compact, is_ascii) = (state & 7, state & 8 != 0, state & 16 != 0);
        assert!(is_compact && [1, 2, 4].contains(&kind), "state {state:x}");
        let length = self.pointer(text, layout.text_length);
        let data = if is_ascii { layout.text_ascii } else { layout.text_compact };
        let bytes = self.bytes(text + u64::from(data), (length * kind) as usize);
        (if is_ascii { 0 } else { kind as u8 }, length as u32, bytes)
    }

    fn code(&self, process: &RuntimeProcess, code: u64) -> CodeObject {
        let layout = &layout_of(process);
        let [name, file] = [layout.code_name, layout.code_file]
            .map(|offset| self.text(layout, self.pointer(code, offset)));
        let [name, file] = [&name, &file].map(|(width, length, bytes)| TextPart {
            bytes,
            width: *width,
            length: *length,
        });
        let table = self.pointer(code, layout.code_line_table);
        let length = self.pointer(table, layout.bytes_length);
        let lines = self.bytes(table + u64::from(layout.bytes_data), length as usize);
        let first_line = self.number(code + u64::from(layout.code_first_line), 4) as u32;
        let parts =
            CodeParts { name, file, first_line, lines: &lines, lines_length: length as u32 };
        process.version.decode(&parts)
    }
}

/// Compares all frames of a program with those that it has written.
fn check(command: &str, [how, place]: [&str; 2]) {
    let python = Python::start(command, [how, place]);
    let pid = Pid(python.child.id());
    let executables = Executables::new(64, 64 << 20, env!("CARGO_BIN_EXE_everytick"));
    let mut processes = Processes::new(executables);
    processes.scan(pid);
    let runtime = processes.executables.runtime_of(&processes.address_space(pid));
    let process = runtime.expect("a runtime").expect("a known one");

    let memory = Memory(File::open(format!("/proc/{}/mem", pid.0)).unwrap());
    let read = || process.values.map(|value| memory.thread_value(&process, python.thread, value));
    // The second state stays when the thread releases the global lock.
    let is_kept = process.values[1] != ThreadValue::None;
    if how == "wait" {
        let is_asleep = |tid| procfs::stat(tid).is_some_and(|stat| !stat.is_running);
        let are_asleep = || procfs::thread_ids(pid.0).all(is_asleep);
        wait_until("the program to wait", || are_asleep() && (!is_kept || read()[0] == 0));
    }
    let states = read();
    let context = format!("{command} {how} {place}: {process:x?} {states:x?}");
    assert!(!is_kept || how == "wait" || states[0] == states[1], "{context}");
    let state = *states.iter().find(|state| **state != 0).expect(&context);

    let frames = memory.frames(&process, state);
    let decoded: Vec<(String, u32, String)> = frames[1..]
        .iter()
        .map(|(code, position)| {
            let [name, file] = [&code.name, &code.file].map(|text| text.as_deref().unwrap());
            (name.into(), code.line(*position).unwrap(), file.into())
        })
        .collect();
    assert_eq!(decoded, python.frames, "{context}");
    let is_lambda = |name: &str| name == "Outer.method.<locals>.<lambda>" || name == "<lambda>";
    assert!(decoded.iter().any(|(name, ..)| is_lambda(name)), "{decoded:?}");
    let (leaf, position) = &frames[0];
    let line = leaf.line(*position).expect("a line") - leaf.first_line;
    assert_eq!(leaf.name.as_deref(), Some("größe"));
    assert!(if how == "wait" { line == 9 } else { (7..=11).contains(&line) }, "line {line}");
}

#[test]
fn frames_of_running_interpreters_are_where_their_layouts_say() {
    let others = std::env::var("EVERYTICK_PYTHONS").unwrap_or_default();
    let others = others.split(';').filter(|command| !command.is_empty());
    for command in ["/usr/bin/python3"].into_iter().chain(others) {
        for how in ["wait", "spin"] {
            for place in ["main", "thread"] {
                check(command, [how, place]);
            }
        }
    }
}
