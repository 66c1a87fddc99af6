//! Prints the stack of a sleeping thread: `cargo run -p unwind --example pstack -- PID`
//!
//! Shows the loop that a user of this crate writes: find the file of an address, look up its rule,
//! step, and fall back to frame pointers where there is no row. Needs permission to trace PID.
#![allow(clippy::print_stdout)] // prints its result

use std::error::Error;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use object::{Object, ObjectSegment};
use unwind::{CallFrames, Registers, Step, frame_pointer, step};

const FRAMES_MAX: usize = 128;

/// An executable mapping of the process.
struct Mapping {
    start: u64,
    end: u64,
    /// Difference between an address in the process and in the file.
    bias: u64,
    path: String,
    frames: CallFrames,
}

fn main() -> Result<(), Box<dyn Error>> {
    let pid = std::env::args().nth(1).ok_or("usage: pstack PID")?;
    let mappings = mappings(&pid)?;
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let read = |address| {
        let mut word = [0; 8];
        memory.read_exact_at(&mut word, address).is_ok().then(|| u64::from_le_bytes(word))
    };

    let mut frame = blocked_at(&pid)?;
    for number in 0..FRAMES_MAX {
        let address = frame.lookup_address();
        let Some(mapping) = mappings.iter().find(|m| (m.start..m.end).contains(&address)) else {
            println!("{number:>3}  {address:#x}  outside of files");
            break;
        };
        let file_address = address.wrapping_sub(mapping.bias);
        println!("{number:>3}  {}+{file_address:#x}", mapping.path);
        let rule = mapping.frames.table.rule_at(file_address);
        let caller = match step(&frame, &rule, read) {
            Step::Caller(caller) => Ok(caller),
            Step::NoRow => frame_pointer::step(&frame, read)
                .map_err(|end| format!("no row, and no frame pointer: {end:?}")),
            Step::Root | Step::Outside => Err("complete".to_owned()),
            end => Err(format!("{end:?} by the rule {rule}")),
        };
        match caller {
            Ok(caller) => frame = caller,
            Err(end) => {
                println!("     {end}");
                break;
            }
        }
    }
    Ok(())
}

/// Reads the call frames of every file that the process has mapped executable.
fn mappings(pid: &str) -> Result<Vec<Mapping>, Box<dyn Error>> {
    let mut mappings = Vec::new();
    for line in fs::read_to_string(format!("/proc/{pid}/maps"))?.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [range, permissions, offset, _, _, path] = fields[..] else { continue };
        let Some((start, end)) = range.split_once('-') else { continue };
        if permissions.contains('x') && path.starts_with('/') {
            let number = |text| u64::from_str_radix(text, 16);
            let (start, end, offset) = (number(start)?, number(end)?, number(offset)?);
            let file = File::open(format!("/proc/{pid}/map_files/{range}"))?;
            let read_at = |at: u64, bytes: &mut [u8]| file.read_exact_at(bytes, at).is_ok();
            let frames = unwind::read(&read_at).unwrap_or_default();
            let bias = start.wrapping_sub(file_address(path, offset)?);
            mappings.push(Mapping { start, end, bias, path: path.to_owned(), frames });
        }
    }
    Ok(mappings)
}

/// Returns the address (`p_vaddr`) of a file offset.
fn file_address(path: &str, offset: u64) -> Result<u64, Box<dyn Error>> {
    let bytes = fs::read(path)?;
    let elf = object::File::parse(&*bytes)?;
    let page_of = |segment: &object::Segment<'_, '_>| segment.file_range().0 & !0xfff;
    let segment = elf.segments().filter(|segment| page_of(segment) <= offset).last();
    let segment = segment.ok_or("the mapping is in no segment")?;
    Ok((segment.address() & !0xfff) + (offset - page_of(&segment)))
}

/// Returns ip and sp of the system call in which the thread sleeps. The kernel shows no fp.
fn blocked_at(pid: &str) -> Result<Registers, Box<dyn Error>> {
    let line = fs::read_to_string(format!("/proc/{pid}/syscall"))?;
    let mut words = line.split_whitespace().rev().map(|word| word.strip_prefix("0x"));
    let mut next = || words.next().flatten().ok_or("the thread is running");
    let (ip, sp) = (u64::from_str_radix(next()?, 16)?, u64::from_str_radix(next()?, 16)?);
    Ok(Registers { ip, is_behind: true, sp, fp: None, base: None, all: None, callee: None })
}
