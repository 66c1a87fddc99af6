//! What ends a recording: the time, a signal, or COMMAND.

use std::process::{Child, ExitStatus};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::meter::Meter;
use super::{child, terminal};
use crate::session::Session;

/// What ends a recording.
pub(super) enum End {
    /// The time is over, or Ctrl-C or a hang-up.
    Stopped,
    /// SIGTERM.
    Terminated,
    /// COMMAND has ended.
    Command(ExitStatus),
}

/// Waits for what ends a recording.
pub(super) struct Ends {
    sender: Sender<End>,
    receiver: Receiver<End>,
}

impl Ends {
    /// Takes over the signals that stop us. A second one kills, as if there were no handler.
    pub fn watch() -> Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let mut signals =
            Signals::new([SIGINT, SIGTERM, SIGHUP]).context("signals cannot be watched")?;
        let ends = sender.clone();
        thread::Builder::new().name("signals".into()).spawn(move || {
            for (count, signal) in signals.forever().enumerate() {
                if count > 0 {
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
                let end = if signal == SIGTERM { End::Terminated } else { End::Stopped };
                if ends.send(end).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { sender, receiver })
    }

    /// Waits for COMMAND beside everything else.
    pub fn watch_command(&self, mut command: Child) -> Result<()> {
        let ends = self.sender.clone();
        let wait = move || {
            if let Ok(status) = command.wait() {
                let _ = ends.send(End::Command(status));
            }
        };
        thread::Builder::new().name("command".into()).spawn(wait)?;
        Ok(())
    }

    /// Waits for the first end, and shows meanwhile how it goes.
    pub fn wait(&self, deadline: Option<Instant>, session: &Session, meter: &mut Meter) -> End {
        loop {
            let next = deadline.map_or(meter.next(), |deadline| deadline.min(meter.next()));
            match self.receiver.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(end) => return end,
                Err(RecvTimeoutError::Disconnected) => return End::Stopped, // we hold a sender: cannot be
                Err(RecvTimeoutError::Timeout)
                    if deadline.is_some_and(|deadline| deadline <= Instant::now()) =>
                {
                    return End::Stopped;
                }
                Err(RecvTimeoutError::Timeout) => meter.show(session),
            }
        }
    }

    /// Waits for COMMAND after the files are written, and gives its exit status.
    pub fn wait_for_command(&self, pid: u32, is_quiet: bool) -> u8 {
        let mut is_told = is_quiet;
        loop {
            match self.receiver.recv_timeout(Duration::from_secs(1)) {
                Ok(End::Command(status)) => return child::exit_code(status),
                Ok(End::Terminated) => child::terminate(pid),
                Ok(End::Stopped) => {}
                Err(RecvTimeoutError::Disconnected) => return 1,
                Err(RecvTimeoutError::Timeout) if !is_told => {
                    terminal::line(&format!(
                        "everytick: waiting for the command (process {pid}) to end"
                    ));
                    is_told = true;
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}
