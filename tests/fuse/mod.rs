//! A FUSE file system with one file, `program`, that can stop answering.
//!
//! It implements the few requests that running a program takes (Linux's include/uapi/linux/fuse.h).
#![allow(dead_code, clippy::unwrap_used)]

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
/// How long the kernel may cache entries and attributes, in seconds.
const CACHE_SECONDS: u64 = 3600;
const KEEP_CACHE: u32 = 2;
/// Pause between two polls for a request.
const POLL_PAUSE: Duration = Duration::from_micros(200);

/// A mounted file system.
pub struct Served {
    place: PathBuf,
    is_unresponsive: Arc<AtomicBool>,
}

/// Mounts a file system whose one file holds these bytes.
pub fn serve(place: &Path, program: Vec<u8>) -> Served {
    serve_with(place, program, "user_id=0,group_id=0,allow_other")
}

/// Mounts a file system that this user alone may read, and root may not.
pub fn serve_user(place: &Path, program: Vec<u8>, user: u32) -> Served {
    serve_with(place, program, &format!("user_id={user},group_id={user}"))
}

fn serve_with(place: &Path, program: Vec<u8>, access: &str) -> Served {
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let device =
        File::options().read(true).write(true).custom_flags(flags).open("/dev/fuse").unwrap();
    rustix::io::fcntl_setfd(&device, rustix::io::FdFlags::empty()).unwrap(); // mount inherits it
    let options = format!("fd={},rootmode=40000,{access}", device.as_raw_fd());
    let mount = ["-i", "-t", "fuse", "-o", &options, "silent"];
    let is_unresponsive = Arc::new(AtomicBool::new(false));
    let shared = Arc::clone(&is_unresponsive);
    let mut mounting = Command::new("mount").args(mount).arg(place).spawn().unwrap();
    rustix::io::fcntl_setfd(&device, rustix::io::FdFlags::CLOEXEC).unwrap();
    thread::spawn(move || answer_all(&device, &program, &shared)); // mount itself sends requests
    assert!(mounting.wait().unwrap().success());
    Served { place: place.into(), is_unresponsive }
}

impl Served {
    /// Leaves all requests unanswered from now on.
    pub fn stop_answering(&self) {
        self.is_unresponsive.store(true, Ordering::SeqCst);
    }

    /// Answers again, also the requests that came meanwhile.
    pub fn resume_answering(&self) {
        self.is_unresponsive.store(false, Ordering::SeqCst);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-f", "-l"]).arg(&self.place).status();
    }
}

/// Answers requests until the file system is unmounted. While it does not answer, it still takes
/// requests: a process that waits for the answer to one that was taken cannot be killed.
fn answer_all(mut device: &File, program: &[u8], is_unresponsive: &AtomicBool) {
    let mut request = vec![0; 1 << 20];
    let mut pending: Vec<Vec<u8>> = Vec::new();
    loop {
        thread::sleep(POLL_PAUSE);
        if !is_unresponsive.load(Ordering::SeqCst) {
            for answer in pending.drain(..).filter_map(|request| answer(&request, program)) {
                let _ = device.write(&answer); // the requester may have exited
            }
        }
        match device.read(&mut request) {
            Ok(len) => pending.push(request[..len].to_vec()),
            // There is no request, or it is not mounted yet.
            Err(error)
                if [ErrorKind::WouldBlock, ErrorKind::PermissionDenied].contains(&error.kind()) => {
            }
            Err(_) => break,
        }
    }
}

/// Returns the answer to a request; `None` if it needs none.
fn answer(request: &[u8], program: &[u8]) -> Option<Vec<u8>> {
    let (operation, unique, node) = (u32_at(request, 4), u64_at(request, 8), u64_at(request, 16));
    let body = match operation {
        INIT => Ok(init()),
        LOOKUP if &request[IN_HEADER..] == b"program\0" => Ok(entry(program)),
        LOOKUP => Err(2),
        GETATTR => Ok([words(&[CACHE_SECONDS, 0]), attributes(node, program)].concat()),
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
    [words(&[PROGRAM, 0, CACHE_SECONDS, CACHE_SECONDS, 0]), attributes(PROGRAM, program)].concat()
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
