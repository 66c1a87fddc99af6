//! Asks a worker process, the file helper, for what may never be answered: the mappings of a
//! process and the files behind them.
//!
//! A file system may never answer, a process may keep its memory locked, and the helper that waits
//! for a file system cannot even be killed. So the agent waits for a moment only. A helper that has
//! not answered by then is left behind and another takes its place; [`unanswered`] decides what is
//! asked again, and when.
//!
//! The file of a mapping takes two questions: the first asks the process which file it is, the
//! second its device for the content. So a process that does not answer makes no device suspect.

mod jit_dump;
mod locate;
mod memory;
mod perf_map;
mod proto;
mod server;
mod unanswered;

use std::fs::File;
use std::io;
use std::time::Duration;

use profile::{BuildId, Pid, Tid};

use super::code_name_gap::CodeNameGap;
use super::content::Content;
use super::debug_files::SeparateDebugFiles;
use super::elf::Elf;
use super::perf_maps::{JitDumpMarker, PerfMapPart, ProcessMap};
use crate::events::MmapEvent;
use crate::limits::Owner;
use crate::procfs::{self, ExecutableMaps};
use crate::runtimes::Recognition;
use crate::workers::{CallError, Reply, Supervisor, Timeout, Usage, path_of_open_file};
use proto::{
    CompareRequest, CopyRequest, DebugFilesRequest, JitDumpRequest, LocateRequest, MapsRequest,
    PerfMapRequest, Question, Request, Response,
};
pub use server::serve;
pub(super) use unanswered::Device;
use unanswered::{Target, Unanswered};

/// How long an answer may take. A file in the page cache and the mappings of a usual process take
/// microseconds, a file on a slow disk milliseconds.
const ANSWER_MAX: Duration = Duration::from_millis(500);
/// How long it may take while the helper does not wait for anything but a CPU: the machine is busy.
const BUSY_MAX: Duration = Duration::from_secs(3);

/// An open file and what its headers contain.
#[derive(Debug)]
pub(super) struct OpenedFile {
    pub file: File,
    pub device: Device,
    pub elf: Elf,
    pub content: Content,
    /// The runtime or the C library that it contains.
    pub recognition: Option<Box<Recognition>>,
}

/// Memory of a process, and the text of a file that it may be a copy of.
#[derive(Clone, Copy, Debug)]
pub(super) struct ComparedText {
    /// First address.
    pub start: u64,
    pub bytes: u64,
    /// Offset in the file.
    pub offset: u64,
}

/// Asks the file helper.
#[derive(Debug)]
pub(super) struct FileHelper {
    supervisor: Supervisor,
    unanswered: Unanswered,
    /// Read mappings in this process: there is no program that could run as a helper.
    reads_in_process: bool,
}

impl FileHelper {
    /// `program` with the one argument `file-helper` is to run [`serve`]. It is started on first
    /// use. With an empty `program`, in tests, mappings are read in this process and no file opens.
    pub fn new(program: &str) -> Self {
        let supervisor = Supervisor::new(program, ["file-helper".to_owned()]);
        let reads_in_process = program.is_empty();
        Self { supervisor, unanswered: Unanswered::default(), reads_in_process }
    }

    /// Opens the file of a mapping and reads its headers, on behalf of an owner.
    ///
    /// # Errors
    /// As opening does; `TimedOut` when the process or the device does not answer.
    pub fn open(&mut self, mapped: &MmapEvent, owner: Owner) -> io::Result<OpenedFile> {
        let device = Target::Device((mapped.file.major, mapped.file.minor));
        if !self.unanswered.may_ask(device, owner) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let process = Target::Process(mapped.pid);
        let located = self.ask(process, owner, Question::Locate(locate_request(mapped)))?;
        let device = (located.response.major, located.response.minor);
        let reply = self.ask(Target::Device(device), owner, Question::Open(()))?;
        self.unanswered.answered(device);
        let file = reply.files.into_iter().next().ok_or(io::ErrorKind::NotFound)?;
        let Response { build_id, segments, hash, recognition, .. } = reply.response;
        let elf = Elf { build_id: BuildId::new(&build_id), segments };
        let content = Content::of(&file, &elf, &hash)?;
        let recognition = recognition.map(|message| Box::new(message.recognition()));
        Ok(OpenedFile { file, device, elf, content, recognition })
    }

    /// Finds the debug files of an open file that a process maps, on behalf of an owner. None when
    /// the process does not answer.
    pub fn debug_files(
        &mut self,
        mapped: &MmapEvent,
        file: &File,
        owner: Owner,
    ) -> SeparateDebugFiles {
        let (tid, held, path) =
            (mapped.tid.0, path_of_open_file(file), procfs::without_deleted(&mapped.path));
        let question = Question::DebugFiles(DebugFilesRequest { tid, held, path: path.into() });
        match self.ask(Target::Process(mapped.pid), owner, question) {
            Ok(reply) => SeparateDebugFiles::new(reply.response.roles(), reply.files),
            Err(_) => SeparateDebugFiles::default(),
        }
    }

    /// Returns whether two files have the same bytes, on behalf of an owner; false as well when
    /// that is not found out at once. `device`: of the first.
    pub fn is_same(&mut self, device: Device, [one, other]: [&File; 2], owner: Owner) -> bool {
        let request =
            CompareRequest { path: path_of_open_file(one), other: path_of_open_file(other) };
        let answer = self.ask(Target::Device(device), owner, Question::Compare(request));
        answer.is_ok_and(|reply| reply.response.is_same)
    }

    /// Returns whether memory of a process, through its thread `tid`, contains text of a file, on
    /// behalf of its owner; false as well when there is no answer.
    pub fn is_copy(
        &mut self,
        (pid, tid): (Pid, Tid),
        file: &File,
        ComparedText { start, bytes, offset }: ComparedText,
        owner: Owner,
    ) -> bool {
        let request =
            CopyRequest { tid: tid.0, start, bytes, path: path_of_open_file(file), offset };
        let answer = self.ask(Target::Process(pid), owner, Question::Copy(request));
        answer.is_ok_and(|reply| reply.response.is_same)
    }

    /// Reads the headers of a mapping's file from the memory of the process that maps it, on behalf
    /// of an owner: the file itself cannot be opened.
    ///
    /// # Errors
    /// As reading does; `TimedOut` when the process does not answer.
    pub fn mapped_headers(&mut self, mapped: &MmapEvent, owner: Owner) -> io::Result<Elf> {
        let question = Question::Headers(locate_request(mapped));
        let Response { build_id, segments, .. } =
            self.ask(Target::Process(mapped.pid), owner, question)?.response;
        Ok(Elf { build_id: BuildId::new(&build_id), segments })
    }

    /// Reads the executable mappings of a process through its thread `tid`, on behalf of its owner.
    /// `addresses`: only mappings that contain one of these, in ascending order; empty for all.
    ///
    /// # Errors
    /// As reading does; `TimedOut` when the process does not answer.
    pub fn maps(
        &mut self,
        (pid, tid): (Pid, Tid),
        addresses: &[u64],
        owner: Owner,
    ) -> io::Result<ExecutableMaps> {
        if self.reads_in_process {
            return procfs::executable_maps(tid.0, addresses);
        }
        let request = MapsRequest { tid: tid.0, addresses: addresses.to_vec() };
        let reply = self.ask(Target::Process(pid), owner, Question::Maps(request))?;
        let entries = reply.response.entries().collect();
        Ok(ExecutableMaps { entries, is_incomplete: reply.response.is_incomplete })
    }

    /// Reads the command line of a process through its thread `tid`, on behalf of its owner.
    ///
    /// # Errors
    /// As [`Self::maps`].
    pub fn command_line(&mut self, (pid, tid): (Pid, Tid), owner: Owner) -> io::Result<String> {
        let question = Question::CommandLine(tid.0);
        Ok(self.ask(Target::Process(pid), owner, question)?.response.command_line)
    }

    /// Reads the next part of the jitdump or perf map of a process, on behalf of its owner. `map`:
    /// as far as it was read; `marker`: of the jitdump that the process has mapped; `is_last`: a
    /// line or a record without an end counts as well.
    ///
    /// # Errors
    /// Why there is no part.
    pub fn perf_map(
        &mut self,
        pid: Pid,
        map: &ProcessMap,
        marker: Option<&JitDumpMarker>,
        is_last: bool,
        owner: Owner,
    ) -> Result<PerfMapPart, CodeNameGap> {
        let request = PerfMapRequest {
            pid: pid.0,
            tid: map.tid.0,
            held: map.file().map(path_of_open_file).unwrap_or_default(),
            offset: map.offset,
            tail: map.tail.clone(),
            is_last,
            held_jit_dump: map.jit_dump.map(|id| id.pid),
            jit_dump: marker.filter(|marker| map.jit_dump != Some(marker.id)).map(|marker| {
                JitDumpRequest { mapping: locate_request(&marker.mapped), pid: marker.id.pid }
            }),
        };
        if !self.unanswered.may_ask(Target::Process(pid), owner) {
            return Err(CodeNameGap::NotAsked);
        }
        let reply = self.ask(Target::Process(pid), owner, Question::PerfMap(request));
        let reply = reply.map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => CodeNameGap::Unanswered,
            _ => CodeNameGap::NoMap,
        })?;
        let part = reply.response.perf_map.unwrap_or_default();
        Ok(PerfMapPart {
            gap: CodeNameGap::ALL.get((part.gap as usize).wrapping_sub(1)).copied(),
            file: reply.files.into_iter().next(),
            jit_dump: marker.filter(|_| part.is_jit_dump).map(|marker| marker.id),
            is_new: part.is_new,
            entries: part.entries,
            offset: part.offset,
            tail: part.tail,
            parsed: part.parsed,
            malformed: part.malformed,
            has_more: part.has_more,
        })
    }

    /// Returns whether a device on which files stayed unopened has answered since the last call.
    pub fn take_recovered(&mut self) -> bool {
        self.unanswered.take_recovered()
    }

    /// Returns what the helpers have used so far.
    pub fn usage(&self) -> Usage {
        self.supervisor.usage()
    }

    /// Asks a question that a process or a device has to answer.
    fn ask(
        &mut self,
        target: Target,
        owner: Owner,
        question: Question,
    ) -> io::Result<Reply<Response>> {
        if !self.unanswered.may_ask(target, owner) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let request = Request { question: Some(question) };
        match self.call(&request).map_err(io::Error::other)? {
            Some(reply) if reply.response.errno == 0 => Ok(reply),
            Some(reply) => Err(io::Error::from_raw_os_error(reply.response.errno)),
            None => {
                let helper = self.supervisor.abandon();
                self.unanswered.record(target, owner, helper);
                Err(io::ErrorKind::TimedOut.into())
            }
        }
    }

    /// Sends a request and waits for the answer; `None` when it does not come in time.
    fn call(&mut self, request: &Request) -> Result<Option<Reply<Response>>, CallError> {
        self.supervisor.send(request, &[], &|| false)?;
        for _ in 0..BUSY_MAX.as_millis() / ANSWER_MAX.as_millis() {
            let reply = self.supervisor.receive(Timeout::after(ANSWER_MAX), None)?;
            if reply.is_some() || !self.is_helper_busy() {
                return Ok(reply);
            }
        }
        Ok(None)
    }

    fn is_helper_busy(&self) -> bool {
        let stat = self.supervisor.worker_pid().and_then(procfs::stat);
        stat.is_some_and(|stat| stat.is_running)
    }
}

fn locate_request(MmapEvent { tid, start, end, file, path, .. }: &MmapEvent) -> LocateRequest {
    LocateRequest {
        tid: tid.0,
        start: start.0,
        end: end.0,
        major: file.major,
        minor: file.minor,
        inode: file.inode,
        path: path.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    /// Writes a helper that starts and never answers, and counts its starts in a file beside it.
    fn hanging_helper(directory: &Path) -> String {
        let path = directory.join("helper");
        let script = "#!/bin/sh\necho started >>\"$(dirname \"$0\")/starts\"\n\
                      head -c 24 /dev/zero >&0\nexec sleep 3600\n";
        fs::write(&path, script).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("changed");
        path.to_str().expect("UTF-8").to_owned()
    }

    #[test]
    fn what_does_not_answer_is_left_alone_and_others_are_asked() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut helper = FileHelper::new(&hanging_helper(directory.path()));
        let mut ask = |pid, uid| {
            let error = helper.maps((Pid(pid), Tid(pid)), &[], Owner::User(uid));
            assert_eq!(error.expect_err("no answer").kind(), io::ErrorKind::TimedOut);
            fs::read_to_string(directory.path().join("starts")).map_or(0, |t| t.lines().count())
        };
        assert_eq!(ask(1, 1000), 1);
        assert_eq!(ask(1, 1000), 1, "the process is left alone");
        assert_eq!(ask(2, 1000), 1, "and so are others of its owner for a moment");
        assert_eq!(ask(3, 1001), 2, "a process of another owner is asked");
    }
}
