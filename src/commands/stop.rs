//! What stops a recording: its duration, a signal, or the end of COMMAND.

use std::process::{Child, ExitStatus};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::progress::ProgressLine;
use super::{child, terminal};
use crate::session::Session;

/// Why a recording stops.
pub(super) enum StopReason {
    /// Its duration is over, or Ctrl-C or SIGHUP was received.
    Stopped,
    /// SIGTERM was received.
    Terminated,
    /// COMMAND has exited.
    CommandExited(ExitStatus),
}

/// Waits for a [`StopReason`].
pub(super) struct StopWatcher {
    sender: Sender<StopReason>,
    receiver: Receiver<StopReason>,
}

impl StopWatcher {
    /// Installs the signal handlers. The second signal kills the process, as without a handler.
    pub fn start() -> Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let mut signals =
            Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot install signal handlers")?;
        let reasons = sender.clone();
        thread::Builder::new().name("signals".into()).spawn(move || {
            for (count, signal) in signals.forever().enumerate() {
                if count > 0 {
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
                let reason = match signal {
                    SIGTERM => StopReason::Terminated,
                    _ => StopReason::Stopped,
                };
                if reasons.send(reason).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { sender, receiver })
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

    /// Waits for the first reason to stop, and shows the progress meanwhile.
    pub fn wait(
        &self,
        deadline: Option<Instant>,
        session: &Session,
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
                    return StopReason::Stopped;
                }
                Err(RecvTimeoutError::Timeout) => progress.update(session),
            }
        }
    }

    /// Waits for COMMAND to exit, once the files are written. Returns its exit status.
    pub fn wait_for_command(&self, pid: u32, is_quiet: bool) -> u8 {
        let mut is_announced = is_quiet;
        loop {
            match self.receiver.recv_timeout(Duration::from_secs(1)) {
                Ok(StopReason::CommandExited(status)) => return child::exit_code(status),
                Ok(StopReason::Terminated) => child::terminate(pid),
                Ok(StopReason::Stopped) => {}
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
