//! A file system with one file, `program`, that stops answering when it is told to: the few requests of
//! the FUSE protocol (Linux's include/uapi/linux/fuse.h) that running a program takes.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const RELEASE: u32 = 18;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const BATCH_FORGET: u32 = 42;

const ROOT: u64 = 1;
const PROGRAM: u64 = 2;
const ENOSYS: i32 = 38;
const IN_HEADER: usize = 40;
const OUT_HEADER: usize = 16;
/// What is known stays known for so many seconds.
const VALID: u64 = 3600;
const KEEP_CACHE: u32 = 2;
/// Pause between two looks for a request.
const TURN: Duration = Duration::from_micros(200);

/// A mounted file system.
pub struct Served {
    place: PathBuf,
    is_silent: Arc<AtomicBool>,
}

/// Mounts a file system whose one file holds these bytes.
pub fn serve(place: &Path, program: Vec<u8>) -> Served {
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let device =
        File::options().read(true).write(true).custom_flags(flags).open("/dev/fuse").unwrap();
    rustix::io::fcntl_setfd(&device, rustix::io::FdFlags::empty()).unwrap(); // mount inherits it
    let options =
        format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
    let mount = ["-i", "-t", "fuse", "-o", &options, "silent"];
    let is_silent = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&is_silent);
    let mut mounting = Command::new("mount").args(mount).arg(place).spawn().unwrap();
    rustix::io::fcntl_setfd(&device, rustix::io::FdFlags::CLOEXEC).unwrap();
    thread::spawn(move || answer_all(&device, &program, &asked)); // mount asks already
    assert!(mounting.wait().unwrap().success());
    Served { place: place.into(), is_silent }
}

impl Served {
    /// From now on nobody who asks gets an answer.
    pub fn fall_silent(&self) {
        self.is_silent.store(true, Ordering::SeqCst);
    }

    /// From now on everybody gets an answer, also who has asked meanwhile.
    pub fn answer_again(&self) {
        self.is_silent.store(false, Ordering::SeqCst);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-f", "-l"]).arg(&self.place).status();
    }
}

/// Answers until it is unmounted. While it is silent, requests are taken and not answered: the kernel does not let a process
/// end that waits for such an answer.
fn answer_all(mut device: &File, program: &[u8], is_silent: &AtomicBool) {
    let mut request = vec![0; 1 << 20];
    let mut asked: Vec<Vec<u8>> = Vec::new();
    loop {
        thread::sleep(TURN);
        if !is_silent.load(Ordering::SeqCst) {
            for answer in asked.drain(..).filter_map(|request| answer(&request, program)) {
                let _ = device.write(&answer); // who asked may be gone
            }
        }
        match device.read(&mut request) {
            Ok(len) => asked.push(request[..len].to_vec()),
            // Nobody asks, or it is not mounted yet.
            Err(error)
                if [ErrorKind::WouldBlock, ErrorKind::PermissionDenied].contains(&error.kind()) => {
            }
            Err(_) => break,
        }
    }
}

/// Answers a request; `None` for one that wants no answer.
fn answer(request: &[u8], program: &[u8]) -> Option<Vec<u8>> {
    let (operation, unique, node) = (u32_at(request, 4), u64_at(request, 8), u64_at(request, 16));
    let body = match operation {
        INIT => Ok(init()),
        LOOKUP if &request[IN_HEADER..] == b"program\0" => Ok(entry(program)),
        LOOKUP => Err(2),
        GETATTR => Ok([words(&[VALID, 0]), attributes(node, program)].concat()),
        OPEN => Ok([words(&[0]), KEEP_CACHE.to_ne_bytes().to_vec(), vec![0; 4]].concat()),
        READ => {
            let from = (u64_at(request, IN_HEADER + 8) as usize).min(program.len());
            let to = (from + u32_at(request, IN_HEADER + 16) as usize).min(program.len());
            Ok(program[from..to].to_vec())
        }
        RELEASE | FLUSH => Ok(Vec::new()),
        FORGET | BATCH_FORGET => return None,
        _ => Err(ENOSYS),
    };
    let (error, body) = body.map_or_else(|error| (-error, Vec::new()), |body| (0, body));
    let len = (OUT_HEADER + body.len()) as u32;
    let header = [&len.to_ne_bytes()[..], &error.to_ne_bytes(), &unique.to_ne_bytes()].concat();
    Some([header, body].concat())
}

/// `struct fuse_init_out`: version 7.31, no extras, reads and writes of 128 KiB.
fn init() -> Vec<u8> {
    let mut out = vec![0; 64];
    out[..4].copy_from_slice(&7u32.to_ne_bytes());
    out[4..8].copy_from_slice(&31u32.to_ne_bytes());
    out[8..12].copy_from_slice(&(1u32 << 17).to_ne_bytes());
    out[20..24].copy_from_slice(&(1u32 << 17).to_ne_bytes());
    out
}

/// `struct fuse_entry_out` of the one file.
fn entry(program: &[u8]) -> Vec<u8> {
    [words(&[PROGRAM, 0, VALID, VALID, 0]), attributes(PROGRAM, program)].concat()
}

/// `struct fuse_attr`: three times and their nanoseconds are 0.
fn attributes(node: u64, program: &[u8]) -> Vec<u8> {
    let (size, mode) =
        if node == ROOT { (0, 0o040_755) } else { (program.len() as u64, 0o100_755u32) };
    let rest = [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0u32];
    let rest = rest.iter().flat_map(|word| word.to_ne_bytes()).collect();
    [words(&[node, size, size.div_ceil(512), 0, 0, 0]), rest].concat()
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}
