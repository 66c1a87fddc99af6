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
//!    ([`RuntimeVersion::decode`]).

mod accessor;
mod code_object;
mod counts;
mod cpython;
mod dynamic_file;
mod libc;
mod process;
pub mod proto;
mod recognition;
mod recognition_error;
mod runtime;
#[cfg(test)]
mod tests;
mod text;
mod thread_value;

use std::fs::File;

pub use code_object::{CodeObject, CodeParts};
pub use counts::RuntimeCounts;
use cpython::Cpython;
use dynamic_file::DynamicFile;
pub use libc::{Libc, LibcKind};
pub use process::RuntimeProcess;
pub use recognition::{Recognition, RuntimeFile};
pub use recognition_error::RecognitionError;
use runtime::Runtime;
pub use runtime::RuntimeVersion;
pub use text::TextPart;
pub use thread_value::ThreadValue;

/// All runtimes. No file contains two.
const RUNTIMES: [&dyn Runtime; 1] = [&Cpython];

/// Recognizes what a file contains. Most files are neither a runtime nor a C library, which takes a
/// few reads of the file.
pub fn recognize(file: &File) -> Recognition {
    let Some(file) = DynamicFile::read(file) else { return Recognition::default() };
    let runtime = RUNTIMES.into_iter().find_map(|runtime| {
        let description = runtime.recognize(&file)?;
        Some(description.and_then(|description| RuntimeFile::new(runtime, description)))
    });
    Recognition { runtime, libc: libc::recognize(&file) }
}

/// Returns the runtimes with the versions whose frames are walked: `CPython 3.7 to 3.15`.
pub fn supported_versions() -> String {
    RUNTIMES.map(|runtime| runtime.supported_versions()).join(", ")
}
