//! The agent's side of the symbolizer: sends the addresses of one file, waits for its symbols.

use std::collections::HashSet;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use profile::{BuildId, FileAddr};
use symbolizer::Worker;
use symbolizer::proto::{Request, Response, Symbol};

use crate::procfs;
use crate::workers::{self, CallError, Supervisor, Timeout, Usage};

/// How long one request may take: the DWARF of the largest real files takes seconds.
const REQUEST_MAX: Duration = Duration::from_secs(20);

/// Runs the worker: answers requests on this socket until the agent closes it. `memory_max`: bytes
/// of its own that the worker may have.
///
/// # Errors
/// When the socket breaks or a request is malformed.
pub fn serve(socket: BorrowedFd<'_>, memory_max: u64) -> io::Result<()> {
    let mut worker = Worker::new(memory_max, || procfs::own_status().rss_kib);
    workers::serve(socket, |request: Request| (worker.answer(&request), None))
}

/// Bounds several requests together.
#[derive(Clone, Debug)]
pub struct TimeLimit {
    /// No request begins after this time. One that has begun has its own time: what the worker has
    /// read serves the next request.
    pub until: Instant,
    /// Once true, the current request ends as well.
    pub cancel: Arc<AtomicBool>,
}

impl TimeLimit {
    fn is_over(&self) -> bool {
        self.until <= Instant::now() || self.is_cancelled()
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}

/// Why the addresses of a file have no symbols.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SymbolizeError {
    /// The parser does not understand the file.
    #[error("{0}")]
    Unreadable(String),
    /// The worker died while it read the file.
    #[error("the symbolizer died while reading it")]
    Died,
    /// The request took too long.
    #[error("it took longer than {} s", REQUEST_MAX.as_secs())]
    TooSlow,
    /// Other files of the window have taken all the time there was.
    #[error("the time to symbolize a window was over")]
    NoTime,
    /// No worker could be started.
    #[error("cannot start a symbolizer: {0}")]
    NotStarted(String),
}

/// Asks the symbolizer, a worker process.
pub(super) struct SymbolizerClient {
    supervisor: Supervisor,
    /// Files whose DWARF took the worker too much memory or time.
    symbols_only: HashSet<u64>,
    limit: Option<TimeLimit>,
}

impl SymbolizerClient {
    /// `program` with `arguments` is to run [`serve`]. It is started on first use.
    pub fn new(program: &str, arguments: impl IntoIterator<Item = String>) -> Self {
        let supervisor = Supervisor::new(program, arguments);
        Self { supervisor, symbols_only: HashSet::new(), limit: None }
    }

    /// Bounds all requests from now on together.
    pub fn set_limit(&mut self, limit: Option<TimeLimit>) {
        self.limit = limit;
    }

    /// Returns the symbols of addresses in a file, one for each. The worker keeps what it has read
    /// of the file under `key` until [`Self::forget`]. A file whose DWARF takes too much memory or
    /// time is symbolized by its symbol tables alone, until the next [`Self::restart`].
    pub fn symbolize_file(
        &mut self,
        key: u64,
        path: &str,
        build_id: Option<&BuildId>,
        addresses: &[FileAddr],
    ) -> Result<Vec<Symbol>, SymbolizeError> {
        let mut request = Request {
            path: path.to_owned(),
            file: key,
            build_id: build_id.map(|id| id.as_bytes().to_vec()).unwrap_or_default(),
            symbols_only: self.symbols_only.contains(&key),
            ..request_for(addresses)
        };
        match self.call(&request) {
            Err(SymbolizeError::Died | SymbolizeError::TooSlow) if !request.symbols_only => {
                self.symbols_only.insert(key);
                request.symbols_only = true;
                self.call(&request)
            }
            answer => answer,
        }
    }

    /// Returns the symbols of addresses in the running kernel, one for each.
    pub fn symbolize_kernel(
        &mut self,
        addresses: &[FileAddr],
    ) -> Result<Vec<Symbol>, SymbolizeError> {
        self.call(&request_for(addresses))
    }

    /// Makes the worker close these files.
    pub fn forget(&mut self, keys: Vec<u64>) {
        self.symbols_only.retain(|key| !keys.contains(key));
        if self.supervisor.is_running() && !keys.is_empty() {
            // A worker that fails is killed, which closes the files too.
            let _ = self.call(&Request { forget: keys, ..Request::default() });
        }
    }

    /// Returns what the workers have used so far.
    pub fn usage(&self) -> Usage {
        self.supervisor.usage()
    }

    /// Ends the worker with all that it has read; the next request starts another.
    pub fn restart(&mut self) {
        self.symbols_only.clear();
        self.supervisor.stop();
    }

    fn call(&mut self, request: &Request) -> Result<Vec<Symbol>, SymbolizeError> {
        let limit = self.limit.as_ref();
        if limit.is_some_and(TimeLimit::is_over) {
            return Err(SymbolizeError::NoTime);
        }
        let is_cancelled = || limit.is_some_and(TimeLimit::is_cancelled);
        let timeout = Timeout { after: REQUEST_MAX, is_cancelled: &is_cancelled };
        let reply = self.supervisor.call::<Response>(request, timeout);
        let mut response = reply.map_err(SymbolizeError::from)?.response;
        if !response.error.is_empty() {
            return Err(SymbolizeError::Unreadable(response.error));
        }
        response.symbols.resize(request.addresses.len(), Symbol::default());
        Ok(response.symbols)
    }
}

impl From<CallError> for SymbolizeError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NotStarted(error) => Self::NotStarted(error.to_string()),
            CallError::Cancelled => Self::NoTime,
            CallError::Died(_) | CallError::Exceeded(_) => Self::Died,
            CallError::TimedOut(killed) => {
                killed.wait();
                Self::TooSlow
            }
        }
    }
}

fn request_for(addresses: &[FileAddr]) -> Request {
    let addresses = addresses.iter().map(|address| address.0).collect();
    Request { addresses, ..Request::default() }
}
