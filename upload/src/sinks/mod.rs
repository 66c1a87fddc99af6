//! The sinks: a folder each, and one list from which everything else follows.
//!
//! To add a sink, write its folder, declare the module and add it to the list `sinks!`. The folders
//! have the same files where they need them:
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | `Sink` |
//! | `config.rs` | `Config` |
//! | `encode.rs` | a batch as the messages of the protocol |
//! | `retry.rs` | the retry policy of the protocol |
//! | `proto.rs` | generated messages |
//! | `debug_info.rs` | the upload of debug info |
//!
//! The contract of a sink:
//!
//! - `Config` is declared with [`config!`](crate::config!) and has a method `conflicts`.
//! - `Sink::new(&Config, Option<&Arc<dyn DebugInfoSource>>) -> Result<Self, ConfigError>` does not
//!   connect: the server may be down. It is called within a tokio runtime, without conflicts in the
//!   configuration.
//! - `async fn send(&mut self, &Batch) -> Answer` returns within a bounded time and may be
//!   cancelled at any await. A sink has a thread of its own, so one that blocks delays no other.
//! - `take_responses(&mut self) -> ResponseCounts` returns the server's responses since the last
//!   call, by code.

pub mod directory;
pub mod otlp;
pub mod parca;
pub mod pyroscope;
#[cfg(test)]
pub(crate) mod scripted;
mod send_plan;
mod symbolize;

pub use symbolize::Symbolize;

use std::sync::Arc;
use std::time::Duration;

use crate::batch::{Answer, Batch};
use crate::config::{Config as _, ConfigError, Conflict, DefaultValue, Input, Key, Values};
use crate::debug_info::DebugInfoSource;
use crate::disk::InUse;
use crate::transport::{Connection, ResponseCounts};

/// Declares the sinks: `Variant("type", module)`, in the order of the documentation.
macro_rules! sinks {
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

        /// A running sink.
        pub(crate) enum Sink {
            $( $variant(Box<$module::Sink>), )+
            #[cfg(test)]
            Scripted(scripted::ScriptedSink),
        }

        impl Sink {
            /// Creates the sink. Must be called within a tokio runtime; does not connect.
            ///
            /// # Errors
            /// The first conflict of the configuration, or a file that cannot be used.
            pub fn new(
                config: &SinkConfig,
                debug_info: Option<&Arc<dyn DebugInfoSource>>,
            ) -> Result<Self, ConfigError> {
                if let Some(conflict) = config.conflicts().first() {
                    return Err(ConfigError::Invalid(conflict.to_string()));
                }
                Ok(match config {
                    $( SinkConfig::$variant(config) => {
                        Self::$variant(Box::new($module::Sink::new(config, debug_info)?))
                    } )+
                    #[cfg(test)]
                    SinkConfig::Scripted(script) => Self::Scripted(script.start()?),
                })
            }

            /// Returns the server's responses since the last call, by code.
            pub fn take_responses(&mut self) -> ResponseCounts {
                match self {
                    $( Self::$variant(sink) => sink.take_responses(), )+
                    #[cfg(test)]
                    Self::Scripted(script) => script.take_responses(),
                }
            }

            /// Sends a batch.
            pub async fn send(&mut self, batch: &Batch) -> Answer {
                match self {
                    $( Self::$variant(sink) => sink.send(batch).await, )+
                    #[cfg(test)]
                    Self::Scripted(script) => script.send(batch).await,
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

sinks! {
    Parca("parca", parca),
    Pyroscope("pyroscope", pyroscope),
    Otlp("otlp", otlp),
    File("file", directory),
}

impl Sink {
    /// Claims the destination where only one agent may write, as in a directory. An error of the
    /// disk is none here: the claim is repeated with the first batch.
    ///
    /// `wait`: how long to wait for another agent to release it.
    ///
    /// # Errors
    /// [`InUse`].
    pub fn claim(&mut self, wait: Duration) -> Result<(), InUse> {
        match self {
            Self::File(sink) => sink.claim(wait),
            _ => Ok(()),
        }
    }

    /// Returns whether the destination is on this machine.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::File(_))
    }
}

impl SinkConfig {
    /// Parses a type and its settings by path, as text without quotes. For callers without a
    /// configuration file.
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
    /// Text of the manual about it.
    pub help: String,
    /// Keys of its configuration, those of a [`Connection`] included.
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
