//! Why delivery cannot start or apply a new configuration.

use std::path::PathBuf;

use crate::config::ConfigError;

/// Why sinks or their spool cannot start: one sentence with the next step.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration of a sink cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No sink is configured.
    #[error("there is no sink; give at least one")]
    NoSink,
    /// The name cannot be a directory of the spool.
    #[error(
        "`{0}` cannot be the name of a sink; use 1 to 64 letters, digits, `-`, `_` and `.`, the \
         first no `.`"
    )]
    Name(String),
    /// Two sinks have one name.
    #[error("two sinks have the name `{0}`; give each its own")]
    DuplicateName(String),
    /// Another process writes into the spool.
    #[error(
        "the spool {0} is used by another everytick; stop that one, or give this one another \
         directory"
    )]
    InUse(PathBuf),
    /// Another process, or another sink of this one, writes into the directory of a sink.
    #[error(
        "the store {0} is written by another everytick; stop that one, or give this one another \
         directory"
    )]
    StoreInUse(PathBuf),
    /// The spool's directory changes only with a restart.
    #[error("the spool cannot move from {from} to {to} while the agent runs; restart it")]
    SpoolMoved {
        /// Directory in use.
        from: PathBuf,
        /// Directory in the new configuration.
        to: PathBuf,
    },
    /// The system provides no thread.
    #[error("cannot start a thread for the sink `{name}`: {source}; raise the limit of threads")]
    Thread {
        /// Name of the sink that the thread is for.
        name: String,
        /// Usually EAGAIN: a limit of threads or memory.
        source: std::io::Error,
    },
    /// The sink panicked when it was created.
    #[error("the sink `{0}` cannot be created; please report this")]
    Defect(String),
}
