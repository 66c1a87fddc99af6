//! The signals that control the agent.

use std::io;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use super::stop_deadline;
use crate::procfs;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGTERM, SIGQUIT or Ctrl-C.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// The queue of received signals.
pub(super) struct Signals(Receiver<Signal>);

impl Signals {
    /// Installs the handlers. The agent stops within seconds of the first [`Signal::Stop`]; only a
    /// Ctrl-C after it kills the process, as without a handler.
    pub fn watch() -> io::Result<Self> {
        let mut caught = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGQUIT, SIGHUP])?;
        let (sender, receiver) = mpsc::channel();
        thread::Builder::new().name("signals".into()).spawn(move || {
            let mut is_stopping = false;
            for number in caught.forever() {
                let signal = if number == SIGHUP { Signal::Reload } else { Signal::Stop };
                if is_stopping && number == SIGINT && is_foreground() {
                    let _ = signal_hook::low_level::emulate_default_handler(number);
                }
                if signal == Signal::Stop && !is_stopping {
                    is_stopping = true;
                    stop_deadline::start();
                }
                if sender.send(signal).is_err() && signal == Signal::Reload {
                    return;
                }
            }
        })?;
        Ok(Self(receiver))
    }

    /// Returns the next signal, or `None` at `deadline`.
    pub fn wait(&self, deadline: Instant) -> Option<Signal> {
        self.0.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
    }
}

/// Returns whether a key of the terminal can have sent a signal.
fn is_foreground() -> bool {
    procfs::stat(std::process::id()).is_some_and(|stat| stat.is_foreground)
}
