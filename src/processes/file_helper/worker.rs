//! The worker: opens files, reads their headers, and waits instead of its parent.
//!
//! The file of a mapping is the mapping itself where the kernel lets us, else its path in the process's root, else in
//! ours. Either may be another file by now, so it counts only if it is the one that the kernel told of.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use symbolizer::Usage;

use super::protocol::{Found, Wanted, receive, send};
use crate::events::FileIdentity;
use crate::processes::content::{hash, identity};
use crate::processes::elf::{self, Elf};
use crate::processes::scan::file_mapped_at;

/// Says that it is there, then opens what is asked for until the other side is gone.
///
/// # Errors
/// When the socket breaks.
pub fn serve(socket: BorrowedFd<'_>) -> io::Result<()> {
    send(socket, &used(Found::default()), None)?;
    while let Some((wanted, _)) = receive::<Wanted>(socket)? {
        let opened = open(&wanted);
        let file = opened.as_ref().ok().map(|(file, _)| file.as_fd());
        let found = match &opened {
            Ok((_, found)) => found.clone(),
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(Errno::NOENT.raw_os_error());
                Found { errno, ..Found::default() }
            }
        };
        send(socket, &used(found), file)?;
    }
    Ok(())
}

/// Adds what this process has used so far.
fn used(found: Found) -> Found {
    let Usage { cpu, peak_rss_kib } = Usage::own();
    Found { cpu_ns: cpu.as_nanos() as u64, peak_rss_kib, ..found }
}

fn open(wanted: &Wanted) -> io::Result<(File, Found)> {
    let Wanted { tid, path, .. } = wanted;
    let file = open_mapping(wanted)
        .or_else(|_| open_checked(&format!("/proc/{tid}/root{path}"), wanted))
        .or_else(|_| open_checked(path, wanted))?;
    let Elf { build_id, segments } = elf::read(&file).unwrap_or_default();
    let hash = if build_id.is_none() { hash(&file)? } else { Vec::new() };
    let build_id = build_id.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
    Ok((file, Found { build_id, segments, hash, ..Found::default() }))
}

fn open_mapping(wanted: &Wanted) -> io::Result<File> {
    let Wanted { tid, start, end, .. } = *wanted;
    let place = find(&format!("/proc/{tid}/map_files/{start:x}-{end:x}"))?;
    // The process may have mapped another file there since. Where one file system lies over another, the file does not
    // say of itself what the mapping says of it.
    if identity(&place)? == asked(wanted) || file_mapped_at(tid, start, end) == Some(asked(wanted))
    {
        return open_regular(&place);
    }
    Err(io::ErrorKind::NotFound.into())
}

fn open_checked(path: &str, wanted: &Wanted) -> io::Result<File> {
    let place = find(path)?;
    if identity(&place)? == asked(wanted) {
        open_regular(&place)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

fn asked(wanted: &Wanted) -> FileIdentity {
    FileIdentity { major: wanted.major, minor: wanted.minor, inode: wanted.inode }
}

/// Finds what is at a path, and opens it for no more than to ask what it is.
fn find(path: &str) -> io::Result<File> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?.into())
}

/// Opens what was found if it is a regular file: opening a pipe or a device can block or do something. Others chose the path.
fn open_regular(place: &File) -> io::Result<File> {
    if !place.metadata()?.is_file() {
        return Err(Errno::INVAL.into());
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let path = format!("/proc/self/fd/{}", place.as_raw_fd());
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}
