//! The loader: a thread that reads call frames, so that a large or slow file delays nothing else.
//!
//! The thread has a low priority, because the profiled programs come first. But until a table is
//! loaded each tick takes a stack snapshot, which costs more than reading: so the thread may work
//! at normal priority for a while, see [`BurstPriority`].
//!
//! A file whose table is in the cache of an earlier run is not read at all. Of a large file without
//! call frames, rows are loaded for the parts that are requested (`loader_derived`).

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::panic::resume_unwind;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread;
use std::time::Duration;

use profile::ExecutableId;
use unwind::{CallFrames, Error, read_with_gaps};

use super::block_readers::BlockReaders;
use super::burst_priority::BurstPriority;
use super::cache::{Cache, CacheCounts, ReadRanges, SharedCacheCounts};
use super::deriver::{Deriver, RowSource, SharedUsage};
use super::guard::guard_panic;
use super::large_files::{LargeFile, LargeFiles};
use super::load_request::{LoadExtent, LoadRequest, LoadResult, LoadedRows, LoadingCanceller};
use super::loader_cpu::LoaderCpu;
use super::row_limits::RowLimits;
use crate::events::cpu_time;
use crate::limits::{Owner, SharedRate};
use crate::processes::ContentId;
use crate::workers::Usage;

/// How long the deriver is kept for more parts of a large file.
const DERIVER_IDLE_MAX: Duration = Duration::from_secs(30);

/// How often files that wait for CPU time are looked at.
const CREDIT_INTERVAL: Duration = Duration::from_millis(100);

/// The running loader.
pub(super) struct Loader {
    requests: Sender<LoadRequest>,
    pub results: crossbeam_channel::Receiver<LoadResult>,
    /// Requests for whole files and for parts of large ones that have not been answered.
    pub pending: usize,
    cache_counts: Option<SharedCacheCounts>,
    cpu_rate: SharedRate,
    deriver_usage: SharedUsage,
    canceller: LoadingCanceller,
}

impl Loader {
    /// Starts the thread. Once this is dropped, it ends after the file in hand. `program`: runs as
    /// the deriver. `source`: of the rows.
    pub fn spawn(
        program: &str,
        cache: Option<Cache>,
        limits: RowLimits,
        source: RowSource,
    ) -> io::Result<Self> {
        let cache_counts = cache.as_ref().map(|cache| cache.counts.clone());
        let (requests, received) = mpsc::channel();
        let (sent, results) = crossbeam_channel::unbounded();
        let cpu_rate = SharedRate::unlimited();
        let deriver = Deriver::new(program, limits.deriving);
        let deriver_usage = deriver.usage();
        let canceller = LoadingCanceller::default();
        let thread = LoaderThread {
            requests: received,
            results: sent,
            files: VecDeque::new(),
            blocks: BlockReaders::new(limits.reading),
            large: LargeFiles::default(),
            cache,
            deriver: Some(deriver),
            interrupted: Duration::ZERO,
            cpu: LoaderCpu::new(cpu_rate.clone()),
            source,
            canceller: canceller.clone(),
        };
        thread::Builder::new().name("loader".into()).spawn(move || thread.run())?;
        Ok(Self { requests, results, pending: 0, cache_counts, cpu_rate, deriver_usage, canceller })
    }

    /// Returns the CPU seconds per second that reading may take; unlimited until it is set.
    pub fn cpu_rate(&self) -> SharedRate {
        self.cpu_rate.clone()
    }

    /// Returns what ends the thread.
    pub fn canceller(&self) -> LoadingCanceller {
        self.canceller.clone()
    }

    /// Returns the counts of the cache so far.
    pub fn cache_counts(&self) -> CacheCounts {
        self.cache_counts.as_ref().map(SharedCacheCounts::get).unwrap_or_default()
    }

    /// Returns what derivers have used so far.
    pub fn deriver_usage(&self) -> Usage {
        self.deriver_usage.get()
    }

    /// Sends a request.
    pub fn request(&mut self, request: LoadRequest) {
        let is_pending = request.extent != LoadExtent::Blocks;
        if self.requests.send(request).is_ok() {
            self.pending += usize::from(is_pending);
        }
    }

    /// Returns the next result; waits for it up to `timeout` if a request is pending.
    pub fn receive(&mut self, timeout: Duration) -> Option<LoadResult> {
        if self.pending == 0 {
            return None;
        }
        let result = self.results.recv_timeout(timeout);
        if result.as_ref().is_err_and(|error| error.is_disconnected()) {
            self.pending = 0; // the thread has ended: nothing more will come
        }
        let result = result.ok()?;
        self.pending -= usize::from(!result.rows.is_ahead());
        Some(result)
    }
}

/// The state of the loader thread.
pub(super) struct LoaderThread {
    requests: Receiver<LoadRequest>,
    results: crossbeam_channel::Sender<LoadResult>,
    /// Files to read as a whole, or parts of.
    pub files: VecDeque<UnreadFile>,
    blocks: BlockReaders,
    pub large: LargeFiles,
    pub cache: Option<Cache>,
    /// `None` while it is in use.
    pub deriver: Option<Deriver>,
    /// CPU time spent on other requests while a file was read as a whole.
    interrupted: Duration,
    cpu: LoaderCpu,
    source: RowSource,
    canceller: LoadingCanceller,
}

/// The payload that ends the thread when the loader is canceled.
struct Canceled;

/// A file to read.
pub(super) struct UnreadFile {
    pub executable: ExecutableId,
    owner: Owner,
    pub file: File,
    pub content: Option<ContentId>,
    pub task: LoadTask,
}

impl UnreadFile {
    fn is_to_derive(&self) -> bool {
        matches!(self.task, LoadTask::Derived)
    }
}

/// What to read of a file.
pub(super) enum LoadTask {
    /// All of it.
    Whole,
    /// Rows for code that has none, once no file waits to be read. Its call frames are published.
    Derived,
    /// These parts of a large file.
    Parts(Vec<u32>),
}

impl LoaderThread {
    fn run(mut self) {
        let mut priority = BurstPriority::new();
        while let Some(file) = self.next_file() {
            priority.adapt();
            let (owner, begin) = (file.owner, self.cpu_time());
            let deriving = match &file.task {
                LoadTask::Whole => self.load(file),
                LoadTask::Derived => self.load_derived(file),
                LoadTask::Parts(parts) => self.load_parts(&file, parts),
            };
            self.cpu.charge(owner, self.cpu_time().saturating_sub(begin) + deriving);
        }
    }

    /// Reads a whole file, and leaves it to [`Self::load_derived`] if code of it has no rows.
    /// Returns the CPU time that deriving rows took in the worker.
    fn load(&mut self, file: UnreadFile) -> Duration {
        let (ranges, begin) = (ReadRanges::default(), self.cpu_time());
        if self.source == RowSource::MachineCode {
            let frames = self.read_derived_only(&file.file, &ranges);
            let rows = LoadedRows::Table { frames, cost: Duration::ZERO };
            self.send(file.executable, rows);
            return Duration::ZERO;
        }
        match self.read_with_gaps(&file.file, &ranges) {
            Some(Ok(frames)) if self.can_derive() && frames.gaps.are_derived_in_parts() => {
                let large = LargeFile::new(frames);
                self.blocks.forget(file.executable);
                self.send(file.executable, LoadedRows::Large(large.layout));
                self.large.put(file.executable, large);
            }
            Some(Ok(frames)) if self.can_derive() && frames.gaps.are_worth_deriving() => {
                self.send_with_pending_gaps(file.executable, frames);
                self.files.push_back(UnreadFile { task: LoadTask::Derived, ..file });
            }
            frames => self.end_file(file, frames, ranges, begin),
        }
        Duration::ZERO
    }

    /// Publishes the table of a file, and stores it in the cache. `ranges`: what was read of it,
    /// since `begin`.
    pub fn end_file(
        &mut self,
        file: UnreadFile,
        mut frames: Option<Result<CallFrames, Error>>,
        ranges: ReadRanges,
        begin: Duration,
    ) {
        if matches!(&frames, Some(Ok(f)) if f.table.rows == 0 && f.omissions.total() == 0) {
            frames = Some(Err(Error::NoCallFrames));
        }
        let cached = file.content.zip(self.serialize_for_cache(&frames));
        let cost = self.cpu_time().saturating_sub(begin);
        self.blocks.forget(file.executable);
        self.send(file.executable, LoadedRows::Table { frames, cost });
        self.store_in_cache(cached, ranges, &file.file);
    }

    /// Reads the call frames of a file; `None` when the parser panicked.
    pub fn read_with_gaps(
        &mut self,
        file: &File,
        ranges: &ReadRanges,
    ) -> Option<Result<CallFrames, Error>> {
        guard_panic(file, ranges, |at| read_with_gaps(at, &mut || self.serve_requests()))
    }

    /// Waits for the next file to read as a whole, and for CPU time for it; `None` when no request
    /// can come any more. A file whose owner has used up its CPU time does not hold up others.
    fn next_file(&mut self) -> Option<UnreadFile> {
        loop {
            self.serve_requests();
            let Self { files, cpu, .. } = self;
            let mut find = |is_to_derive: bool| {
                let is_next = |file: &UnreadFile| file.is_to_derive() == is_to_derive;
                files.iter().position(|file| is_next(file) && cpu.has_credit(file.owner))
            };
            if let Some(next) = find(false).or_else(|| find(true)) {
                return files.remove(next);
            }
            let is_deriver_idle =
                files.is_empty() && self.deriver.as_ref().is_some_and(Deriver::is_running);
            let request = match files.is_empty() {
                true if is_deriver_idle => self.requests.recv_timeout(DERIVER_IDLE_MAX),
                true => self.requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => self.requests.recv_timeout(CREDIT_INTERVAL),
            };
            match request {
                Ok(request) => self.accept(request),
                Err(RecvTimeoutError::Timeout) if is_deriver_idle => {
                    self.deriver.iter_mut().for_each(Deriver::stop);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Serves the requests that have arrived meanwhile. Once no more can come, the files that wait
    /// are not needed.
    pub fn serve_requests(&mut self) {
        self.end_if_canceled();
        loop {
            match self.requests.try_recv() {
                Ok(request) => {
                    let begin = cpu_time();
                    self.accept(request);
                    self.interrupted += cpu_time().saturating_sub(begin);
                }
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => return self.files.clear(),
            }
        }
    }

    /// Leads out of the parser, and then out of the thread, when its result is not needed.
    fn end_if_canceled(&self) {
        if self.canceller.is_canceled() {
            resume_unwind(Box::new(Canceled));
        }
    }

    /// Returns the CPU time of this thread without that of interrupting requests.
    pub fn cpu_time(&self) -> Duration {
        cpu_time().saturating_sub(self.interrupted)
    }

    fn accept(&mut self, request: LoadRequest) {
        let LoadRequest { executable, owner, file, content, blocks, extent } = request;
        if extent == LoadExtent::Parts {
            let task = LoadTask::Parts(blocks);
            return self.files.push_back(UnreadFile { executable, owner, file, content, task });
        }
        let (begin, is_new) = (cpu_time(), extent == LoadExtent::Whole);
        let cached =
            content.filter(|_| is_new).and_then(|content| self.load_from_cache(&content, &file));
        if let Some(frames) = cached {
            let cost = cpu_time().saturating_sub(begin);
            let rows = LoadedRows::Table { frames: Some(Ok(frames)), cost };
            return self.send(executable, rows);
        }
        let is_ahead = self.source == RowSource::All && !blocks.is_empty();
        if is_ahead && self.cpu.has_credit(owner) {
            let read = self.blocks.read(executable, &file, &blocks);
            read.into_iter().for_each(|rows| self.send(executable, rows));
        }
        if is_new {
            let task = LoadTask::Whole;
            self.files.push_back(UnreadFile { executable, owner, file, content, task });
        }
        self.cpu.charge(owner, cpu_time().saturating_sub(begin));
    }

    pub fn send(&self, executable: ExecutableId, rows: LoadedRows) {
        self.end_if_canceled();
        let _ = self.results.send(LoadResult { executable, rows }); // the session may have ended
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const HOG: Owner = Owner::User(1000);

    fn file(executable: u32, owner: Owner) -> UnreadFile {
        let file = File::open("/dev/null").expect("it exists");
        let executable = ExecutableId(executable);
        UnreadFile { executable, owner, file, content: None, task: LoadTask::Whole }
    }

    #[test]
    fn file_whose_owner_has_no_cpu_time_does_not_hold_up_others() {
        let (sender, requests) = mpsc::channel();
        let rate = SharedRate::unlimited();
        let mut loader = LoaderThread {
            requests,
            results: crossbeam_channel::unbounded().0,
            files: VecDeque::from([file(1, HOG), file(2, Owner::SYSTEM), file(3, HOG)]),
            blocks: BlockReaders::new(0),
            large: LargeFiles::default(),
            cache: None,
            deriver: None,
            interrupted: Duration::ZERO,
            cpu: LoaderCpu::new(rate.clone()),
            source: RowSource::All,
            canceller: LoadingCanceller::default(),
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

    #[test]
    fn canceled_loader_sends_no_table() {
        let limits = RowLimits { slabs: 0, reading: 0, deriving: 0 };
        let mut loader = Loader::spawn("", None, limits, RowSource::All).expect("it starts");
        let file = File::open("/proc/self/exe").expect("it exists");
        loader.canceller().cancel();
        loader.request(LoadRequest {
            executable: ExecutableId(1),
            owner: Owner::SYSTEM,
            file,
            content: None,
            blocks: Vec::new(),
            extent: LoadExtent::Whole,
        });
        assert!(loader.results.recv().is_err(), "the thread has ended without a result");
    }
}
