//! Errors of a configuration: one sentence each, with its place and the next step.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use upload::config::units::format_bytes;

/// Problems that are reported at once.
const PROBLEMS_MAX: usize = 20;
/// Largest file, in bytes.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 20;

/// The source of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The key is not set.
    Default,
    /// A place in the file.
    File {
        /// Path of the file.
        path: Arc<Path>,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
    },
    /// A variable of the environment.
    Environment(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl Origin {
    /// Sorts problems from the top of the file down, then the others.
    fn order(&self) -> (bool, usize, usize) {
        match self {
            Self::File { line, column, .. } => (false, *line, *column),
            Self::Default | Self::Environment(_) | Self::Flag(_) => (true, 0, 0),
        }
    }
}

impl Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(out, "default"),
            Self::File { path, line, column } => {
                write!(out, "{}:{line}:{column}", path.display())
            }
            Self::Environment(name) => write!(out, "{name}"),
            Self::Flag(name) => write!(out, "{name}"),
        }
    }
}

/// One error. Its text never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    /// The named file does not exist.
    #[error("{}: no such file; check the path after --config", .path.display())]
    NoFile {
        /// The path as it was given.
        path: PathBuf,
    },
    /// A directory, a device or the like.
    #[error("{}: not a regular file; give the path of a file after --config", .path.display())]
    NotAFile {
        /// The path as it was given.
        path: PathBuf,
    },
    /// Larger than any configuration.
    #[error(
        "{}: the file is larger than {}; a configuration is a few pages, so check the path",
        .path.display(),
        format_bytes(FILE_BYTES_MAX)
    )]
    TooLarge {
        /// The path as it was given.
        path: PathBuf,
    },
    /// The system refuses to read it.
    #[error("{}: cannot read the file: {error}; make it readable for the user that everytick runs as", .path.display())]
    Unreadable {
        /// The path as it was given.
        path: PathBuf,
        /// The error of the system.
        error: String,
    },
    /// Not text.
    #[error("{at}: not UTF-8; save the file as UTF-8")]
    NotUtf8 {
        /// The first invalid byte.
        at: Origin,
    },
    /// Not TOML.
    #[error("{at}: not TOML: {message}; {step}")]
    Syntax {
        /// The first place that is invalid.
        at: Origin,
        /// The parser's message, or a better one.
        message: String,
        /// The next step.
        step: String,
    },
    /// No section has this name.
    #[error("{at}: unknown section [{name}]; {help}")]
    UnknownSection {
        /// Where it is named.
        at: Origin,
        /// Its name.
        name: String,
        /// A suggestion.
        help: String,
    },
    /// The section has no such key.
    #[error("{at}: unknown key `{key}` {}; {help}", in_section(.section))]
    UnknownKey {
        /// Where it is named.
        at: Origin,
        /// Its path in the section.
        key: String,
        /// The section; empty for a key above all sections.
        section: String,
        /// A suggestion.
        help: String,
    },
    /// No setting has this variable.
    #[error("{name} is not a setting; {help}")]
    UnknownVariable {
        /// Its name.
        name: String,
        /// A suggestion.
        help: String,
    },
    /// The value of a variable is not text.
    #[error("{name} is not UTF-8; set it again")]
    VariableNotUtf8 {
        /// Its name.
        name: String,
    },
    /// A variable of OpenTelemetry with an invalid value.
    #[error("{text}")]
    OpenTelemetry {
        /// Its name, the cause, and the next step.
        text: String,
    },
    /// A key does not accept the value.
    #[error("{}{what} is {found}; {advice}", in_file(.at))]
    InvalidValue {
        /// Where it is set.
        at: Origin,
        /// The key, variable or flag.
        what: String,
        /// The value.
        found: String,
        /// The next step.
        advice: String,
    },
    /// A sink lacks a required key.
    #[error("{at}: [sinks.{sink}] has no `{key}`; {step}")]
    MissingKey {
        /// Where the sink is first named.
        at: Origin,
        /// Its name.
        sink: String,
        /// The key.
        key: String,
        /// The next step.
        step: String,
    },
    /// Settings that contradict each other, or something else that needs a sentence of its own.
    #[error("{at}: {text}")]
    Invalid {
        /// One of the settings.
        at: Origin,
        /// The cause and the next step.
        text: String,
    },
    /// Further problems are left out.
    #[error("there are more problems; correct these first")]
    More,
}

/// A place in a file precedes the message; a variable or a flag is part of it.
fn in_file(at: &Origin) -> String {
    match at {
        Origin::File { .. } => format!("{at}: "),
        Origin::Default | Origin::Environment(_) | Origin::Flag(_) => String::new(),
    }
}

fn in_section(section: &str) -> String {
    match section {
        "" => "above all sections".to_owned(),
        name => format!("in [{name}]"),
    }
}

impl Problem {
    fn at(&self) -> Option<&Origin> {
        match self {
            Self::NotUtf8 { at }
            | Self::Syntax { at, .. }
            | Self::UnknownSection { at, .. }
            | Self::UnknownKey { at, .. }
            | Self::InvalidValue { at, .. }
            | Self::MissingKey { at, .. }
            | Self::Invalid { at, .. } => Some(at),
            _ => None,
        }
    }
}

/// Everything that is wrong with a configuration; its text has a line for each problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(Vec<Problem>);

impl ConfigError {
    /// Returns the problems: from the top of the file down, then those of the environment.
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { "\n" };
            write!(out, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// Problems as they are found, up to [`PROBLEMS_MAX`].
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    /// Adds a problem; drops it if there are enough.
    pub fn push(&mut self, problem: Problem) {
        if !self.is_full() {
            self.0.push(problem);
        }
    }

    /// Whether a search for more can stop.
    pub fn is_full(&self) -> bool {
        self.0.len() > PROBLEMS_MAX
    }

    /// Returns `value` if there is no problem.
    pub fn or<T>(mut self, value: T) -> Result<T, ConfigError> {
        if self.0.is_empty() {
            return Ok(value);
        }
        let is_cut = self.is_full();
        self.0.truncate(PROBLEMS_MAX);
        self.0.sort_by_key(|problem| problem.at().map_or((true, 0, 0), Origin::order));
        if is_cut {
            self.0.push(Problem::More);
        }
        Err(ConfigError(self.0))
    }
}
