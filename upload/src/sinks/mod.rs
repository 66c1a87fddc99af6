//! The list of sinks: one folder and one line each.
//!
//! A sink is a folder with a `Settings` (serde with `deny_unknown_fields` and `default`,
//! `Clone`, `Debug` without secrets, `PartialEq`) and a `Sink` with
//! `new(&Settings) -> Result<Self, StartError>` and `async fn send(&mut self, &Batch) -> Answer`.
//! `new` does not speak to the server, which may be down. `send` answers within a bounded
//! time and may be dropped in the middle. It runs on a thread of its own, so that one
//! that blocks delays nobody else.

pub mod directory;
pub mod otlp;
pub mod parca;
mod parts;
pub mod pyroscope;
#[cfg(test)]
pub(crate) mod scripted;
mod symbolize;

pub use symbolize::Symbolize;

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use crate::batch::{Answer, Batch};
use crate::debug_info::DebugInfoSource;

/// Settings of one sink; `type` says which.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum SinkSettings {
    /// A directory with a file for each window.
    File(directory::Settings),
    /// Parca.
    Parca(parca::Settings),
    /// Pyroscope.
    Pyroscope(pyroscope::Settings),
    /// A receiver of OTLP, such as the OpenTelemetry Collector.
    Otlp(otlp::Settings),
    /// One that does what a test says.
    #[cfg(test)]
    #[serde(skip)]
    Scripted(scripted::ScriptedSink),
}

/// Why sinks or their spool cannot start: one sentence with the next step.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Settings that cannot be followed.
    #[error("{0}")]
    Settings(String),
    /// A file that they name cannot be read.
    #[error("cannot read {path}: {source}; check the path and its permissions")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
    /// There is nowhere to deliver to.
    #[error("there is no sink; give at least one")]
    NoSink,
    /// A name that cannot be a directory of the spool.
    #[error(
        "`{0}` cannot be the name of a sink; use 1 to 64 letters, digits, `-`, `_` and `.`, the first no `.`"
    )]
    Name(String),
    /// Two sinks have one name.
    #[error("two sinks have the name `{0}`; give each its own")]
    Twice(String),
    /// Another process writes into the spool.
    #[error(
        "the spool {0} is used by another everytick; stop that one, or give this one another directory"
    )]
    InUse(PathBuf),
    /// What only another start can change.
    #[error("the spool cannot move from {from} to {to} while the agent runs; restart it")]
    SpoolMoved {
        /// Where it is.
        from: PathBuf,
        /// Where it should be.
        to: PathBuf,
    },
    /// The system gives no thread.
    #[error("cannot start a thread for the sink `{name}`: {source}; raise the limit of threads")]
    Thread {
        /// The sink.
        name: String,
        /// What the system answered.
        source: std::io::Error,
    },
}

/// A sink that runs.
pub(crate) enum Sink {
    /// A directory with a file for each window.
    File(directory::Sink),
    /// Parca.
    Parca(Box<parca::Sink>),
    /// Pyroscope.
    Pyroscope(Box<pyroscope::Sink>),
    /// A receiver of OTLP.
    Otlp(Box<otlp::Sink>),
    #[cfg(test)]
    Scripted(scripted::ScriptedSink),
}

impl Sink {
    /// Makes a sink. To be called within a runtime of tokio; does not speak to the server.
    ///
    /// # Errors
    /// [`StartError`] for settings that cannot be followed.
    pub fn new(
        settings: &SinkSettings,
        debug_info: Option<&Arc<dyn DebugInfoSource>>,
    ) -> Result<Self, StartError> {
        Ok(match settings {
            SinkSettings::File(settings) => Self::File(directory::Sink::new(settings)?),
            SinkSettings::Parca(settings) => {
                Self::Parca(Box::new(parca::Sink::new(settings, debug_info)?))
            }
            SinkSettings::Pyroscope(settings) => {
                Self::Pyroscope(Box::new(pyroscope::Sink::new(settings, debug_info)?))
            }
            SinkSettings::Otlp(settings) => Self::Otlp(Box::new(otlp::Sink::new(settings)?)),
            #[cfg(test)]
            SinkSettings::Scripted(script) => Self::Scripted(script.start()?),
        })
    }

    /// Sends a batch.
    pub async fn send(&mut self, batch: &Batch) -> Answer {
        match self {
            Self::File(sink) => sink.send(batch).await,
            Self::Parca(sink) => sink.send(batch).await,
            Self::Pyroscope(sink) => sink.send(batch).await,
            Self::Otlp(sink) => sink.send(batch).await,
            #[cfg(test)]
            Self::Scripted(script) => script.send(batch).await,
        }
    }
}
