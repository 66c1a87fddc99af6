//! Finds the file of a mapping.
//!
//! It is the mapping itself where the kernel allows opening it, else its path in the root of the
//! process, else in ours. Each may be another file by now, so it counts only if it is the inode
//! that the kernel reported.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::proto::LocateRequest;
use crate::events::FileIdentity;
use crate::processes::content::identity;
use crate::processes::untrusted_path::find;
use crate::procfs::OpenedMaps;

/// Finds the file of a mapping without opening it.
pub(super) fn locate(request: &LocateRequest) -> io::Result<File> {
    let LocateRequest { tid, path, .. } = request;
    locate_mapping(request)
        .or_else(|_| locate_path(&format!("/proc/{tid}/root{path}"), request))
        .or_else(|_| locate_path(path, request))
}

fn locate_mapping(request: &LocateRequest) -> io::Result<File> {
    let LocateRequest { tid, start, end, .. } = *request;
    let maps = OpenedMaps::open(tid)?;
    let found = find(&format!("/proc/{tid}/map_files/{start:x}-{end:x}"))?;
    // The process may have mapped another file there since. Where one file system lies over
    // another, the file itself has another identity than its mapping: then the program of which it
    // was found is the one that had it mapped before and has it still.
    let expected = identity_in(request);
    if identity(&found)? == expected || mapped_file(maps, start, end) == Some(expected) {
        return Ok(found);
    }
    Err(io::ErrorKind::NotFound.into())
}

fn locate_path(path: &str, request: &LocateRequest) -> io::Result<File> {
    let found = find(path)?;
    if identity(&found)? == identity_in(request) {
        Ok(found)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

fn identity_in(request: &LocateRequest) -> FileIdentity {
    FileIdentity { major: request.major, minor: request.minor, inode: request.inode }
}

/// Returns which file a program has mapped at exactly these addresses to execute it.
fn mapped_file(maps: OpenedMaps, start: u64, end: u64) -> Option<FileIdentity> {
    let maps = maps.executable(&[start]).ok()?;
    let mut entries = maps.entries.into_iter();
    let entry = entries.find(|entry| (entry.start, entry.end) == (start, end))?;
    Some(FileIdentity { major: entry.major, minor: entry.minor, inode: entry.inode })
}

/// Fills a buffer from a file. What lies beyond its end stays as it is. Returns how many bytes were
/// read.
///
/// # Errors
/// As reading does.
pub(super) fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], offset.saturating_add(length as u64))? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}
