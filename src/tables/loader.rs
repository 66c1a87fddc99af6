//! The loader: a thread that reads call frames, so that a large or slow file delays nothing else.
//!
//! The thread has a low priority, because the profiled programs come first. But until a table is
//! loaded each tick takes a stack snapshot, which costs more than reading: so the thread may work
//! at normal priority for a while, see [`BurstPriority`].
//!
//! A file whose table is in the cache of an earlier run is not read at all.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use profile::ExecutableId;
use unwind::{Block, BlockReader, CallFrames, Error, ReadAt};

use super::cache::{Cache, CacheCounts, ReadRanges, SerializedTable, SharedCacheCounts};
use super::loader_cpu::LoaderCpu;
use crate::events::cpu_time;
use crate::limits::{Owner, SharedRate};
use crate::processes::ContentId;

/// Niceness of the thread after it has used up its burst.
const NICE: i32 = 10;
/// CPU time that the thread may use at normal priority in one burst.
const BURST_MAX: Duration = Duration::from_millis(500);
/// The thread regains CPU time at normal priority as time passes: elapsed time divided by this.
const REFILL_DIVISOR: u32 = 5;

/// How often files that wait for CPU time are looked at.
const CREDIT_INTERVAL: Duration = Duration::from_millis(100);

/// Requests blocks of a file, and the whole file when it is new.
pub(super) struct LoadRequest {
    pub executable: ExecutableId,
    /// Who pays for the CPU time.
    pub owner: Owner,
    pub file: File,
    /// Content of the file when it was opened: its key in the cache.
    pub content: Option<ContentId>,
    /// Blocks that are needed first.
    pub blocks: Vec<u32>,
    /// Read the whole file, too, once the blocks are done.
    pub is_new: bool,
}

/// The answer to a request.
pub(super) struct LoadResult {
    pub executable: ExecutableId,
    pub rows: LoadedRows,
}

/// The rows that were read.
pub(super) enum LoadedRows {
    /// Requested blocks by number, of a table whose text begins at this address.
    Blocks { text_start: u64, blocks: Vec<(u32, Block)> },
    /// All call frames, `None` when the parser panicked; and the CPU time that reading took.
    Table { frames: Option<Result<CallFrames, Error>>, cost: Duration },
}

/// The running loader.
pub(super) struct Loader {
    requests: Sender<LoadRequest>,
    results: Receiver<LoadResult>,
    /// Files requested as a whole whose table has not arrived.
    pub files_pending: usize,
    cache_counts: Option<SharedCacheCounts>,
    cpu_rate: SharedRate,
}

impl Loader {
    /// Starts the thread. It ends after the file in hand once this is dropped. `open_bytes_max`:
    /// memory for files of which blocks were requested.
    pub fn spawn(cache: Option<Cache>, open_bytes_max: usize) -> io::Result<Self> {
        let cache_counts = cache.as_ref().map(|cache| cache.counts.clone());
        let (requests, received) = mpsc::channel();
        let (sent, results) = mpsc::channel();
        let cpu_rate = SharedRate::unlimited();
        let thread = LoaderThread {
            requests: received,
            results: sent,
            files: VecDeque::new(),
            open: Vec::new(),
            open_bytes_max,
            cache,
            interrupted: Duration::ZERO,
            cpu: LoaderCpu::new(cpu_rate.clone()),
        };
        thread::Builder::new().name("loader".into()).spawn(move || thread.run())?;
        Ok(Self { requests, results, files_pending: 0, cache_counts, cpu_rate })
    }

    /// Returns the CPU seconds per second that reading may take; unlimited until it is set.
    pub fn cpu_rate(&self) -> SharedRate {
        self.cpu_rate.clone()
    }

    /// Returns the counts of the cache so far.
    pub fn cache_counts(&self) -> CacheCounts {
        self.cache_counts.as_ref().map(SharedCacheCounts::get).unwrap_or_default()
    }

    /// Sends a request.
    pub fn request(&mut self, request: LoadRequest) {
        let is_new = request.is_new;
        if self.requests.send(request).is_ok() {
            self.files_pending += usize::from(is_new);
        }
    }

    /// Returns the next result; waits for it up to `timeout` if a file is pending.
    pub fn receive(&mut self, timeout: Duration) -> Option<LoadResult> {
        if self.files_pending == 0 {
            return None;
        }
        let result = self.results.recv_timeout(timeout).ok()?;
        self.files_pending -= usize::from(matches!(result.rows, LoadedRows::Table { .. }));
        Some(result)
    }
}

/// The state of the loader thread.
struct LoaderThread {
    requests: Receiver<LoadRequest>,
    results: Sender<LoadResult>,
    /// Files to read as a whole.
    files: VecDeque<UnreadFile>,
    /// Files of which blocks were requested, the last one last; `None`: blocks of it cannot be
    /// read alone.
    open: Vec<(ExecutableId, Option<BlockReader>)>,
    open_bytes_max: usize,
    cache: Option<Cache>,
    /// CPU time spent on other requests while a file was read as a whole.
    interrupted: Duration,
    cpu: LoaderCpu,
}

/// A file to read as a whole.
struct UnreadFile {
    executable: ExecutableId,
    owner: Owner,
    file: File,
    content: Option<ContentId>,
}

impl LoaderThread {
    fn run(mut self) {
        let mut priority = BurstPriority::new();
        while let Some(UnreadFile { executable, owner, file, content }) = self.next_file() {
            priority.adapt();
            let (ranges, begin) = (ReadRanges::default(), self.cpu_time());
            let frames = guard_panic(&file, &ranges, |at| {
                unwind::read_with_progress(at, &mut || self.serve_requests())
            });
            self.open.retain(|(open, _)| *open != executable);
            let cached = content.zip(self.serialize_for_cache(&frames));
            let cost = self.cpu_time().saturating_sub(begin);
            self.send(executable, LoadedRows::Table { frames, cost });
            self.store_in_cache(cached, ranges, &file);
            self.cpu.charge(owner, self.cpu_time().saturating_sub(begin));
        }
    }

    /// Waits for the next file to read as a whole, and for CPU time for it; `None` when no request
    /// can come any more. A file whose owner has used up its CPU time does not hold up others.
    fn next_file(&mut self) -> Option<UnreadFile> {
        loop {
            self.serve_requests();
            let Self { files, cpu, .. } = self;
            if let Some(next) = files.iter().position(|file| cpu.has_credit(file.owner)) {
                return files.remove(next);
            }
            let request = match files.is_empty() {
                true => self.requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => self.requests.recv_timeout(CREDIT_INTERVAL),
            };
            match request {
                Ok(request) => self.accept(request),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Serves the requests that have arrived meanwhile.
    fn serve_requests(&mut self) {
        while let Ok(request) = self.requests.try_recv() {
            let begin = cpu_time();
            self.accept(request);
            self.interrupted += cpu_time().saturating_sub(begin);
        }
    }

    /// Returns the CPU time of this thread without that of interrupting requests.
    fn cpu_time(&self) -> Duration {
        cpu_time().saturating_sub(self.interrupted)
    }

    fn accept(&mut self, request: LoadRequest) {
        let LoadRequest { executable, owner, file, content, blocks, is_new } = request;
        let begin = cpu_time();
        let cached =
            content.filter(|_| is_new).and_then(|content| self.load_from_cache(&content, &file));
        if let Some(frames) = cached {
            let cost = cpu_time().saturating_sub(begin);
            let rows = LoadedRows::Table { frames: Some(Ok(frames)), cost };
            return self.send(executable, rows);
        }
        if !blocks.is_empty() && self.cpu.has_credit(owner) {
            self.read_blocks(executable, &file, &blocks);
        }
        if is_new {
            self.files.push_back(UnreadFile { executable, owner, file, content });
        }
        self.cpu.charge(owner, cpu_time().saturating_sub(begin));
    }

    fn load_from_cache(&self, content: &ContentId, file: &File) -> Option<CallFrames> {
        let cache = self.cache.as_ref().filter(|_| content.matches(file))?;
        cache.load(&content.hash, file)
    }

    /// Serializes call frames that are worth storing.
    fn serialize_for_cache(&self, frames: &Option<Result<CallFrames, Error>>) -> Option<Vec<u8>> {
        let Some(Ok(frames)) = frames else { return None };
        (self.cache.is_some() && Cache::is_worthwhile(frames)).then(|| frames.to_bytes())
    }

    /// Stores call frames in the cache if the file had the same content all the time.
    fn store_in_cache(
        &mut self,
        cached: Option<(ContentId, Vec<u8>)>,
        ranges: ReadRanges,
        file: &File,
    ) {
        let (Some(cache), Some((content, frames))) = (&mut self.cache, cached) else { return };
        let Ok(evidence) = ranges.hash(file) else { return }; // too many ranges, or unreadable
        if content.matches(file) {
            let evidence = evidence.to_bytes();
            cache.store(&content.hash, &SerializedTable { evidence, frames });
        }
    }

    /// Reads blocks of a file's table, if blocks can be read alone. A panic here, too, costs only
    /// this file.
    fn read_blocks(&mut self, executable: ExecutableId, file: &File, blocks: &[u32]) {
        let reader = match self.open.iter().position(|(open, _)| *open == executable) {
            Some(index) => self.open.remove(index).1,
            None => guard_panic(file, &ReadRanges::default(), |at| BlockReader::open(at)).flatten(),
        };
        if let Some(reader) = &reader {
            let read = || {
                blocks.iter().filter_map(|block| Some((*block, reader.block(*block)?))).collect()
            };
            let blocks = catch_unwind(AssertUnwindSafe(read)).unwrap_or_default();
            self.send(executable, LoadedRows::Blocks { text_start: reader.start(), blocks });
        }
        self.open.push((executable, reader));
        while self.open_bytes() > self.open_bytes_max {
            self.open.remove(0);
        }
    }

    fn open_bytes(&self) -> usize {
        self.open.iter().filter_map(|(_, reader)| reader.as_ref()).map(BlockReader::bytes).sum()
    }

    fn send(&self, executable: ExecutableId, rows: LoadedRows) {
        let _ = self.results.send(LoadResult { executable, rows }); // the session may have ended
    }
}

/// The priority of the loader thread: normal for short bursts of CPU time, low beyond them.
struct BurstPriority {
    /// CPU time left at normal priority.
    left: Duration,
    /// When `left` was last computed, and the CPU time used by then.
    measured: (Instant, Duration),
}

impl BurstPriority {
    fn new() -> Self {
        Self { left: BURST_MAX, measured: (Instant::now(), cpu_time()) }
    }

    /// Sets the priority that the recent work allows. Where it cannot be raised again it stays
    /// low.
    fn adapt(&mut self) {
        let now = (Instant::now(), cpu_time());
        let (before, used) = std::mem::replace(&mut self.measured, now);
        let refill = (now.0 - before) / REFILL_DIVISOR;
        self.left = (self.left + refill).saturating_sub(now.1 - used).min(BURST_MAX);
        let nice = if self.left.is_zero() { NICE } else { 0 };
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), nice);
    }
}

/// Has a parser read a file, and records which ranges it reads. A panic costs this file its table
/// and nothing else.
fn guard_panic<T>(
    file: &File,
    ranges: &ReadRanges,
    parse: impl FnOnce(ReadAt<'_>) -> T,
) -> Option<T> {
    let at = |offset: u64, bytes: &mut [u8]| {
        ranges.add(offset, bytes.len());
        file.read_exact_at(bytes, offset).is_ok()
    };
    catch_unwind(AssertUnwindSafe(|| parse(&at))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOG: Owner = Owner::User(1000);

    fn file(executable: u32, owner: Owner) -> UnreadFile {
        let file = File::open("/dev/null").expect("it exists");
        UnreadFile { executable: ExecutableId(executable), owner, file, content: None }
    }

    #[test]
    fn file_whose_owner_has_no_cpu_time_does_not_hold_up_others() {
        let (sender, requests) = mpsc::channel();
        let rate = SharedRate::unlimited();
        let mut loader = LoaderThread {
            requests,
            results: mpsc::channel().0,
            files: VecDeque::from([file(1, HOG), file(2, Owner::SYSTEM), file(3, HOG)]),
            open: Vec::new(),
            open_bytes_max: 0,
            cache: None,
            interrupted: Duration::ZERO,
            cpu: LoaderCpu::new(rate.clone()),
        };
        rate.set(0.02);
        assert!(loader.cpu.has_credit(HOG));
        loader.cpu.charge(HOG, Duration::from_millis(1200 + 110)); // the start's, and more
        let next = loader.next_file().expect("a file whose owner has time");
        assert_eq!(next.executable, ExecutableId(2));
        let begin = Instant::now();
        let next = loader.next_file().expect("the next one, once its owner has time again");
        assert_eq!(next.executable, ExecutableId(1));
        assert!(begin.elapsed() >= Duration::from_millis(500), "{:?}", begin.elapsed());
        drop(sender);
    }
}
