//! The worker: opens files, reads their headers, and waits for file systems in the agent's place.
//!
//! The file of a mapping is the mapping itself where the kernel allows to open it, else its path in
//! the root of the process, else in ours. Each may be another file by now, so it counts only if it
//! is the inode that the kernel reported.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::proto::{OpenRequest, OpenResponse};
use crate::events::FileIdentity;
use crate::processes::content::{hash, identity};
use crate::processes::elf::{self, Elf};
use crate::{procfs, workers};

/// Runs the worker: opens files until the agent closes the socket.
///
/// # Errors
/// When the socket breaks or a request is malformed.
pub fn serve(socket: BorrowedFd<'_>) -> io::Result<()> {
    workers::serve(socket, |request: OpenRequest| match open(&request) {
        Ok((response, file)) => (response, Some(file)),
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(Errno::NOENT.raw_os_error());
            (OpenResponse { errno, ..OpenResponse::default() }, None)
        }
    })
}

fn open(request: &OpenRequest) -> io::Result<(OpenResponse, File)> {
    let OpenRequest { tid, path, .. } = request;
    let file = open_mapping(request)
        .or_else(|_| open_path(&format!("/proc/{tid}/root{path}"), request))
        .or_else(|_| open_path(path, request))?;
    let Elf { build_id, segments } = elf::read(&file).unwrap_or_default();
    let hash = if build_id.is_none() { hash(&file)? } else { Vec::new() };
    let build_id = build_id.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
    Ok((OpenResponse { errno: 0, build_id, segments, hash }, file))
}

fn open_mapping(request: &OpenRequest) -> io::Result<File> {
    let OpenRequest { tid, start, end, .. } = *request;
    let found = find(&format!("/proc/{tid}/map_files/{start:x}-{end:x}"))?;
    // The process may have mapped another file there since. Where one file system lies over
    // another, the file itself has another identity than its mapping.
    let expected = identity_in(request);
    if identity(&found)? == expected || mapped_file(tid, start, end) == Some(expected) {
        return open_regular(&found);
    }
    Err(io::ErrorKind::NotFound.into())
}

fn open_path(path: &str, request: &OpenRequest) -> io::Result<File> {
    let found = find(path)?;
    if identity(&found)? == identity_in(request) {
        open_regular(&found)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

fn identity_in(request: &OpenRequest) -> FileIdentity {
    FileIdentity { major: request.major, minor: request.minor, inode: request.inode }
}

/// Returns which file a thread has mapped at exactly these addresses to execute it.
fn mapped_file(tid: u32, start: u64, end: u64) -> Option<FileIdentity> {
    let maps = procfs::executable_maps(tid).ok()?;
    let entry = maps.into_iter().find(|entry| (entry.start, entry.end) == (start, end))?;
    Some(FileIdentity { major: entry.major, minor: entry.minor, inode: entry.inode })
}

/// Opens a path only to look at what is there.
fn find(path: &str) -> io::Result<File> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?.into())
}

/// Opens what was found if it is a regular file. Others chose the path, and opening a pipe or a
/// device can block or have effects.
fn open_regular(found: &File) -> io::Result<File> {
    if !found.metadata()?.is_file() {
        return Err(Errno::INVAL.into());
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}
