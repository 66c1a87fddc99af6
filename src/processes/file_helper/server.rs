//! The worker: reads mappings, opens files and reads their headers, and waits for processes and
//! file systems in the agent's place.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::locate::locate;
use super::proto::{CompareRequest, DebugFilesRequest, MapsRequest, Question, Request, Response};
use super::{memory, perf_map};
use crate::events::FileIdentity;
use crate::limits::raise_priority;
use crate::processes::content::{hash, identity, is_same};
use crate::processes::debug_files::DebugFileSearch;
use crate::processes::elf::{self, Elf};
use crate::processes::untrusted_path::open_regular;
use crate::procfs;
use crate::runtimes::{self, proto::RecognitionMessage};
use crate::workers::{self, Confinement};

/// Runs the worker: answers until the agent closes the socket.
///
/// # Errors
/// When the socket breaks or a request is malformed.
pub fn serve(socket: BorrowedFd<'_>) -> io::Result<()> {
    raise_priority(); // the processor waits for each answer
    let mut located = None;
    workers::serve(socket, Confinement::None, |request: Request, _| {
        answer(&request, &mut located).unwrap_or_else(|error| {
            let errno = error.raw_os_error().unwrap_or(Errno::NOENT.raw_os_error());
            (Response { errno, ..Response::default() }, Vec::new())
        })
    })
}

/// Answers a request. `located`: the file that was located last, not open for reading.
fn answer(request: &Request, located: &mut Option<File>) -> io::Result<(Response, Vec<File>)> {
    match &request.question {
        Some(Question::Locate(request)) => {
            *located = None;
            let found = locate(request)?;
            let FileIdentity { major, minor, .. } = identity(&found)?;
            *located = Some(found);
            Ok((Response { major, minor, ..Response::default() }, Vec::new()))
        }
        Some(Question::Open(())) => {
            let found = located.take().ok_or(io::ErrorKind::NotFound)?;
            let (response, file) = open(&found)?;
            Ok((response, vec![file]))
        }
        Some(Question::Compare(CompareRequest { path, other })) => {
            let is_same = is_same(&File::open(path)?, &File::open(other)?)?;
            Ok((Response { is_same, ..Response::default() }, Vec::new()))
        }
        Some(Question::Copy(request)) => {
            let is_same = memory::is_copy(request)?;
            Ok((Response { is_same, ..Response::default() }, Vec::new()))
        }
        Some(Question::Headers(request)) => {
            let elf = memory::headers(request)?.ok_or(io::ErrorKind::InvalidData)?;
            Ok((describe(elf), Vec::new()))
        }
        Some(Question::Maps(request)) => Ok((read_maps(request)?, Vec::new())),
        Some(Question::CommandLine(tid)) => {
            let command_line = procfs::command_line(*tid)?;
            Ok((Response { command_line, ..Response::default() }, Vec::new()))
        }
        Some(Question::PerfMap(request)) => {
            let (part, file) = perf_map::read(request)?;
            let files = file.into_iter().collect();
            Ok((Response { perf_map: Some(part), ..Response::default() }, files))
        }
        Some(Question::DebugFiles(request)) => {
            let DebugFilesRequest { tid, held, path } = request;
            let found = DebugFileSearch::of_mapping(*tid, File::open(held)?, path)?.found;
            let (roles, files) =
                found.into_iter().map(|(role, file)| (i32::from(role), file)).unzip();
            Ok((Response { roles, ..Response::default() }, files))
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
    let recognition = RecognitionMessage::of(&runtimes::recognize(&file));
    Ok((Response { hash, recognition, ..describe(Elf { build_id, segments }) }, file))
}

fn describe(Elf { build_id, segments }: Elf) -> Response {
    let build_id = build_id.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
    Response { build_id, segments, ..Response::default() }
}
