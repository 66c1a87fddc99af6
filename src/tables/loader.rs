//! Reads call frames on a thread of its own, at low priority: a large or slow file delays nobody else.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use profile::ExecutableId;
use unwind::{CallFrames, Error};

/// Niceness of the thread: what is profiled comes first.
const NICE: i32 = 5;

/// What came of a file.
pub(super) struct Loaded {
    pub executable: ExecutableId,
    /// Its call frames, `None` when there was no reading it.
    pub frames: Option<Result<CallFrames, Error>>,
}

/// The running thread.
pub(super) struct Loader {
    wanted: Sender<(ExecutableId, File)>,
    loaded: Receiver<Loaded>,
    /// Files on their way.
    pub waiting: usize,
}

impl Loader {
    /// Starts the thread. It ends when this is dropped and what it reads is read.
    pub fn spawn() -> io::Result<Self> {
        let (wanted, requests) = mpsc::channel();
        let (results, loaded) = mpsc::channel();
        thread::Builder::new().name("tables".into()).spawn(move || {
            let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
            for (executable, file) in requests {
                if results.send(Loaded { executable, frames: read(&file) }).is_err() {
                    break; // nobody waits any more
                }
            }
        })?;
        Ok(Self { wanted, loaded, waiting: 0 })
    }

    /// Asks for a file's call frames.
    pub fn request(&mut self, executable: ExecutableId, file: File) {
        if self.wanted.send((executable, file)).is_ok() {
            self.waiting += 1;
        }
    }

    /// Gives what is ready; waits so long for the first, if there is something to wait for.
    pub fn take(&mut self, patience: Duration) -> Option<Loaded> {
        if self.waiting == 0 {
            return None;
        }
        let loaded = self.loaded.recv_timeout(patience).ok()?;
        self.waiting -= 1;
        Some(loaded)
    }
}

/// Reads a file. A parser that panics after all costs this file its table and no more.
fn read(file: &File) -> Option<Result<CallFrames, Error>> {
    let at = |offset: u64, bytes: &mut [u8]| file.read_exact_at(bytes, offset).is_ok();
    catch_unwind(AssertUnwindSafe(|| unwind::read(&at))).ok()
}
