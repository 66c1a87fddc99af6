//! Opens the files behind mappings, by way of a process of its own: a file system may never answer, and who waits for
//! such a one cannot even be killed.
//!
//! Whoever asks waits a little. A worker that has not answered by then is left to its file and another takes its place;
//! until it is gone, and for a while, nothing else on that file's device is opened.

mod protocol;
mod worker;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use profile::BuildId;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::time::Timespec;
use symbolizer::Usage;

use super::content::Content;
use super::elf::Elf;
use crate::events::MmapEvent;
use protocol::{Found, Wanted, receive, send};
pub use worker::serve;

/// How long a file may take to open. One in a page cache takes microseconds, one on a slow disk milliseconds.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
/// How long a worker may take to start.
const START_MAX: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
/// How long a device is left alone that did not answer.
const LEFT_ALONE: Duration = Duration::from_secs(10);
/// Devices that may be silent at the same time.
const SILENT_MAX: usize = 64;

/// A file that was opened, and what it says of itself.
#[derive(Debug)]
pub(super) struct Opened {
    pub file: File,
    pub elf: Elf,
    pub content: Content,
}

/// Major and minor number.
type Device = (u32, u32);

/// Asks the process that opens files.
#[derive(Debug)]
pub(super) struct FileHelper {
    program: Box<str>,
    worker: Option<Worker>,
    /// Devices that have not answered: until when they are left alone, and who waits there.
    silent: HashMap<Device, (Instant, Child)>,
    /// Devices of which files were not opened, because they were silent.
    missed: HashSet<Device>,
    /// One of these has answered since.
    has_recovered: bool,
    /// What workers used that are gone.
    past: Usage,
}

#[derive(Debug)]
struct Worker {
    child: Child,
    socket: OwnedFd,
    usage: Usage,
}

impl FileHelper {
    /// `program` with one argument, `file-helper`, is to run [`serve`] on its standard input. It is started when first
    /// needed.
    pub fn new(program: &str) -> Self {
        Self {
            program: program.into(),
            worker: None,
            silent: HashMap::new(),
            missed: HashSet::new(),
            has_recovered: false,
            past: Usage::default(),
        }
    }

    /// Opens the file of a mapping and reads its headers.
    ///
    /// # Errors
    /// As opening does; `TimedOut` when there was no answer.
    pub fn open(&mut self, mapped: &MmapEvent) -> io::Result<Opened> {
        let now = Instant::now();
        self.silent
            .retain(|_, (until, child)| *until > now || matches!(child.try_wait(), Ok(None)));
        let device = (mapped.file.major, mapped.file.minor);
        if self.silent.contains_key(&device) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut worker = match self.worker.take() {
            Some(worker) => worker,
            None => Worker::start(&self.program)?,
        };
        let opened = worker.ask(mapped);
        match &opened {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => self.leave(device, worker),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.past = self.past.and(worker.end());
            }
            _ => {
                self.worker = Some(worker);
                self.has_recovered |= self.missed.remove(&device);
            }
        }
        opened
    }

    /// Whether a device has answered since this was last asked, of which files were not opened because it had not.
    pub fn take_recovered(&mut self) -> bool {
        std::mem::take(&mut self.has_recovered)
    }

    /// What the workers have used so far.
    pub fn usage(&self) -> Usage {
        let now = self.worker.as_ref().map(|worker| worker.usage).unwrap_or_default();
        self.past.and(now)
    }

    fn leave(&mut self, device: Device, Worker { mut child, usage, .. }: Worker) {
        self.past = self.past.and(usage);
        let _ = child.kill(); // it dies when its file system lets it
        if self.missed.len() < SILENT_MAX {
            self.missed.insert(device);
        }
        if self.silent.len() < SILENT_MAX {
            self.silent.insert(device, (Instant::now() + LEFT_ALONE, child));
        }
    }
}

impl Drop for FileHelper {
    fn drop(&mut self) {
        self.worker.take().map(Worker::end);
    }
}

impl Worker {
    fn start(program: &str) -> io::Result<Self> {
        let (socket, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let child = Command::new(program)
            .arg("file-helper")
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::null()) // a panic over a crafted file is no news for the user
            .process_group(0) // Ctrl-C is for the agent
            .spawn()?;
        let mut worker = Self { child, socket, usage: Usage::default() };
        match worker.receive(&START_MAX) {
            Ok(_) => Ok(worker), // it is there
            Err(error) => {
                let _ = worker.child.kill();
                worker.end();
                Err(error)
            }
        }
    }

    fn ask(&mut self, mapped: &MmapEvent) -> io::Result<Opened> {
        send(self.socket.as_fd(), &wanted(mapped), None).map_err(broken)?;
        let (found, file) = self.receive(&PATIENCE)?;
        let file = file.ok_or_else(|| io::Error::from_raw_os_error(found.errno))?;
        let file = File::from(file);
        let elf = Elf { build_id: BuildId::new(&found.build_id), segments: found.segments };
        let content = Content::of(&file, &elf, &found.hash)?;
        Ok(Opened { file, elf, content })
    }

    fn receive(&mut self, patience: &Timespec) -> io::Result<(Found, Option<OwnedFd>)> {
        let mut waiting = [PollFd::new(&self.socket, PollFlags::IN)];
        if retry_on_intr(|| poll(&mut waiting, Some(patience)))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let answer = receive::<Found>(self.socket.as_fd()).map_err(broken)?;
        let (found, file) = answer.ok_or(io::ErrorKind::BrokenPipe)?;
        let cpu = Duration::from_nanos(found.cpu_ns);
        self.usage = Usage { cpu, peak_rss_kib: found.peak_rss_kib };
        Ok((found, file))
    }

    /// Ends it; gives what it has used.
    fn end(self) -> Usage {
        let Self { mut child, socket, usage } = self;
        drop(socket); // it has nothing open and nothing to lose: it ends at once
        let _ = child.wait();
        usage
    }
}

fn broken(_: Errno) -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

fn wanted(MmapEvent { tid, start, end, file, path, .. }: &MmapEvent) -> Wanted {
    Wanted {
        tid: tid.0,
        start: start.0,
        end: end.0,
        major: file.major,
        minor: file.minor,
        inode: file.inode,
        path: path.to_string(),
    }
}
