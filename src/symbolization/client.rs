//! The agent's side of the symbolizer: sends the addresses of one file, waits for its symbols.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use profile::{ExecutableId, FileAddr};
use symbolizer::proto::{FileRole, Request, Response, Symbol};
use symbolizer::{KERNEL_SYMBOLS, KernelAccess, OwnMemory, Worker};

use super::file_key::FileKey;
use super::limits::FileLimits;
use crate::debuginfod::Downloads;
use crate::kernel::map_file;
use crate::limits::Owner;
use crate::processes::{Executable, ExecutableOrigin};
use crate::procfs;
use crate::workers::{
    self, CallError, CallLimits, Confinement, Exit, Limit, Supervisor, Timeout, Usage,
};

/// How long one request may take, whatever its CPU time: a file system may not answer.
const REQUEST_MAX: Duration = Duration::from_secs(60);
/// Windows shorter than this are short for the start of a worker.
const SHORT_WINDOW: Duration = Duration::from_secs(5);
/// Most bytes of names in one answer.
const NAMES_MAX: usize = 32 << 20;

/// Runs the worker: answers requests on this socket until the agent closes it. `memory_max`: bytes
/// of its own that the worker may have.
///
/// # Errors
/// When the socket breaks or a request is malformed.
pub fn serve(socket: BorrowedFd<'_>, memory_max: u64) -> io::Result<()> {
    let own_memory = || {
        let status = procfs::own_status();
        OwnMemory { resident_kib: status.rss_kib, data_kib: status.data_kib }
    };
    let mut worker = Worker::new(memory_max, own_memory, map_file);
    workers::serve(socket, Confinement::Descriptors, |request: Request, files| {
        (worker.answer(&request, files), Vec::new())
    })
}

/// Bounds the requests of one window together.
#[derive(Clone, Debug)]
pub struct TimeLimit {
    /// No request begins after this time.
    pub begin_until: Instant,
    /// No request is waited for after this time. Its answer serves the next window.
    pub wait_until: Instant,
    /// Once true, the current request ends as well.
    pub cancel: Arc<AtomicBool>,
}

impl TimeLimit {
    /// Returns the limit for windows of this length: 9/10 of it. In windows of a few seconds it is
    /// twice as much, because the start of the worker may take as long as they are; one window can
    /// wait meanwhile, so that none is extended.
    pub fn within(length: Duration, cancel: Arc<AtomicBool>) -> Self {
        let now = Instant::now();
        let length = if length < SHORT_WINDOW { length * 2 } else { length };
        Self { begin_until: now + length / 2, wait_until: now + length * 9 / 10, cancel }
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}

/// Why the addresses of a file have no symbols.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SymbolizeError {
    /// The parser does not understand the file, or its sections are too large.
    #[error("{0}")]
    Unreadable(String),
    /// Files are not symbolized, see [`super::SymbolizeMode`].
    #[error("files are not symbolized")]
    NotWanted,
    /// The file is not open.
    #[error("the file could not be opened in time")]
    NotOpen,
    /// The file was written after it was mapped: its names would be those of other code.
    #[error("the file was overwritten after it was mapped")]
    Changed,
    /// The kernel hides its symbols.
    #[error("{0}")]
    KernelHidden(String),
    /// The worker died while it read the file.
    #[error("the symbolizer died while reading it")]
    Died,
    /// The file took too much CPU time, or a file system did not answer.
    #[error("reading it took too much time")]
    TooSlow,
    /// The file took too much memory.
    #[error("reading it took too much memory")]
    OutOfMemory,
    /// The CPU time that names may take is spent; the next windows try again.
    #[error("the CPU time for names was spent")]
    ShareSpent,
    /// Other files of the window have taken all the time there was.
    #[error("the time to symbolize a window was over")]
    NoTime,
    /// No worker could be started.
    #[error("cannot start a symbolizer: {0}")]
    NotStarted(String),
}

impl SymbolizeError {
    /// Returns whether the file may be read in another way, in more time or without debug info.
    pub(super) fn has_another_way(&self) -> bool {
        matches!(self, Self::TooSlow | Self::OutOfMemory | Self::Died)
    }
}

/// A request for the symbols of one executable.
#[derive(Clone, Debug)]
pub(super) struct SymbolRequest {
    pub id: ExecutableId,
    /// Held until the answer is there, and its file with it.
    pub executable: Arc<Executable>,
    pub file: FileKey,
    pub owner: Owner,
    /// Samples with their leaf in the executable.
    pub samples: u64,
    pub addresses: Vec<FileAddr>,
    /// Use symbol tables alone.
    pub symbols_only: bool,
    /// What the request may take; `None` for the kernel.
    pub limits: Option<FileLimits>,
    /// Bytes that the names may take.
    pub names_max: usize,
}

impl SymbolRequest {
    pub fn is_kernel(&self) -> bool {
        matches!(self.executable.origin, ExecutableOrigin::Kernel)
    }

    /// Opens what the worker needs besides the executable's own files: the kernel's list, or debug
    /// info that was downloaded because there is none.
    fn open_others(&self, downloads: Option<&Downloads>) -> Vec<(FileRole, File)> {
        if self.is_kernel() {
            let list = File::open(KERNEL_SYMBOLS).ok();
            return list.map(|list| (FileRole::Own, list)).into_iter().collect();
        }
        let is_there = self.executable.debug_files.iter().any(|(role, _)| role == FileRole::Debug);
        match (downloads, &self.executable.build_id) {
            (Some(downloads), Some(build_id)) if !is_there => downloads.find(build_id),
            _ => Vec::new(),
        }
    }

    /// Returns the executable's own files.
    fn own_files(&self) -> impl Iterator<Item = (FileRole, &File)> {
        let own = self.executable.file().map(|file| (FileRole::Own, file));
        own.into_iter().chain(self.executable.debug_files.iter())
    }
}

/// Returns why the kernel's functions have no names: the cause on this machine, which the worker
/// cannot see.
fn kernel_error(error: String) -> SymbolizeError {
    SymbolizeError::KernelHidden(match KernelAccess::probe() {
        KernelAccess::Available => error,
        hidden => hidden.to_string(),
    })
}

/// An answer to a request.
#[derive(Debug)]
pub(super) struct SymbolAnswer {
    pub request: SymbolRequest,
    /// The symbols of the first addresses: of all unless the names are full.
    pub result: Result<Vec<Symbol>, SymbolizeError>,
    /// Names that were cut.
    pub cut: u64,
    /// The debug info of the file was not read.
    pub lacks_debug_info: bool,
    /// There is no debug info on this machine.
    pub no_debug_info: bool,
    /// CPU time of the worker.
    pub cpu: Duration,
}

/// A request that was not answered in the window in which it was sent.
struct Pending {
    request: SymbolRequest,
    sent: Instant,
    /// Usage of all workers before.
    before: Usage,
}

/// Asks the symbolizer, a worker process.
pub(super) struct SymbolizerClient {
    supervisor: Supervisor,
    pending: Option<Pending>,
    /// Files that the worker is to close with the next request.
    forget: Vec<u64>,
    limit: Option<TimeLimit>,
    /// Debug info from servers.
    downloads: Option<Arc<Downloads>>,
}

impl SymbolizerClient {
    /// `program` with `arguments` is to run [`serve`]. It is started on first use.
    pub fn new(program: &str, arguments: impl IntoIterator<Item = String>) -> Self {
        let supervisor = Supervisor::new(program, arguments);
        Self { supervisor, pending: None, forget: Vec::new(), limit: None, downloads: None }
    }

    /// Uses debug info from servers, too.
    pub fn set_downloads(&mut self, downloads: Option<Arc<Downloads>>) {
        self.downloads = downloads;
    }

    /// Returns the executable of the request that is pending.
    pub fn pending(&self) -> Option<ExecutableId> {
        self.pending.as_ref().map(|pending| pending.request.id)
    }

    /// Bounds all requests from now on together.
    pub fn set_limit(&mut self, limit: Option<TimeLimit>) {
        self.limit = limit;
    }

    /// Waits for the answer to the request that is pending, if there is one.
    ///
    /// # Errors
    /// [`SymbolizeError::NoTime`] when it is still pending.
    pub fn take_pending(&mut self) -> Result<Option<SymbolAnswer>, SymbolizeError> {
        let Some(pending) = self.pending.take() else { return Ok(None) };
        self.wait(pending).map(Some)
    }

    /// Sends a request and waits for its answer. No other may be pending.
    ///
    /// # Errors
    /// [`SymbolizeError::NoTime`] when it was not sent, or is pending now.
    pub fn call(&mut self, request: SymbolRequest) -> Result<SymbolAnswer, SymbolizeError> {
        let limit = self.limit.clone();
        if limit.is_some_and(|limit| limit.begin_until <= Instant::now() || limit.is_cancelled()) {
            return Err(SymbolizeError::NoTime);
        }
        let before = self.supervisor.usage();
        let others = request.open_others(self.downloads.as_deref());
        let files = request.own_files().chain(others.iter().map(|(role, file)| (*role, file)));
        let (roles, files): (Vec<i32>, Vec<BorrowedFd<'_>>) =
            files.map(|(role, file)| (i32::from(role), file.as_fd())).unzip();
        let message = self.message(&request, roles);
        let cancel = self.limit.as_ref().map(|limit| Arc::clone(&limit.cancel));
        let is_cancelled = || cancel.as_ref().is_some_and(|cancel| cancel.load(Ordering::Relaxed));
        let sent = self.supervisor.send(&message, &files, &is_cancelled);
        let pending = Pending { request, sent: Instant::now(), before };
        match sent {
            Ok(()) => self.wait(pending),
            Err(CallError::Cancelled) => Err(SymbolizeError::NoTime),
            Err(error) => Ok(self.answer(pending, Err(error))),
        }
    }

    fn message(&mut self, request: &SymbolRequest, files: Vec<i32>) -> Request {
        let build_id = request.executable.build_id.as_ref();
        let limits = request.limits;
        Request {
            is_kernel: request.is_kernel(),
            addresses: request.addresses.iter().map(|address| address.0).collect(),
            symbols_only: request.symbols_only,
            file: request.id.0.into(),
            forget: std::mem::take(&mut self.forget),
            build_id: build_id.map(|id| id.as_bytes().to_vec()).unwrap_or_default(),
            // The kernel ends what this process does not, a second later.
            cpu_seconds_max: limits.map_or(0, |limits| limits.cpu.as_secs() as u32 + 1),
            memory_max: limits.map_or(0, |limits| limits.memory),
            names_max: request.names_max.clamp(1, NAMES_MAX) as u64,
            files,
        }
    }

    fn wait(&mut self, pending: Pending) -> Result<SymbolAnswer, SymbolizeError> {
        let request_end = pending.sent + REQUEST_MAX;
        let end = self.limit.as_ref().map_or(request_end, |limit| limit.wait_until);
        let after = end.min(request_end).saturating_duration_since(Instant::now());
        let limit = self.limit.as_ref();
        let is_cancelled = || limit.is_some_and(TimeLimit::is_cancelled);
        let timeout = Timeout { after, is_cancelled: &is_cancelled };
        let limits = pending.request.limits;
        let limits = limits.map(|FileLimits { cpu, memory, .. }| CallLimits { cpu, memory });
        match self.supervisor.receive::<Response>(timeout, limits) {
            Ok(Some(reply)) => Ok(self.answer(pending, Ok(reply.response))),
            Ok(None) if Instant::now() < request_end => {
                self.pending = Some(pending);
                Err(SymbolizeError::NoTime)
            }
            Ok(None) => {
                self.supervisor.stop();
                Ok(self.answer(pending, Err(CallError::Exceeded(Limit::Cpu))))
            }
            Err(CallError::Cancelled) => Err(SymbolizeError::NoTime),
            Err(error) => Ok(self.answer(pending, Err(error))),
        }
    }

    fn answer(&self, pending: Pending, response: Result<Response, CallError>) -> SymbolAnswer {
        let Pending { request, before, .. } = pending;
        let cpu = self.supervisor.usage().cpu.saturating_sub(before.cpu);
        let mut lacks_debug_info = request.symbols_only;
        let mut has_none = false;
        let (result, cut) = match response {
            Ok(Response { symbols, error, cut, debug_info_error, no_debug_info }) => {
                has_none = no_debug_info;
                if !debug_info_error.is_empty() {
                    lacks_debug_info = true;
                    let name = &*request.executable.name;
                    tracing::debug!(name, "debug info not read: {debug_info_error}");
                }
                let result = match error.is_empty() {
                    true => Ok(symbols),
                    false if request.is_kernel() => Err(kernel_error(error)),
                    false => Err(SymbolizeError::Unreadable(error)),
                };
                (result, cut)
            }
            Err(error) => (Err(error.into()), 0),
        };
        SymbolAnswer { request, result, cut, lacks_debug_info, no_debug_info: has_none, cpu }
    }

    /// Makes the worker close these files, with its next request.
    pub fn forget(&mut self, keys: impl IntoIterator<Item = u64>) {
        if self.supervisor.is_running() {
            self.forget.extend(keys);
        }
    }

    /// Returns what the workers have used so far.
    pub fn usage(&self) -> Usage {
        self.supervisor.usage()
    }

    /// Ends the worker with all that it has read; the next request starts another.
    pub fn restart(&mut self) {
        self.pending = None;
        self.forget.clear();
        self.supervisor.stop();
    }
}

impl From<CallError> for SymbolizeError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NotStarted(error) => Self::NotStarted(error.to_string()),
            CallError::Cancelled => Self::NoTime,
            CallError::Exceeded(Limit::Memory) | CallError::Died(Exit::Aborted) => {
                Self::OutOfMemory
            }
            CallError::Exceeded(Limit::Cpu)
            | CallError::Died(Exit::CpuLimit)
            | CallError::TimedOut(_) => Self::TooSlow,
            CallError::Died(Exit::Unknown) => Self::Died,
        }
    }
}
