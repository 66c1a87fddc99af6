//! Reads call frames on a thread of its own: a large or slow file delays nobody else.
//!
//! What is profiled comes first, so the thread has a low priority. But until a table is there each tick takes its
//! stack along, which costs more than reading; so it may work for a while like everybody else.
//!
//! A file whose table an earlier run has kept is not read at all.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use profile::ExecutableId;
use unwind::{Block, BlockReader, CallFrames, Error, ReadAt};

use super::cache::{Cache, CacheCounts, Counts, Kept, Notes};
use crate::events::cpu_time;
use crate::processes::ContentId;

/// Niceness of the thread when it has worked for long.
const NICE: i32 = 10;
/// CPU time for which it may work as others do...
const BURST_MAX: Duration = Duration::from_millis(500);
/// ...of which it gets back one part in so many of the time that passes.
const REFILL_PART: u32 = 5;

/// What came of a request.
pub(super) struct Loaded {
    pub executable: ExecutableId,
    pub what: What,
}

/// How much of a file was read.
pub(super) enum What {
    /// Blocks that are needed first, by their numbers, of a table whose text begins there.
    Blocks(u64, Vec<(u32, Block)>),
    /// All of its call frames, `None` when there was no reading it; and the CPU time that it took.
    Whole(Option<Result<CallFrames, Error>>, Duration),
}

/// Blocks of a file that are needed now; a file that is heard of for the first time is then read as a whole, too.
pub(super) struct Wanted {
    pub executable: ExecutableId,
    pub file: File,
    /// What it held when it was opened: what the cache knows it by.
    pub content: Option<ContentId>,
    pub blocks: Vec<u32>,
    pub is_new: bool,
}

/// The running thread.
pub(super) struct Loader {
    wanted: Sender<Wanted>,
    loaded: Receiver<Loaded>,
    /// Files on their way.
    pub waiting: usize,
    cached: Option<Counts>,
}

impl Loader {
    /// Starts the thread. It ends when this is dropped and what it reads is read. `open_bytes_max`: of files of which blocks were
    /// asked for.
    pub fn spawn(cache: Option<Cache>, open_bytes_max: usize) -> io::Result<Self> {
        let cached = cache.as_ref().map(|cache| cache.counts.clone());
        let (wanted, requests) = mpsc::channel();
        let (results, loaded) = mpsc::channel();
        thread::Builder::new().name("tables".into()).spawn(move || {
            let (files, open) = (VecDeque::new(), Vec::new());
            let aside = Duration::ZERO;
            let mut work = Work { requests, results, files, open, open_bytes_max, cache, aside };
            let mut priority = Priority::new();
            while let Some(Unread { executable, file, content }) = work.next() {
                priority.adapt();
                let (notes, begin) = (Notes::default(), work.time());
                let frames = read(&file, &notes, &mut || work.serve());
                work.open.retain(|(open, _)| *open != executable);
                let kept = content.zip(work.worth_keeping(&frames));
                work.give(executable, What::Whole(frames, work.time().saturating_sub(begin)));
                work.keep(kept, notes, &file);
            }
        })?;
        Ok(Self { wanted, loaded, waiting: 0, cached })
    }

    /// What came of the cache so far.
    pub fn cached(&self) -> CacheCounts {
        self.cached.as_ref().map(Counts::get).unwrap_or_default()
    }

    /// Asks for it.
    pub fn request(&mut self, wanted: Wanted) {
        let is_new = wanted.is_new;
        if self.wanted.send(wanted).is_ok() {
            self.waiting += usize::from(is_new);
        }
    }

    /// Gives what is ready; waits so long for the first, if there is something to wait for.
    pub fn take(&mut self, patience: Duration) -> Option<Loaded> {
        if self.waiting == 0 {
            return None;
        }
        let loaded = self.loaded.recv_timeout(patience).ok()?;
        self.waiting -= usize::from(matches!(loaded.what, What::Whole(..)));
        Some(loaded)
    }
}

/// What the thread has before it.
struct Work {
    requests: Receiver<Wanted>,
    results: Sender<Loaded>,
    /// Files to be read as a whole.
    files: VecDeque<Unread>,
    /// Those of which blocks were asked for, the last one last; `None`: they have to be read as a whole.
    open: Vec<(ExecutableId, Option<BlockReader>)>,
    /// Bytes that may be held of them.
    open_bytes_max: usize,
    cache: Option<Cache>,
    /// CPU time that went to others while a file was read as a whole.
    aside: Duration,
}

/// A file to be read as a whole.
struct Unread {
    executable: ExecutableId,
    file: File,
    content: Option<ContentId>,
}

impl Work {
    /// Backoffs for the next file to be read as a whole; `None` when nobody asks any more.
    fn next(&mut self) -> Option<Unread> {
        while self.files.is_empty() {
            let wanted = self.requests.recv().ok()?;
            self.take(wanted);
        }
        self.serve();
        self.files.pop_front()
    }

    /// Reads what has been asked for meanwhile.
    fn serve(&mut self) {
        while let Ok(wanted) = self.requests.try_recv() {
            let begin = cpu_time();
            self.take(wanted);
            self.aside += cpu_time().saturating_sub(begin);
        }
    }

    /// CPU time of this thread so far that did not go to others.
    fn time(&self) -> Duration {
        cpu_time().saturating_sub(self.aside)
    }

    fn take(&mut self, Wanted { executable, file, content, blocks, is_new }: Wanted) {
        let begin = cpu_time();
        let cached = content.filter(|_| is_new).and_then(|content| self.cached(&content, &file));
        if let Some(frames) = cached {
            let cost = cpu_time().saturating_sub(begin);
            return self.give(executable, What::Whole(Some(Ok(frames)), cost));
        }
        if !blocks.is_empty() {
            self.read_blocks(executable, &file, &blocks);
        }
        if is_new {
            self.files.push_back(Unread { executable, file, content });
        }
    }

    /// Gives what an earlier run has kept of a file.
    fn cached(&self, content: &ContentId, file: &File) -> Option<CallFrames> {
        let cache = self.cache.as_ref().filter(|_| content.is_in(file))?;
        cache.take(&content.hash, file)
    }

    /// Gives the bytes to keep for later runs.
    fn worth_keeping(&self, frames: &Option<Result<CallFrames, Error>>) -> Option<Vec<u8>> {
        let Some(Ok(frames)) = frames else { return None };
        (self.cache.is_some() && Cache::is_worth(frames)).then(|| frames.to_bytes())
    }

    /// Writes them to the cache, if the file held all the time what they are kept for.
    fn keep(&mut self, kept: Option<(ContentId, Vec<u8>)>, notes: Notes, file: &File) {
        let (Some(cache), Some((content, frames))) = (&mut self.cache, kept) else { return };
        let Ok(evidence) = notes.hash(file) else { return }; // it is read in too many places
        if content.is_in(file) {
            cache.keep(&content.hash, &Kept { evidence: evidence.to_bytes(), frames });
        }
    }

    /// Reads blocks of a file's table, if they are to be had alone. Here, too, a panic costs no more than this file.
    fn read_blocks(&mut self, executable: ExecutableId, file: &File, blocks: &[u32]) {
        let reader = match self.open.iter().position(|(open, _)| *open == executable) {
            Some(at) => self.open.remove(at).1,
            None => guarded(file, &Notes::default(), |at| BlockReader::open(at)).flatten(),
        };
        if let Some(reader) = &reader {
            let read = || {
                blocks.iter().filter_map(|block| Some((*block, reader.block(*block)?))).collect()
            };
            let found = catch_unwind(AssertUnwindSafe(read)).unwrap_or_default();
            self.give(executable, What::Blocks(reader.start(), found));
        }
        self.open.push((executable, reader));
        while self.open_bytes() > self.open_bytes_max {
            self.open.remove(0);
        }
    }

    fn open_bytes(&self) -> usize {
        self.open.iter().filter_map(|(_, reader)| reader.as_ref()).map(BlockReader::bytes).sum()
    }

    fn give(&self, executable: ExecutableId, what: What) {
        let _ = self.results.send(Loaded { executable, what }); // nobody waits any more
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

/// Reads a file; notes where.
fn read(
    file: &File,
    notes: &Notes,
    between: &mut dyn FnMut(),
) -> Option<Result<CallFrames, Error>> {
    guarded(file, notes, |at| unwind::read_with_progress(at, between))
}

/// Has a parser read a file. One that panics after all costs this file its table and no more.
fn guarded<T>(file: &File, notes: &Notes, parse: impl FnOnce(ReadAt<'_>) -> T) -> Option<T> {
    let at = |offset: u64, bytes: &mut [u8]| {
        notes.add(offset, bytes.len());
        file.read_exact_at(bytes, offset).is_ok()
    };
    catch_unwind(AssertUnwindSafe(|| parse(&at))).ok()
}
