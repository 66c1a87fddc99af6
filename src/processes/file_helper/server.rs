//! The worker: reads mappings, opens files and reads their headers, and waits for processes and
//! file systems in the agent's place.
//!
//! The file of a mapping is the mapping itself where the kernel allows opening it, else its path in
//! the root of the process, else in ours. Each may be another file by now, so it counts only if it
//! is the inode that the kernel reported.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::memory;
use super::proto::{CompareRequest, LocateRequest, MapsRequest, Question, Request, Response};
use crate::events::FileIdentity;
use crate::processes::content::{hash, identity, is_same};
use crate::processes::elf::{self, Elf};
use crate::procfs::OpenedMaps;
use crate::{procfs, workers};

/// Runs the worker: answers until the agent closes the socket.
///
/// # Errors
/// When the socket breaks or a request is malformed.
pub fn serve(socket: BorrowedFd<'_>) -> io::Result<()> {
    let mut located = None;
    workers::serve(socket, |request: Request| {
        answer(&request, &mut located).unwrap_or_else(|error| {
            let errno = error.raw_os_error().unwrap_or(Errno::NOENT.raw_os_error());
            (Response { errno, ..Response::default() }, None)
        })
    })
}

/// Answers a request. `located`: the file that was located last, not open for reading.
fn answer(request: &Request, located: &mut Option<File>) -> io::Result<(Response, Option<File>)> {
    match &request.question {
        Some(Question::Locate(request)) => {
            *located = None;
            let found = locate(request)?;
            let FileIdentity { major, minor, .. } = identity(&found)?;
            *located = Some(found);
            Ok((Response { major, minor, ..Response::default() }, None))
        }
        Some(Question::Open(())) => {
            let found = located.take().ok_or(io::ErrorKind::NotFound)?;
            let (response, file) = open(&found)?;
            Ok((response, Some(file)))
        }
        Some(Question::Compare(CompareRequest { path, other })) => {
            let is_same = is_same(&File::open(path)?, &File::open(other)?)?;
            Ok((Response { is_same, ..Response::default() }, None))
        }
        Some(Question::Copy(request)) => {
            let is_same = memory::is_copy(request)?;
            Ok((Response { is_same, ..Response::default() }, None))
        }
        Some(Question::Headers(request)) => {
            let elf = memory::headers(request)?.ok_or(io::ErrorKind::InvalidData)?;
            Ok((describe(elf), None))
        }
        Some(Question::Maps(request)) => Ok((read_maps(request)?, None)),
        Some(Question::CommandLine(tid)) => {
            let command_line = procfs::command_line(*tid)?;
            Ok((Response { command_line, ..Response::default() }, None))
        }
        None => Err(io::ErrorKind::Unsupported.into()),
    }
}

fn read_maps(request: &MapsRequest) -> io::Result<Response> {
    let maps = procfs::executable_maps(request.tid, &request.addresses)?;
    let mut response = Response { is_incomplete: maps.is_incomplete, ..Response::default() };
    maps.entries.iter().for_each(|entry| response.push(entry));
    Ok(response)
}

fn open(found: &File) -> io::Result<(Response, File)> {
    let file = open_regular(found)?;
    let Elf { build_id, segments } = elf::read(&file).unwrap_or_default();
    let hash = if build_id.is_none() { hash(&file)? } else { Vec::new() };
    Ok((Response { hash, ..describe(Elf { build_id, segments }) }, file))
}

fn describe(Elf { build_id, segments }: Elf) -> Response {
    let build_id = build_id.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
    Response { build_id, segments, ..Response::default() }
}

/// Finds the file of a mapping without opening it.
fn locate(request: &LocateRequest) -> io::Result<File> {
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
