//! Interpreters: which one a file contains, where its state is, and what its frames are called.
//!
//! A runtime is a folder here, a line in `RUNTIMES`, and the walk of its frames in the kernel. It
//! must never guess: of a version, a build or a C library that is not known, no frame is walked,
//! and the reason is counted.
//!
//! 1. The file helper recognizes a runtime or a C library in each file that it opens
//!    ([`recognize`]), and answers with a [`proto::RecognitionMessage`].
//! 2. A process that has mapped the file has a [`RuntimeProcess`], which is published to the kernel
//!    with its mappings.
//! 3. What the kernel reads of a code object becomes its name and its lines
//!    ([`cpython::CodeObject`]).

mod accessor;
mod counts;
pub mod cpython;
mod dynamic_file;
mod libc;
mod process;
pub mod proto;
mod recognition;
mod recognition_error;
#[cfg(test)]
mod tests;
mod thread_value;

use std::fs::File;

pub use counts::RuntimeCounts;
use dynamic_file::DynamicFile;
pub use libc::{Libc, LibcKind};
pub use process::RuntimeProcess;
pub use recognition::{Recognition, RuntimeFile};
pub use recognition_error::RecognitionError;
pub use thread_value::ThreadValue;

/// Recognizes a runtime; `None` if the file does not contain it.
type Recognize = fn(&DynamicFile<'_>) -> Option<Result<RuntimeFile, RecognitionError>>;

/// All runtimes. No file contains two.
const RUNTIMES: [Recognize; 1] =
    [|file| cpython::recognize(file).map(|file| file.map(RuntimeFile::Cpython))];

/// Recognizes what a file contains. Most files are neither a runtime nor a C library, which takes a
/// few reads of the file.
pub fn recognize(file: &File) -> Recognition {
    let Some(file) = DynamicFile::read(file) else { return Recognition::default() };
    let runtime = RUNTIMES.iter().find_map(|recognize| recognize(&file));
    Recognition { runtime, libc: libc::recognize(&file) }
}
