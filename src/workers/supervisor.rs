//! The agent's side: starts a worker, calls it, kills it when it fails.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use prost::Message;

use super::Usage;
use super::frame::{Timeout, receive, send};

/// How long a worker may take to start.
const START_MAX: Duration = Duration::from_secs(10);
/// How long to wait for a killed worker to exit, and how often to look.
const EXIT_MAX: Duration = Duration::from_millis(200);
const EXIT_POLL: Duration = Duration::from_millis(1);

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
    /// The worker exited or sent something malformed.
    #[error("the worker died")]
    Died,
}

/// What a worker has answered.
#[derive(Debug)]
pub struct Reply<Response> {
    /// The message.
    pub response: Response,
    /// The open file that came along.
    pub file: Option<OwnedFd>,
}

/// Runs one worker at a time: starts it on first use and replaces it after a failure.
#[derive(Debug)]
pub struct Supervisor {
    program: String,
    arguments: Vec<String>,
    worker: Option<Worker>,
    /// What the workers before the current one have used.
    past: Usage,
}

impl Supervisor {
    /// `program` with `arguments` is to run [`super::serve`] on its standard input.
    pub fn new(program: &str, arguments: impl IntoIterator<Item = String>) -> Self {
        let arguments = arguments.into_iter().collect();
        Self { program: program.into(), arguments, worker: None, past: Usage::default() }
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
        let mut worker = match self.worker.take() {
            Some(worker) => worker,
            None => self.start(timeout.is_cancelled)?,
        };
        match worker.call(request, timeout) {
            Ok(reply) => {
                self.worker = Some(worker);
                Ok(reply)
            }
            Err(error) => {
                self.past = self.past.and(worker.usage);
                let killed = worker.kill();
                if error.kind() != io::ErrorKind::TimedOut {
                    killed.wait();
                    Err(CallError::Died)
                } else if (timeout.is_cancelled)() {
                    killed.wait();
                    Err(CallError::Cancelled)
                } else {
                    Err(CallError::TimedOut(killed))
                }
            }
        }
    }

    fn start(&self, is_cancelled: &dyn Fn() -> bool) -> Result<Worker, CallError> {
        Worker::start(&self.program, &self.arguments, is_cancelled).map_err(|error| {
            if is_cancelled() { CallError::Cancelled } else { CallError::NotStarted(error) }
        })
    }

    /// Returns whether a worker is running.
    pub fn is_running(&self) -> bool {
        self.worker.is_some()
    }

    /// Kills the current worker; the next call starts another.
    pub fn stop(&mut self) {
        if let Some(worker) = self.worker.take() {
            self.past = self.past.and(worker.usage);
            worker.kill().wait();
        }
    }

    /// Returns what all workers have used so far.
    pub fn usage(&self) -> Usage {
        let current = self.worker.as_ref().map(|worker| worker.usage).unwrap_or_default();
        self.past.and(current)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Debug)]
struct Worker {
    child: Child,
    socket: UnixStream,
    /// As of the last answer.
    usage: Usage,
}

impl Worker {
    /// Starts a worker and waits until it is ready.
    fn start(
        program: &str,
        arguments: &[String],
        is_cancelled: &dyn Fn() -> bool,
    ) -> io::Result<Self> {
        let (socket, worker_socket) = UnixStream::pair()?;
        let child = Command::new(program)
            .args(arguments)
            .env("MALLOC_TRIM_THRESHOLD_", "131072") // freed memory goes back to the kernel
            .stdin(OwnedFd::from(worker_socket))
            .stdout(Stdio::null())
            .stderr(Stdio::null()) // a panic over a crafted file is no news for the user
            .process_group(0) // Ctrl-C is for the agent, which still needs its workers
            .spawn()?;
        let mut worker = Self { child, socket, usage: Usage::default() };
        match worker.receive::<()>(Timeout { after: START_MAX, is_cancelled }) {
            Ok(_) => Ok(worker),
            Err(error) => {
                worker.kill().wait();
                Err(error)
            }
        }
    }

    fn call<Response: Message + Default>(
        &mut self,
        request: &impl Message,
        timeout: Timeout<'_>,
    ) -> io::Result<Reply<Response>> {
        send(self.socket.as_fd(), Usage::default(), request, None)?;
        self.receive(timeout)
    }

    fn receive<Response: Message + Default>(
        &mut self,
        timeout: Timeout<'_>,
    ) -> io::Result<Reply<Response>> {
        let frame = receive(self.socket.as_fd(), Some(timeout))?;
        let frame = frame.ok_or(io::ErrorKind::BrokenPipe)?;
        self.usage = frame.usage;
        Ok(Reply { response: frame.decode()?, file: frame.file })
    }

    /// Sends SIGKILL without waiting for the exit.
    fn kill(mut self) -> KilledWorker {
        let _ = self.child.kill();
        KilledWorker(self.child)
    }
}

/// A worker that was killed and may not have exited: one that waits for a file system cannot.
#[derive(Debug)]
pub struct KilledWorker(Child);

impl KilledWorker {
    /// Returns whether the process has exited, and reaps it.
    pub fn has_exited(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }

    /// Waits a moment for the exit.
    pub fn wait(mut self) {
        let until = Instant::now() + EXIT_MAX;
        while !self.has_exited() && Instant::now() < until {
            std::thread::sleep(EXIT_POLL);
        }
    }
}

#[cfg(test)]
mod tests {
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
        let late = Duration::from_secs(3600);
        let soon = Timeout::after(Duration::from_secs(10));
        assert!(matches!(call(&mut ready("head -c 1 >/dev/null"), soon), CallError::Died));
        let mut hanging = ready("exec sleep 3600");
        let cancelled = Timeout { after: late, is_cancelled: &|| true };
        assert!(matches!(call(&mut hanging, cancelled), CallError::Cancelled));
        let short = Timeout::after(Duration::from_millis(20));
        let CallError::TimedOut(mut killed) = call(&mut hanging, short) else {
            panic!("it did not hang")
        };
        let until = Instant::now() + Duration::from_secs(10);
        while !killed.has_exited() && Instant::now() < until {
            std::thread::sleep(EXIT_POLL);
        }
        assert!(killed.has_exited() && !hanging.is_running());
    }
}
