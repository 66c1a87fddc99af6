//! The list of sinks: one folder and one line each.
//!
//! A sink is a folder with a `Config`, declared with [`config!`](crate::config!), and a `Sink` with
//! `new(&Config) -> Result<Self, StartError>` and `async fn send(&mut self, &Batch) -> Answer`.
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

use crate::batch::{Answer, Batch};
use crate::config::{Config as _, Conflict, DefaultValue, Input, Key, Values};
use crate::debug_info::DebugInfoSource;
use crate::transport::Connection;

/// Declares the types of sinks: `Variant("name", module)`, in the order of the documentation.
macro_rules! sink_types {
    ($($variant:ident($name:literal, $module:ident)),+ $(,)?) => {
        /// The configuration of one sink.
        #[derive(Clone, Debug, PartialEq)]
        pub enum SinkConfig {
            $(
                #[doc = concat!("Type `", $name, "`.")]
                $variant($module::Config),
            )+
            /// One that acts by the script of a test.
            #[cfg(test)]
            Scripted(scripted::ScriptedSink),
        }

        impl SinkConfig {
            /// Returns the settings that contradict each other.
            pub fn conflicts(&self) -> Vec<Conflict> {
                match self {
                    $( Self::$variant(config) => config.conflicts(), )+
                    #[cfg(test)]
                    Self::Scripted(_) => Vec::new(),
                }
            }
        }

        impl SinkType {
            /// Names of all types.
            pub const NAMES: &'static [&'static str] = &[$($name),+];

            /// Returns all types.
            pub fn all() -> Vec<Self> {
                vec![$(
                    Self {
                        name: $name,
                        help: $module::Config::help(),
                        keys: $module::Config::keys(),
                        build: |values| SinkConfig::$variant($module::Config::from_values(values)),
                    },
                )+]
            }
        }
    };
}

sink_types! {
    Parca("parca", parca),
    Pyroscope("pyroscope", pyroscope),
    Otlp("otlp", otlp),
    File("file", directory),
}

impl SinkConfig {
    /// Parses a type and its settings by path, as text without quotes. For callers without a configuration file.
    ///
    /// # Errors
    /// The first key that is unknown, invalid, missing or in conflict with another.
    pub fn parse(name: &str, settings: &[(&str, &str)]) -> Result<Self, String> {
        let types = SinkType::all();
        let sink = types.iter().find(|sink| sink.name == name);
        let sink = sink.ok_or_else(|| format!("unknown type {name:?}"))?;
        let mut values = Vec::new();
        for (path, text) in settings {
            let key = sink.keys.iter().find(|key| key.path == *path);
            let key = key.ok_or_else(|| format!("unknown key `{path}`"))?;
            let value = key.parse(&Input::Unquoted(text));
            let value = value.map_err(|e| format!("`{path}` is {}; {}", e.found, e.advice))?;
            values.push(((*path).to_owned(), value));
        }
        let is_missing = |key: &&Key| {
            matches!(key.default, DefaultValue::Required(_))
                && settings.iter().all(|(path, _)| *path != key.path)
        };
        if let Some(key) = sink.keys.iter().find(is_missing) {
            return Err(format!("`{}` is missing", key.path));
        }
        let config = (sink.build)(&values.into_iter().collect());
        match config.conflicts().first() {
            Some(conflict) => Err(conflict.to_string()),
            None => Ok(config),
        }
    }
}

/// A type of sinks.
#[derive(Debug)]
pub struct SinkType {
    /// The value of the key `type`.
    pub name: &'static str,
    /// Its documentation.
    pub help: String,
    /// Its keys.
    pub keys: Vec<Key>,
    /// Builds the configuration of a sink from the values of its keys.
    pub build: fn(&Values) -> SinkConfig,
}

impl SinkType {
    /// Lists the names as values: `"a", "b" or "c"`.
    pub fn names_in_words() -> String {
        let quoted: Vec<String> = Self::NAMES.iter().map(|name| format!("{name:?}")).collect();
        match quoted.split_last() {
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => String::new(),
        }
    }

    /// Returns the keys that only this type has: not those of [`Connection`].
    pub fn own_keys(&self) -> impl Iterator<Item = &Key> {
        let shared = Connection::keys();
        self.keys.iter().filter(move |key| !shared.contains(key))
    }

    /// Whether the sink has a [`Connection`] to a server.
    pub fn is_server(&self) -> bool {
        self.own_keys().count() < self.keys.len()
    }
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
        config: &SinkConfig,
        debug_info: Option<&Arc<dyn DebugInfoSource>>,
    ) -> Result<Self, StartError> {
        if let Some(conflict) = config.conflicts().first() {
            return Err(StartError::Settings(conflict.to_string()));
        }
        Ok(match config {
            SinkConfig::File(config) => Self::File(directory::Sink::new(config)),
            SinkConfig::Parca(config) => {
                Self::Parca(Box::new(parca::Sink::new(config, debug_info)?))
            }
            SinkConfig::Pyroscope(config) => {
                Self::Pyroscope(Box::new(pyroscope::Sink::new(config, debug_info)?))
            }
            SinkConfig::Otlp(config) => Self::Otlp(Box::new(otlp::Sink::new(config)?)),
            #[cfg(test)]
            SinkConfig::Scripted(script) => Self::Scripted(script.start()?),
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
