//! The agent's side: starts workers, asks them, and does not wait for ever.

use std::collections::HashSet;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use profile::{BuildId, FileAddr};
use rustix::event::{PollFd, PollFlags, poll};

use crate::protocol::{self, Line, Request, Response, receive, send};
use crate::{Name, Symbol, Usage};

/// One request may take this long: the DWARF of the largest real files takes seconds.
const TIME_MAX: Duration = Duration::from_secs(20);
/// How long one that was killed is waited for, and how often it is looked for.
const DYING_MAX: Duration = Duration::from_millis(200);
const DYING_TURN: Duration = Duration::from_millis(1);

/// How often it is looked for whether there is a hurry.
const LOOK_EACH: Duration = Duration::from_millis(50);

/// What bounds several requests together.
#[derive(Clone, Debug)]
pub struct Limit {
    /// When none is begun any more. One that has begun has its own time: what it has read serves the next.
    pub until: Instant,
    /// Ends also the one that has begun.
    pub hurry: Arc<AtomicBool>,
}

impl Limit {
    fn is_over(&self) -> bool {
        self.until <= Instant::now() || self.is_hurried()
    }

    fn is_hurried(&self) -> bool {
        self.hurry.load(Ordering::Relaxed)
    }
}

/// Why the addresses of a file have no names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The file is not what the parser understands.
    #[error("{0}")]
    Unreadable(String),
    /// The worker died over it.
    #[error("the symbolizer died over it")]
    Died,
    /// It took too long.
    #[error("it took longer than {} s", TIME_MAX.as_secs())]
    TooSlow,
    /// Other files of the window have taken all the time that there was.
    #[error("the time for naming a window was over")]
    NoTime,
    /// No worker could be started.
    #[error("no symbolizer could be started: {0}")]
    NotStarted(String),
}

/// Gives names to addresses, by way of a worker process.
pub struct Symbolizer {
    program: String,
    arguments: Vec<String>,
    worker: Option<Worker>,
    /// Files whose DWARF was too much.
    too_much: HashSet<u64>,
    limit: Option<Limit>,
    past: Usage,
}

struct Worker {
    child: Child,
    requests: ChildStdin,
    responses: ChildStdout,
    usage: Usage,
}

impl Symbolizer {
    /// `program` with `arguments` is to run [`crate::worker::serve`] on its standard input and
    /// output. It is started when first needed.
    pub fn new(program: impl Into<String>, arguments: impl IntoIterator<Item = String>) -> Self {
        Self {
            program: program.into(),
            arguments: arguments.into_iter().collect(),
            worker: None,
            too_much: HashSet::new(),
            limit: None,
            past: Usage::default(),
        }
    }

    /// Bounds the requests from now on, each of which has its own time besides.
    pub fn bound(&mut self, limit: Option<Limit>) {
        self.limit = limit;
    }

    /// Names addresses of a file; gives as many as were asked for. The worker keeps what it has read of it under `key` until it
    /// is to [`Self::forget`] it. Where DWARF takes the worker too much memory or time, symbols alone are taken, then and until
    /// it is renewed.
    ///
    /// # Errors
    /// [`Failure`] when none of them can have a name.
    pub fn file(
        &mut self,
        key: u64,
        path: &str,
        build_id: Option<&BuildId>,
        addresses: &[FileAddr],
    ) -> Result<Vec<Symbol>, Failure> {
        let mut request = Request {
            path: path.to_owned(),
            file: key,
            build_id: build_id.map(|id| id.as_bytes().to_vec()).unwrap_or_default(),
            symbols_only: self.too_much.contains(&key),
            ..Request::about(addresses)
        };
        match self.ask(&request) {
            Err(Failure::Died | Failure::TooSlow) if !request.symbols_only => {
                self.too_much.insert(key);
                request.symbols_only = true;
                self.ask(&request)
            }
            answer => answer,
        }
    }

    /// Names addresses of the running kernel likewise.
    ///
    /// # Errors
    /// [`Failure`] when none of them can have a name.
    pub fn kernel(&mut self, addresses: &[FileAddr]) -> Result<Vec<Symbol>, Failure> {
        self.ask(&Request::about(addresses))
    }

    /// Lets the worker forget files, so that nothing of them is held open.
    pub fn forget(&mut self, keys: Vec<u64>) {
        self.too_much.retain(|key| !keys.contains(key));
        if self.worker.is_some() && !keys.is_empty() {
            // Without a worker there is nothing to forget either.
            let _ = self.ask(&Request { forget: keys, ..Request::default() });
        }
    }

    /// What the workers have used so far.
    pub fn usage(&self) -> Usage {
        let now = self.worker.as_ref().map(|worker| worker.usage).unwrap_or_default();
        self.past.and(now)
    }

    /// Ends the worker, with all that is remembered; the next question starts another.
    pub fn renew(&mut self) {
        self.too_much.clear();
        self.end_worker();
    }

    fn end_worker(&mut self) {
        self.past = self.usage();
        self.worker = None; // it is killed when dropped
    }

    fn ask(&mut self, request: &Request) -> Result<Vec<Symbol>, Failure> {
        let limit = self.limit.clone();
        if limit.as_ref().is_some_and(Limit::is_over) {
            return Err(Failure::NoTime);
        }
        let is_hurried = || limit.as_ref().is_some_and(Limit::is_hurried);
        let worker = match &mut self.worker {
            Some(worker) => worker,
            None => {
                let started = Worker::start(&self.program, &self.arguments);
                self.worker.insert(started.map_err(|error| Failure::NotStarted(error.to_string()))?)
            }
        };
        let response = match worker.ask(request, &is_hurried) {
            Ok(response) => response,
            Err(failure) => {
                self.end_worker();
                return Err(if is_hurried() { Failure::NoTime } else { failure });
            }
        };
        if !response.error.is_empty() {
            return Err(Failure::Unreadable(response.error));
        }
        let mut all: Vec<Symbol> = response.symbols.into_iter().map(symbol).collect();
        all.resize(request.addresses.len(), Symbol::default());
        Ok(all)
    }
}

impl Request {
    fn about(addresses: &[FileAddr]) -> Self {
        let addresses = addresses.iter().map(|address| address.0).collect();
        Self { addresses, ..Self::default() }
    }
}

fn symbol(found: protocol::Symbol) -> Symbol {
    let same = (found.start < found.end).then_some(found.start..found.end);
    Symbol { names: found.lines.into_iter().map(name).collect(), same }
}

fn name(line: Line) -> Name {
    Name {
        function: line.function,
        system_name: line.system_name,
        file: line.file,
        line: line.line,
    }
}

impl Worker {
    fn start(program: &str, arguments: &[String]) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .env("MALLOC_TRIM_THRESHOLD_", "131072") // what it forgets goes back to the kernel
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null()) // a panic over a crafted file is no news for the user
            .process_group(0) // Ctrl-C is for the agent, which then wants its names
            .spawn()?;
        let (requests, responses) = (child.stdin.take(), child.stdout.take());
        let streams = requests.zip(responses).ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self { child, requests: streams.0, responses: streams.1, usage: Usage::default() })
    }

    fn ask(
        &mut self,
        request: &Request,
        is_hurried: &dyn Fn() -> bool,
    ) -> Result<Response, Failure> {
        send(&mut self.requests, request).map_err(|_| Failure::Died)?;
        let until = Instant::now() + TIME_MAX;
        let mut answer = Deadline { from: &mut self.responses, until, is_hurried };
        let response: Response = match receive(&mut answer) {
            Ok(Some(response)) => response,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(Failure::TooSlow),
            Ok(None) | Err(_) => return Err(Failure::Died),
        };
        let cpu = Duration::from_nanos(response.cpu_ns);
        self.usage = Usage { cpu, peak_rss_kib: response.peak_rss_kib };
        Ok(response)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It has nothing to lose, and may be busy for ever, even out of reach of signals.
        let _ = self.child.kill();
        let until = Instant::now() + DYING_MAX;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(DYING_TURN);
        }
    }
}

/// Reads from a pipe until a moment, or until there is a hurry.
struct Deadline<'a> {
    from: &'a mut ChildStdout,
    until: Instant,
    is_hurried: &'a dyn Fn() -> bool,
}

impl Read for Deadline<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = self.until.saturating_duration_since(Instant::now()).min(LOOK_EACH);
            let turn =
                rustix::time::Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) };
            let mut waiting = [PollFd::from_borrowed_fd(self.from.as_fd(), PollFlags::IN)];
            if poll(&mut waiting, Some(&turn))? > 0 {
                return self.from.read(bytes);
            }
            if left.is_zero() || (self.is_hurried)() {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}
