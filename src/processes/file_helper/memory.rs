//! Reads the memory of processes, in the worker: whether it is a copy of a file's text, and headers
//! of files that cannot be opened.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::locate::read_up_to;
use super::proto::{CopyRequest, LocateRequest};
use crate::processes::elf::{self, Elf};
use crate::procfs;

/// Bytes that are compared at once.
const PIECE: usize = 4096;
/// Pieces compared of one mapping, at equal distances: some 256 KiB.
const PIECES_MAX: u64 = 64;

/// Returns whether memory contains text of a file: all pieces are equal, and not all are zero.
///
/// # Errors
/// As reading does.
pub(super) fn is_copy(request: &CopyRequest) -> io::Result<bool> {
    let CopyRequest { tid, start, bytes, path, offset } = request;
    let (memory, file) = (memory_of(*tid)?, File::open(path)?);
    let pieces = bytes.div_ceil(PIECE as u64);
    let step = pieces.div_ceil(PIECES_MAX).max(1);
    let mut has_code = false;
    for number in (0..pieces).step_by(step as usize).chain(pieces.checked_sub(1)) {
        let at = number * PIECE as u64;
        let len = (bytes - at).min(PIECE as u64) as usize;
        let (mut found, mut expected) = ([0; PIECE], [0; PIECE]);
        memory.read_exact_at(&mut found[..len], start.saturating_add(at))?;
        // The last page of text may be the last one of the file.
        read_up_to(&file, &mut expected[..len], offset.saturating_add(at))?;
        if found != expected {
            return Ok(false);
        }
        has_code |= found.iter().any(|byte| *byte != 0);
    }
    Ok(has_code)
}

/// Reads the headers of a file where a process has mapped its first page; `None` if it is no ELF
/// file.
///
/// # Errors
/// As reading does; when the first page is not mapped.
pub(super) fn headers(request: &LocateRequest) -> io::Result<Option<Elf>> {
    let LocateRequest { tid, major, minor, inode, .. } = *request;
    let start = procfs::start_of_file(tid, (major, minor, inode))?;
    let start = start.ok_or(io::ErrorKind::NotFound)?;
    let memory = memory_of(tid)?;
    let read = |offset: u64, bytes: &mut [u8]| {
        // The first pages alone are of the file: beyond, other segments follow.
        let is_within = offset.saturating_add(bytes.len() as u64) <= start.end - start.start;
        is_within && memory.read_exact_at(bytes, start.start + offset).is_ok()
    };
    Ok(elf::read_from(&read))
}

fn memory_of(tid: u32) -> io::Result<File> {
    File::open(format!("/proc/{tid}/mem"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(start: &[u8], path: &str, offset: u64) -> CopyRequest {
        let tid = std::process::id();
        CopyRequest {
            tid,
            start: start.as_ptr().addr() as u64,
            bytes: start.len() as u64,
            path: path.into(),
            offset,
        }
    }

    #[test]
    fn memory_is_a_copy_only_if_its_bytes_are_those_of_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        let path = path.to_str().expect("UTF-8");
        let mut bytes: Vec<u8> = (0..5 * PIECE + 100).map(|at| (at / 7) as u8).collect();
        std::fs::write(path, [&[9; 50], &bytes[..]].concat()).expect("written");
        let check = |bytes: &[u8], offset| is_copy(&own(bytes, path, offset)).expect("readable");
        assert!(check(&bytes, 50));
        assert!(!check(&bytes, 51));
        bytes[5 * PIECE + 99] ^= 1;
        assert!(!check(&bytes, 50));
        std::fs::write(path, [0; 2 * PIECE]).expect("written");
        assert!(!check(&[0; 2 * PIECE], 0), "it is no code");
    }

    #[test]
    fn own_headers_are_in_memory() {
        let tid = std::process::id();
        let maps = procfs::executable_maps(tid, &[]).expect("it runs");
        let address = own_headers_are_in_memory as fn() as usize as u64;
        let own = |entry: &&procfs::MapsEntry| (entry.start..entry.end).contains(&address);
        let entry = maps.entries.iter().find(own).expect("it is mapped").clone();
        let request = LocateRequest {
            tid,
            start: entry.start,
            end: entry.end,
            major: entry.major,
            minor: entry.minor,
            inode: entry.inode,
            path: String::new(),
        };
        let found = headers(&request).expect("readable").expect("an ELF file");
        let file = File::open("/proc/self/exe").expect("it runs");
        assert_eq!(Some(found), elf::read(&file));
        let none = headers(&LocateRequest { inode: u64::MAX, ..request });
        assert_eq!(none.expect_err("not mapped").kind(), io::ErrorKind::NotFound);
    }
}
