//! The signals that steer the agent.

use std::io;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGTERM or Ctrl-C.
    Stop,
    /// SIGHUP.
    Reload,
}

/// Signals that have come and were not waited for yet.
pub(super) struct Signals(Receiver<Signal>);

impl Signals {
    /// Takes the signals over. The second that asks to stop kills, as if there were no handler.
    pub fn watch() -> io::Result<Self> {
        let mut caught = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let (sender, receiver) = mpsc::channel();
        thread::Builder::new().name("signals".into()).spawn(move || {
            let mut is_stopping = false;
            for signal in caught.forever() {
                let what = if signal == SIGHUP { Signal::Reload } else { Signal::Stop };
                if is_stopping && what == Signal::Stop {
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
                is_stopping |= what == Signal::Stop;
                if sender.send(what).is_err() && what == Signal::Reload {
                    return;
                }
            }
        })?;
        Ok(Self(receiver))
    }

    /// Waits for a signal until a moment.
    pub fn wait(&self, until: Instant) -> Option<Signal> {
        self.0.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
    }
}
