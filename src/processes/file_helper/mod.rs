//! Opens the files behind mappings in a worker process, the file helper.
//!
//! A file system may never answer, and a process that waits for it cannot even be killed. So the
//! agent waits for a moment only. A helper that has not answered by then is left behind and another
//! takes its place. Until it has exited, and for a while, no other file on that device is opened.

mod proto;
mod server;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use profile::BuildId;

use super::content::Content;
use super::elf::Elf;
use crate::events::MmapEvent;
use crate::workers::{CallError, KilledWorker, Supervisor, Timeout, Usage};
use proto::{OpenRequest, OpenResponse};
pub use server::serve;

/// How long a file may take to open. One in the page cache takes microseconds, one on a slow disk
/// milliseconds.
const OPEN_MAX: Duration = Duration::from_millis(500);
/// How long a device that did not answer is left alone.
const DEVICE_BACKOFF: Duration = Duration::from_secs(10);
/// Devices that may be unresponsive at the same time.
const UNRESPONSIVE_MAX: usize = 64;

/// An open file and what its headers contain.
#[derive(Debug)]
pub(super) struct OpenedFile {
    pub file: File,
    pub elf: Elf,
    pub content: Content,
}

/// Major and minor number.
type Device = (u32, u32);

/// Asks the file helper.
#[derive(Debug)]
pub(super) struct FileHelper {
    supervisor: Supervisor,
    /// Devices in backoff because they did not answer, each with the end of its backoff and the
    /// killed helper that may still wait for it.
    unresponsive: HashMap<Device, (Instant, KilledWorker)>,
    /// Devices on which files stayed unopened, because the device did not answer.
    missed: HashSet<Device>,
    has_recovered: bool,
}

impl FileHelper {
    /// `program` with the one argument `file-helper` is to run [`serve`]. It is started on first
    /// use.
    pub fn new(program: &str) -> Self {
        Self {
            supervisor: Supervisor::new(program, ["file-helper".to_owned()]),
            unresponsive: HashMap::new(),
            missed: HashSet::new(),
            has_recovered: false,
        }
    }

    /// Opens the file of a mapping and reads its headers.
    ///
    /// # Errors
    /// As opening does; `TimedOut` when the device does not answer.
    pub fn open(&mut self, mapped: &MmapEvent) -> io::Result<OpenedFile> {
        let now = Instant::now();
        self.unresponsive.retain(|_, (until, helper)| *until > now || !helper.has_exited());
        let device = (mapped.file.major, mapped.file.minor);
        if self.unresponsive.contains_key(&device) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let reply = self.supervisor.call(&request(mapped), Timeout::after(OPEN_MAX));
        let reply = match reply {
            Ok(reply) => reply,
            Err(CallError::TimedOut(helper)) => {
                self.leave_behind(device, helper);
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(io::Error::other(error)),
        };
        self.has_recovered |= self.missed.remove(&device);
        let response: OpenResponse = reply.response;
        let file = reply.file.ok_or_else(|| io::Error::from_raw_os_error(response.errno))?;
        let file = File::from(file);
        let elf = Elf { build_id: BuildId::new(&response.build_id), segments: response.segments };
        let content = Content::of(&file, &elf, &response.hash)?;
        Ok(OpenedFile { file, elf, content })
    }

    /// Returns whether a device on which files stayed unopened has answered since the last call.
    pub fn take_recovered(&mut self) -> bool {
        std::mem::take(&mut self.has_recovered)
    }

    /// Returns what the helpers have used so far.
    pub fn usage(&self) -> Usage {
        self.supervisor.usage()
    }

    fn leave_behind(&mut self, device: Device, helper: KilledWorker) {
        if self.missed.len() < UNRESPONSIVE_MAX {
            self.missed.insert(device);
        }
        if self.unresponsive.len() < UNRESPONSIVE_MAX {
            self.unresponsive.insert(device, (Instant::now() + DEVICE_BACKOFF, helper));
        }
    }
}

fn request(MmapEvent { tid, start, end, file, path, .. }: &MmapEvent) -> OpenRequest {
    OpenRequest {
        tid: tid.0,
        start: start.0,
        end: end.0,
        major: file.major,
        minor: file.minor,
        inode: file.inode,
        path: path.to_string(),
    }
}
