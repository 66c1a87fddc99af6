//! The agent's side: starts a worker, calls it, kills it when it fails.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use prost::Message;

use super::Usage;
use super::frame::{Limit, Received, Stop, Timeout, Wait, receive, send};
use super::process::{Exit, KilledWorker, WorkerProcess, Workers};
use crate::procfs;

/// How long a worker may take to start.
const START_MAX: Duration = Duration::from_secs(10);

/// Why a call has no answer. Except for the first, the worker is killed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No worker could be started.
    #[error("cannot start a worker: {0}")]
    NotStarted(io::Error),
    /// The timeout has passed. The worker may hang where no signal reaches it.
    #[error("the worker did not answer in time")]
    TimedOut(KilledWorker),
    /// The timeout's `is_cancelled` returned true.
    #[error("the call was cancelled")]
    Cancelled,
    /// The worker exceeded a limit of the request.
    #[error("the worker exceeded its limit of {0:?}")]
    Exceeded(Limit),
    /// The worker exited or sent something malformed.
    #[error("the worker died")]
    Died(Exit),
}

/// What one request may take.
#[derive(Clone, Copy, Debug)]
pub struct CallLimits {
    /// CPU time.
    pub cpu: Duration,
    /// Growth of the worker's resident memory, in bytes; mapped files count.
    pub memory: u64,
}

/// What a worker has answered.
#[derive(Debug)]
pub struct Reply<Response> {
    /// The message.
    pub response: Response,
    /// The open files that came along.
    pub files: Vec<File>,
    /// CPU time that the request took.
    pub cpu: Duration,
}

/// Runs one worker at a time: starts it on first use and replaces it after a failure.
#[derive(Debug)]
pub struct Supervisor {
    program: String,
    arguments: Vec<String>,
    worker: Option<Worker>,
    workers: Workers,
}

impl Supervisor {
    /// `program` with `arguments` is to run [`super::serve`] on its standard input.
    pub fn new(program: &str, arguments: impl IntoIterator<Item = String>) -> Self {
        let arguments = arguments.into_iter().collect();
        Self { program: program.into(), arguments, worker: None, workers: Workers::default() }
    }

    /// Sends a request and waits for the answer. `timeout` begins when the worker is ready.
    ///
    /// # Errors
    /// [`CallError`]; the next call starts another worker.
    pub fn call<Response: Message + Default>(
        &mut self,
        request: &impl Message,
        timeout: Timeout<'_>,
    ) -> Result<Reply<Response>, CallError> {
        self.send(request, &[], timeout.is_cancelled)?;
        match self.receive(timeout, None)? {
            Some(reply) => Ok(reply),
            None => Err(self
                .worker
                .take()
                .map_or_else(died, |worker| CallError::TimedOut(worker.process.kill()))),
        }
    }

    /// Sends a request and at most four files, for which [`Self::receive`] waits.
    ///
    /// # Errors
    /// [`CallError`]; the next call starts another worker.
    pub fn send(
        &mut self,
        request: &impl Message,
        files: &[BorrowedFd<'_>],
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<(), CallError> {
        let mut worker = match self.worker.take() {
            Some(worker) => worker,
            None => self.start(is_cancelled)?,
        };
        worker.before = ProcessUse::of(worker.process.pid());
        if send(worker.socket.as_fd(), Usage::default(), request, files).is_err() {
            return Err(CallError::Died(worker.process.end()));
        }
        self.worker = Some(worker);
        Ok(())
    }

    /// Waits for the answer to the request that was sent last; returns `None` when it did not come
    /// in time, and can be waited for again. Until then no other request may be sent.
    ///
    /// # Errors
    /// [`CallError`] except [`CallError::TimedOut`]; the next call starts another worker.
    pub fn receive<Response: Message + Default>(
        &mut self,
        timeout: Timeout<'_>,
        limits: Option<CallLimits>,
    ) -> Result<Option<Reply<Response>>, CallError> {
        let Some(worker) = self.worker.take() else { return Err(died()) };
        match worker.receive(timeout, limits) {
            Ok(Answer::Reply(reply)) => {
                self.worker = Some(worker);
                Ok(Some(reply))
            }
            Ok(Answer::NotYet) => {
                self.worker = Some(worker);
                Ok(None)
            }
            Ok(Answer::Stopped(stop)) => {
                worker.process.kill().wait();
                Err(match stop {
                    Stop::Cancelled => CallError::Cancelled,
                    Stop::Exceeded(limit) => CallError::Exceeded(limit),
                })
            }
            Err(_) => Err(CallError::Died(worker.process.end())),
        }
    }

    fn start(&self, is_cancelled: &dyn Fn() -> bool) -> Result<Worker, CallError> {
        Worker::start(&self.workers, &self.program, &self.arguments, is_cancelled).map_err(
            |error| {
                if is_cancelled() { CallError::Cancelled } else { CallError::NotStarted(error) }
            },
        )
    }

    /// Returns whether a worker is running.
    pub fn is_running(&self) -> bool {
        self.worker.is_some()
    }

    /// Returns the process ID of the running worker.
    pub fn worker_pid(&self) -> Option<u32> {
        Some(self.worker.as_ref()?.process.pid())
    }

    /// Kills the current worker without waiting for its exit; the next call starts another.
    pub fn abandon(&mut self) -> Option<KilledWorker> {
        Some(self.worker.take()?.process.kill())
    }

    /// Kills the current worker; the next call starts another.
    pub fn stop(&mut self) {
        if let Some(worker) = self.worker.take() {
            worker.process.kill().wait();
        }
    }

    /// Returns what all workers have used so far, also those that were killed.
    pub fn usage(&self) -> Usage {
        self.workers.usage()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop();
    }
}

fn died() -> CallError {
    CallError::Died(Exit::Unknown)
}

/// CPU time and resident memory of a process at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct ProcessUse {
    cpu: Duration,
    resident: u64,
}

impl ProcessUse {
    fn of(pid: u32) -> Self {
        let stat = procfs::stat(pid);
        stat.map_or_else(Self::default, |stat| Self { cpu: stat.cpu, resident: stat.resident })
    }

    /// Returns the limit that is exceeded since `before`.
    fn exceeds(&self, limits: CallLimits, before: Self) -> Option<Limit> {
        if self.cpu.saturating_sub(before.cpu) > limits.cpu {
            return Some(Limit::Cpu);
        }
        let growth = self.resident.saturating_sub(before.resident);
        (growth > limits.memory).then_some(Limit::Memory)
    }
}

#[derive(Debug)]
struct Worker {
    process: WorkerProcess,
    socket: UnixStream,
    /// When the current request was sent.
    before: ProcessUse,
}

/// What came of waiting for an answer.
enum Answer<Response> {
    Reply(Reply<Response>),
    NotYet,
    Stopped(Stop),
}

impl Worker {
    /// Starts a worker and waits until it is ready.
    fn start(
        workers: &Workers,
        program: &str,
        arguments: &[String],
        is_cancelled: &dyn Fn() -> bool,
    ) -> io::Result<Self> {
        let (socket, worker_socket) = UnixStream::pair()?;
        let process = workers.spawn(program, arguments, worker_socket.into())?;
        let worker = Self { process, socket, before: ProcessUse::default() };
        match worker.receive::<()>(Timeout { after: START_MAX, is_cancelled }, None) {
            Ok(Answer::Reply(_)) => Ok(worker),
            Ok(Answer::NotYet | Answer::Stopped(_)) => {
                worker.process.kill().wait();
                Err(io::ErrorKind::TimedOut.into())
            }
            Err(error) => {
                worker.process.end();
                Err(error)
            }
        }
    }

    fn receive<Response: Message + Default>(
        &self,
        timeout: Timeout<'_>,
        limits: Option<CallLimits>,
    ) -> io::Result<Answer<Response>> {
        let check = || {
            let exceeded = limits
                .and_then(|limits| ProcessUse::of(self.process.pid()).exceeds(limits, self.before));
            let cancelled = (timeout.is_cancelled)().then_some(Stop::Cancelled);
            exceeded.map(Stop::Exceeded).or(cancelled)
        };
        let wait = Wait { after: timeout.after, check: &check };
        match receive(self.socket.as_fd(), Some(wait))? {
            Received::Frame(frame) => {
                self.process.reported(frame.usage);
                let cpu = frame.usage.cpu.saturating_sub(self.before.cpu);
                let response = frame.decode()?;
                let files = frame.files.into_iter().map(File::from).collect();
                Ok(Answer::Reply(Reply { response, files, cpu }))
            }
            Received::Closed => Err(io::ErrorKind::BrokenPipe.into()),
            Received::NotYet => Ok(Answer::NotYet),
            Received::Stopped(stop) => Ok(Answer::Stopped(stop)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str) -> Supervisor {
        Supervisor::new("sh", ["-c".to_owned(), script.to_owned()])
    }

    fn call(supervisor: &mut Supervisor, timeout: Timeout<'_>) -> CallError {
        supervisor.call::<String>(&String::new(), timeout).expect_err("no answer")
    }

    /// Announces itself with a frame of zeros, then does what the script says.
    fn ready(then: &str) -> Supervisor {
        shell(&format!("head -c 24 /dev/zero >&0; {then}"))
    }

    const LATE: Duration = Duration::from_secs(3600);

    #[test]
    fn a_program_that_cannot_run_is_not_started() {
        let mut missing = Supervisor::new("/nonexistent", []);
        let soon = || Timeout::after(Duration::from_secs(10));
        assert!(matches!(call(&mut missing, soon()), CallError::NotStarted(_)));
        assert!(matches!(call(&mut shell("exit"), soon()), CallError::NotStarted(_)));
        assert!(!missing.is_running());
    }

    /// A machine may take longer to start a worker than a request may take.
    #[test]
    fn the_start_of_a_worker_is_not_part_of_the_timeout() {
        let script = "sleep 0.3; head -c 24 /dev/zero >&0; head -c 24 /dev/zero >&0; sleep 3600";
        let reply = shell(script)
            .call::<String>(&String::new(), Timeout::after(Duration::from_millis(100)));
        assert_eq!(reply.expect("an answer").response, "");
    }

    #[test]
    fn a_worker_that_exits_or_hangs_is_killed() {
        let soon = Timeout::after(Duration::from_secs(10));
        assert!(matches!(call(&mut ready("head -c 1 >/dev/null"), soon), CallError::Died(_)));
        let mut hanging = ready("exec sleep 3600");
        let cancelled = Timeout { after: LATE, is_cancelled: &|| true };
        assert!(matches!(call(&mut hanging, cancelled), CallError::Cancelled));
        let short = Timeout::after(Duration::from_millis(20));
        let CallError::TimedOut(mut killed) = call(&mut hanging, short) else {
            panic!("it did not hang")
        };
        let until = Instant::now() + Duration::from_secs(10);
        while !killed.has_exited() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(killed.has_exited() && !hanging.is_running());
    }

    #[test]
    fn an_answer_that_is_late_can_be_waited_for_again() {
        let mut slow = ready("head -c 24 >/dev/null; sleep 0.3; head -c 24 /dev/zero >&0; cat");
        slow.send(&String::new(), &[], &|| false).expect("sent");
        let mut receive = |after| slow.receive::<String>(Timeout::after(after), None);
        assert!(receive(Duration::ZERO).expect("alive").is_none());
        assert!(receive(Duration::from_secs(20)).expect("alive").is_some());
    }

    #[test]
    fn a_request_that_exceeds_a_limit_ends_its_worker() {
        let spin = "while :; do :; done";
        let fill = "exec tail /dev/zero"; // which keeps the line that it reads
        let limits = CallLimits { cpu: Duration::from_millis(100), memory: 1 << 30 };
        let memory = CallLimits { cpu: LATE, memory: 16 << 20 };
        for (script, limits, expected) in
            [(spin, limits, Limit::Cpu), (fill, memory, Limit::Memory)]
        {
            let mut worker = ready(script);
            worker.send(&String::new(), &[], &|| false).expect("sent");
            let ended = worker.receive::<String>(Timeout::after(LATE), Some(limits));
            assert!(
                matches!(ended, Err(CallError::Exceeded(limit)) if limit == expected),
                "{script}: {ended:?}"
            );
            assert!(!worker.is_running() && worker.usage().cpu > Duration::ZERO);
        }
    }
}
