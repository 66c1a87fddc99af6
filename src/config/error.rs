//! Errors of a configuration: one sentence each, with its place and the next step.

use std::fmt::{self, Display};
use std::path::Path;
use std::sync::Arc;

/// Problems that are reported at once.
const PROBLEMS_MAX: usize = 20;

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
    /// A fact of this machine, as a phrase.
    Machine(String),
}

impl Origin {
    /// Sorts problems from the top of the file down, then the others.
    fn order(&self) -> (bool, usize, usize) {
        match self {
            Self::File { line, column, .. } => (false, *line, *column),
            _ => (true, 0, 0),
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
            Self::Machine(fact) => write!(out, "{fact}"),
        }
    }
}

/// One error. Its text is a sentence with the place, the cause and the next step, and never holds a
/// secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    at: Option<Origin>,
    text: String,
}

impl Problem {
    /// An error of the setting or the text at a place.
    pub(super) fn at(at: Origin, text: impl Into<String>) -> Self {
        Self { at: Some(at), text: text.into() }
    }

    /// An error whose text names its place: a file that cannot be read, a variable.
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { at: None, text: text.into() }
    }

    /// A variable that is no setting.
    pub(super) fn unknown_variable(name: &str, help: &str) -> Self {
        Self::new(format!("{name} is not a setting; {help}"))
    }
}

impl Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            Some(at) => write!(out, "{at}: {}", self.text),
            None => write!(out, "{}", self.text),
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
        let lines: Vec<String> = self.0.iter().map(Problem::to_string).collect();
        write!(out, "{}", lines.join("\n"))
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
        self.0.sort_by_key(|problem| problem.at.as_ref().map_or((true, 0, 0), Origin::order));
        if is_cut {
            self.0.push(Problem::new("there are more problems; correct these first"));
        }
        Err(ConfigError(self.0))
    }
}
