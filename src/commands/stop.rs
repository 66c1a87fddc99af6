//! What stops a recording: its duration, a signal, the end of the profiled processes or of COMMAND.
//!
//! Every first signal stops the recording, and its files are written. Only a second Ctrl-C discards
//! it: a terminal that closes and a service manager send several signals, which all mean to stop.

use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXCPU};
use signal_hook::iterator::Signals;

use super::progress::ProgressLine;
use super::{child, signals, terminal};
use crate::procfs;
use crate::session::{Capture, Session};

/// Two SIGINTs that come closer together are one Ctrl-C: a shell or `make` may pass it on.
const SAME_KEY: Duration = Duration::from_millis(500);

/// Interval at which a thread of `-t` is looked up.
const THREAD_CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Why a recording stops.
pub(super) enum StopReason {
    /// Its duration is over: COMMAND is to stop too.
    TimeOver,
    /// A signal was received.
    Stopped,
    /// SIGTERM was received: COMMAND is to stop too.
    Terminated,
    /// The processes of `-p` and threads of `-t` have exited.
    ProcessesExited,
    /// COMMAND has exited.
    CommandExited(ExitStatus),
}

/// Waits for a [`StopReason`].
pub(super) struct StopWatcher {
    sender: Sender<StopReason>,
    receiver: Receiver<StopReason>,
    /// Set once the files are written: nothing is discarded any more.
    is_written: Arc<AtomicBool>,
    interruptible: Arc<InterruptibleWait>,
}

/// A wait at the end of a recording that any signal ends.
#[derive(Debug, Default)]
struct InterruptibleWait {
    is_waiting: AtomicBool,
    is_interrupted: AtomicBool,
}

/// Signals end a wait while this exists.
pub(super) struct WaitGuard<'a>(&'a InterruptibleWait);

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        self.0.is_waiting.store(false, Ordering::Relaxed);
    }
}

impl StopWatcher {
    /// Installs the signal handlers. SIGHUP stays ignored if it was, as by `nohup`.
    pub fn start() -> Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let mut watched = vec![SIGINT, SIGTERM, SIGQUIT, SIGXCPU];
        watched.extend((!signals::is_hangup_ignored()).then_some(SIGHUP));
        let mut received = Signals::new(watched).context("cannot install signal handlers")?;
        let reasons = sender.clone();
        let is_written = Arc::new(AtomicBool::new(false));
        let has_files = Arc::clone(&is_written);
        let interruptible = Arc::<InterruptibleWait>::default();
        let wait = Arc::clone(&interruptible);
        thread::Builder::new().name("signals".into()).spawn(move || {
            let mut history = SignalHistory::default();
            for signal in received.forever() {
                let is_foreground =
                    || procfs::stat(std::process::id()).is_some_and(|stat| stat.is_foreground);
                let is_waiting = wait.is_waiting.load(Ordering::Relaxed);
                let effect = history.effect(signal, Instant::now(), is_waiting, is_foreground);
                if signal != SIGINT || effect == SignalEffect::EndWait {
                    wait.is_interrupted.store(true, Ordering::Relaxed);
                }
                match effect {
                    SignalEffect::None | SignalEffect::EndWait => {}
                    SignalEffect::Discard => {
                        discard(signal, has_files.load(Ordering::Relaxed));
                    }
                    // The recording is over if nothing receives the reason any more.
                    SignalEffect::Stop => drop(reasons.send(StopReason::Stopped)),
                    SignalEffect::Terminate => drop(reasons.send(StopReason::Terminated)),
                }
            }
        })?;
        Ok(Self { sender, receiver, is_written, interruptible })
    }

    /// Watches COMMAND too.
    pub fn watch_command(&self, mut command: Child) -> Result<()> {
        let reasons = self.sender.clone();
        let wait = move || {
            if let Ok(status) = command.wait() {
                let _ = reasons.send(StopReason::CommandExited(status));
            }
        };
        thread::Builder::new().name("command".into()).spawn(wait)?;
        Ok(())
    }

    /// Watches the processes of `-p` and threads of `-t` too: the recording stops with the last of
    /// them. Each has its number and its start time in clock ticks since boot.
    pub fn watch(&self, processes: &[(u32, u64)], threads: &[(u32, u64)]) -> Result<()> {
        let mut running = Vec::new();
        for (pid, start) in processes {
            match open_process(*pid, *start) {
                Ok(process) => running.extend(process),
                // Without permission its end is not noticed, and the recording goes on.
                Err(_) => return Ok(()),
            }
        }
        let (reasons, threads) = (self.sender.clone(), threads.to_vec());
        let wait = move || {
            for process in running {
                let mut exit = [PollFd::new(&process, PollFlags::IN)];
                while poll(&mut exit, None).is_err() {} // interrupted
            }
            // Before Linux 6.9 there is no file descriptor of a thread.
            for (tid, start) in threads {
                while procfs::start_ticks(tid) == Some(start) {
                    thread::sleep(THREAD_CHECK_INTERVAL);
                }
            }
            let _ = reasons.send(StopReason::ProcessesExited);
        };
        thread::Builder::new().name("processes".into()).spawn(wait)?;
        Ok(())
    }

    /// Waits for the first reason to stop, and shows the progress meanwhile.
    pub fn wait<C: Capture>(
        &self,
        deadline: Option<Instant>,
        session: &Session<C>,
        progress: &mut ProgressLine,
    ) -> StopReason {
        loop {
            let update = progress.next_update();
            let wake = deadline.map_or(update, |deadline| deadline.min(update));
            match self.receiver.recv_timeout(wake.saturating_duration_since(Instant::now())) {
                Ok(reason) => return reason,
                // Impossible: we hold a sender.
                Err(RecvTimeoutError::Disconnected) => return StopReason::Stopped,
                Err(RecvTimeoutError::Timeout)
                    if deadline.is_some_and(|deadline| deadline <= Instant::now()) =>
                {
                    return StopReason::TimeOver;
                }
                Err(RecvTimeoutError::Timeout) => progress.update(session),
            }
        }
    }

    /// Begins a wait that any signal ends. A Ctrl-C ends it instead of discarding the recording.
    pub fn interruptible_wait(&self) -> WaitGuard<'_> {
        self.interruptible.is_interrupted.store(false, Ordering::Relaxed);
        self.interruptible.is_waiting.store(true, Ordering::Relaxed);
        WaitGuard(&self.interruptible)
    }

    /// Returns whether a signal has ended the wait.
    pub fn is_wait_interrupted(&self) -> bool {
        self.interruptible.is_interrupted.load(Ordering::Relaxed)
    }

    /// Waits for COMMAND to exit, once the files are written. Returns its exit status.
    pub fn wait_for_command(&self, pid: u32) -> u8 {
        self.is_written.store(true, Ordering::Relaxed);
        let mut is_announced = false;
        loop {
            match self.receiver.recv_timeout(Duration::from_secs(1)) {
                Ok(StopReason::CommandExited(status)) => return child::exit_code(status),
                Ok(StopReason::Terminated) => child::terminate(pid),
                Ok(StopReason::TimeOver | StopReason::Stopped | StopReason::ProcessesExited) => {}
                Err(RecvTimeoutError::Disconnected) => return 1,
                Err(RecvTimeoutError::Timeout) if !is_announced => {
                    terminal::line(&format!(
                        "everytick: waiting for the command (process {pid}) to exit"
                    ));
                    is_announced = true;
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// Opens a process by its pid; `None` when it has exited, also if another has its pid now.
fn open_process(pid: u32, start: u64) -> rustix::io::Result<Option<OwnedFd>> {
    let Some(number) = Pid::from_raw(pid as i32) else { return Ok(None) };
    match pidfd_open(number, PidfdFlags::empty()) {
        Ok(process) => Ok((procfs::start_ticks(pid) == Some(start)).then_some(process)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Ends the program by a signal, as without a handler.
fn discard(signal: i32, is_written: bool) {
    terminal::line(match is_written {
        true => "everytick: not waiting for the command",
        false => "everytick: discarded, nothing was written",
    });
    let _ = signal_hook::low_level::emulate_default_handler(signal);
}

/// What a signal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SignalEffect {
    /// The recording stops already.
    None,
    /// The recording stops.
    Stop,
    /// The recording and COMMAND stop.
    Terminate,
    /// A wait at the end of the recording ends.
    EndWait,
    /// The program ends without a file.
    Discard,
}

/// The signals so far.
#[derive(Debug, Default)]
struct SignalHistory {
    is_stopping: bool,
    /// When the first SIGINT was received.
    interrupted: Option<Instant>,
    /// The terminal was closed.
    has_hung_up: bool,
}

impl SignalHistory {
    /// Adds a signal. `is_waiting`: whether a Ctrl-C ends a wait now. `is_foreground`: whether a
    /// key of the terminal can have sent it.
    fn effect(
        &mut self,
        signal: i32,
        now: Instant,
        is_waiting: bool,
        is_foreground: impl FnOnce() -> bool,
    ) -> SignalEffect {
        let is_first = !std::mem::replace(&mut self.is_stopping, true);
        self.has_hung_up |= signal == SIGHUP;
        match signal {
            SIGTERM => SignalEffect::Terminate, // may be meant for COMMAND alone, later
            SIGINT => {
                let first = *self.interrupted.get_or_insert(now);
                let is_second_key = now.saturating_duration_since(first) >= SAME_KEY;
                if is_waiting && (is_first || is_second_key) {
                    self.interrupted = Some(now);
                    return SignalEffect::EndWait;
                }
                if is_second_key && !self.has_hung_up && is_foreground() {
                    return SignalEffect::Discard;
                }
                if is_first { SignalEffect::Stop } else { SignalEffect::None }
            }
            _ if is_first => SignalEffect::Stop,
            _ => SignalEffect::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the effects of signals, each with its time in milliseconds.
    fn effects(signals: &[(u64, i32)], is_foreground: bool) -> Vec<SignalEffect> {
        let (mut history, start) = (SignalHistory::default(), Instant::now());
        let mut effect = |(ms, signal): &(u64, i32)| {
            history.effect(*signal, start + Duration::from_millis(*ms), false, || is_foreground)
        };
        signals.iter().map(&mut effect).collect()
    }

    #[test]
    fn terminal_that_closes_stops_the_recording() {
        use SignalEffect::{None, Stop, Terminate};
        assert_eq!(effects(&[(0, SIGHUP), (0, SIGHUP)], true), [Stop, None]);
        assert_eq!(effects(&[(0, SIGHUP), (900, SIGTERM)], true), [Stop, Terminate]);
        assert_eq!(
            effects(&[(0, SIGHUP), (900, SIGINT), (2000, SIGINT)], true),
            [Stop, None, None]
        );
        assert_eq!(effects(&[(0, SIGINT), (900, SIGHUP), (950, SIGINT)], true), [Stop, None, None]);
        assert_eq!(effects(&[(0, SIGQUIT), (900, SIGXCPU)], true), [Stop, None]);
    }

    #[test]
    fn second_key_discards_the_recording() {
        use SignalEffect::{Discard, None, Stop, Terminate};
        assert_eq!(effects(&[(0, SIGINT), (500, SIGINT)], true), [Stop, Discard]);
        let impatient = effects(&[(0, SIGINT), (300, SIGINT), (600, SIGINT)], true);
        assert_eq!(impatient, [Stop, None, Discard]);
        assert_eq!(effects(&[(0, SIGINT), (900, SIGINT)], false), [Stop, None]);
        let after_term = effects(&[(0, SIGTERM), (900, SIGINT), (1000, SIGINT)], true);
        assert_eq!(after_term, [Terminate, None, None]);
    }

    #[test]
    fn key_ends_a_wait_and_discards_nothing() {
        let (mut history, start) = (SignalHistory::default(), Instant::now());
        let mut key = |ms: u64, is_waiting| {
            history.effect(SIGINT, start + Duration::from_millis(ms), is_waiting, || true)
        };
        assert_eq!(key(0, false), SignalEffect::Stop);
        assert_eq!(key(100, true), SignalEffect::None, "the same key");
        assert_eq!(key(2000, true), SignalEffect::EndWait);
        assert_eq!(key(2100, false), SignalEffect::None, "the same key");
        assert_eq!(key(3000, false), SignalEffect::Discard);
    }
}
