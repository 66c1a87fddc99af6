//! What is wrong with a configuration: one sentence each, with its place and the next step.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::file::FILE_BYTES_MAX;
use super::units::bytes_text;

/// Problems that are told; whoever has more corrects these first.
const PROBLEMS_MAX: usize = 20;

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A place in the file.
    File {
        /// Which file.
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
    /// Orders problems as they are read: from the top of the file down, then the rest.
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

/// One thing that is wrong. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    /// The file that was asked for is not there.
    #[error("{}: there is no such file; check the path after --config", .path.display())]
    NoFile {
        /// As it was given.
        path: PathBuf,
    },
    /// A directory, a device or the like.
    #[error("{}: this is not a file; give the path of a file after --config", .path.display())]
    NotAFile {
        /// As it was given.
        path: PathBuf,
    },
    /// Nobody writes so much.
    #[error(
        "{}: the file is larger than {}; a configuration is a few pages, so check the path",
        .path.display(),
        bytes_text(FILE_BYTES_MAX)
    )]
    TooLarge {
        /// As it was given.
        path: PathBuf,
    },
    /// The system does not let us read it.
    #[error("{}: the file cannot be read: {error}; make it readable for the user that everytick runs as", .path.display())]
    Unreadable {
        /// As it was given.
        path: PathBuf,
        /// What the system says.
        error: String,
    },
    /// Bytes that are no text.
    #[error("{at}: this is not UTF-8; save the file as UTF-8")]
    NotUtf8 {
        /// The first such byte.
        at: Origin,
    },
    /// Not TOML.
    #[error("{at}: this is not TOML: {message}; {step}")]
    Syntax {
        /// Where it stops to be.
        at: Origin,
        /// What the parser says.
        message: String,
        /// What to do.
        step: String,
    },
    /// A section that there is not.
    #[error("{at}: unknown section [{name}]; {help}")]
    UnknownSection {
        /// Where it is named.
        at: Origin,
        /// Its name.
        name: String,
        /// What may be meant.
        help: String,
    },
    /// A key that its section does not have.
    #[error("{at}: unknown key `{key}` {}; {help}", within(.section))]
    UnknownKey {
        /// Where it is named.
        at: Origin,
        /// Its name in the section.
        key: String,
        /// The section, nothing above all sections.
        section: String,
        /// What may be meant.
        help: String,
    },
    /// A variable that there is not.
    #[error("{name} is no setting; {help}")]
    UnknownVariable {
        /// Its name.
        name: String,
        /// What may be meant.
        help: String,
    },
    /// A variable whose text is none.
    #[error("{name} is not UTF-8; set it again")]
    VariableNotUtf8 {
        /// Its name.
        name: String,
    },
    /// A variable of OpenTelemetry that cannot be followed.
    #[error("{text}")]
    OpenTelemetry {
        /// Its name, why, and the next step.
        text: String,
    },
    /// A key with a value that it does not take.
    #[error("{}{what} is {found}; {give}", place(.at))]
    Value {
        /// Where it was set.
        at: Origin,
        /// What was set.
        what: String,
        /// To what.
        found: String,
        /// What to give instead.
        give: String,
    },
    /// A sink without a key that it must have.
    #[error("{at}: [sinks.{sink}] has no `{key}`; {step}")]
    MissingKey {
        /// Where the sink is first named.
        at: Origin,
        /// Its name.
        sink: String,
        /// The key.
        key: &'static str,
        /// What to write.
        step: String,
    },
    /// Settings that do not fit together, with the next step.
    #[error("{at}: {text}")]
    Refused {
        /// One of them.
        at: Origin,
        /// Why.
        text: String,
    },
    /// So many that the rest is left out.
    #[error("there are more problems than these; correct these first")]
    More,
}

/// A place in a file stands in front; a variable or a flag is what was set.
fn place(at: &Origin) -> String {
    match at {
        Origin::File { .. } => format!("{at}: "),
        Origin::Default | Origin::Environment(_) | Origin::Flag(_) => String::new(),
    }
}

fn within(section: &str) -> String {
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
            | Self::Value { at, .. }
            | Self::MissingKey { at, .. }
            | Self::Refused { at, .. } => Some(at),
            _ => None,
        }
    }
}

/// All that is wrong with a configuration.
///
/// Its text has a line for each problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(Vec<Problem>);

impl ConfigError {
    /// Gives the problems, from the top of the file down, then those of the environment.
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

/// Problems as they are found, so many as a person reads.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    /// Adds one, unless there are enough.
    pub fn push(&mut self, problem: Problem) {
        if self.is_full() {
            return;
        }
        self.0.push(problem);
    }

    /// Says that there are enough: looking for more is in vain.
    pub fn is_full(&self) -> bool {
        self.0.len() > PROBLEMS_MAX
    }

    /// Gives `value` if nothing is wrong.
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
