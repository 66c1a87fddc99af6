//! What is recognized in a file.

use super::cpython::CpythonFile;
use super::libc::Libc;
use super::recognition_error::RecognitionError;

/// A runtime in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeFile {
    /// CPython.
    Cpython(CpythonFile),
}

impl RuntimeFile {
    /// Returns the version in words, such as `CPython 3.13.0`.
    pub fn text(&self) -> String {
        match self {
            Self::Cpython(file) => {
                let threads = if file.is_free_threaded { " free-threaded" } else { "" };
                format!("CPython {}{threads}", file.version)
            }
        }
    }
}

/// What is recognized in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recognition {
    /// A runtime, or why its frames are not walked.
    pub runtime: Option<Result<RuntimeFile, RecognitionError>>,
    /// A C library, or why the values of its threads are not read.
    pub libc: Option<Result<Libc, RecognitionError>>,
}

impl Recognition {
    /// Returns whether the file is neither.
    pub fn is_empty(&self) -> bool {
        self.runtime.is_none() && self.libc.is_none()
    }
}
