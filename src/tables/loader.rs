//! Reads call frames on a thread of its own: a large or slow file delays nobody else.
//!
//! What is profiled comes first, so the thread has a low priority. But until a table is there each tick takes its
//! stack along, which costs more than reading; so it may work for a while like everybody else.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use profile::ExecutableId;
use rustix::time::{ClockId, clock_gettime};
use unwind::{CallFrames, Error};

/// Niceness of the thread when it has worked for long.
const NICE: i32 = 10;
/// CPU time for which it may work as others do...
const BURST_MAX: Duration = Duration::from_millis(500);
/// ...of which it gets back one part in so many of the time that passes.
const REFILL_PART: u32 = 5;

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
            let mut priority = Priority::new();
            for (executable, file) in requests {
                priority.adapt();
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

/// The thread's own priority.
struct Priority {
    /// CPU time that is left before it falls.
    left: Duration,
    /// When that was last reckoned, and the CPU time used by then.
    at: (Instant, Duration),
}

impl Priority {
    fn new() -> Self {
        Self { left: BURST_MAX, at: (Instant::now(), cpu_time()) }
    }

    /// Takes the priority that what was done lately leaves. Where it cannot be raised again it stays low.
    fn adapt(&mut self) {
        let (before, used) = std::mem::replace(&mut self.at, (Instant::now(), cpu_time()));
        let refill = (self.at.0 - before) / REFILL_PART;
        self.left = (self.left + refill).saturating_sub(self.at.1 - used).min(BURST_MAX);
        let nice = if self.left.is_zero() { NICE } else { 0 };
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), nice);
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Reads a file. A parser that panics after all costs this file its table and no more.
fn read(file: &File) -> Option<Result<CallFrames, Error>> {
    let at = |offset: u64, bytes: &mut [u8]| file.read_exact_at(bytes, offset).is_ok();
    catch_unwind(AssertUnwindSafe(|| unwind::read(&at))).ok()
}
