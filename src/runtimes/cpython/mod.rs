//! CPython 3.7 to 3.15: recognizes it in a file, and knows its structures.
//!
//! Every build exports `_PyRuntime`, because extension modules need it: stripped files do, too, and
//! programs that contain the interpreter.

mod code_object;
mod debug_offsets;
mod layout;
mod line_table;
#[cfg(test)]
mod tests;
mod text;
mod thread_state;
mod version;

use std::ops::Range;

use super::dynamic_file::DynamicFile;
use super::recognition_error::RecognitionError;
use super::thread_value::{ThreadValue, is_user_pointer};
use crate::kernel::abi::CpythonLayout;
pub use code_object::{CodeObject, CodeParts};
use debug_offsets::DebugOffsets;
pub use text::TextPart;
pub use version::CpythonVersion;

/// CPython in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpythonFile {
    /// Its version.
    pub version: CpythonVersion,
    /// It has no global lock.
    pub is_free_threaded: bool,
    /// Address in the file of `_PyRuntime`.
    pub state: u64,
    /// Where the state of the current thread is; the first that is not 0 counts.
    pub values: [ThreadValue; 2],
    /// Where the fields of its structures are.
    pub layout: CpythonLayout,
    /// Addresses in the file of the evaluation loop; empty if it is not exported.
    pub eval_loop: Range<u64>,
}

impl CpythonFile {
    /// Returns what is known by the version, and by the addresses in the file.
    ///
    /// # Errors
    /// If the version is not supported, or nothing else is known of such a build.
    pub(super) fn new(
        version: CpythonVersion,
        is_free_threaded: bool,
        state: u64,
        values: [ThreadValue; 2],
        eval_loop: Range<u64>,
    ) -> Result<Self, RecognitionError> {
        let layout = layout::of_version(version, is_free_threaded)
            .ok_or(RecognitionError::UnsupportedVersion)?;
        if !is_user_pointer(state, 8) {
            return Err(RecognitionError::Malformed);
        }
        if !thread_state::are_plausible(version, is_free_threaded, state, values) {
            return Err(RecognitionError::NoThreadState);
        }
        Ok(Self { version, is_free_threaded, state, values, layout, eval_loop })
    }
}

/// Recognizes CPython; `None` if the file does not contain it.
pub(super) fn recognize(file: &DynamicFile<'_>) -> Option<Result<CpythonFile, RecognitionError>> {
    match file.symbol("_PyRuntime") {
        Some(runtime) => Some(read(file, runtime.address)),
        // Up to 3.6 the state is in variables of its own.
        None => {
            file.symbol("_PyThreadState_Current").map(|_| Err(RecognitionError::UnsupportedVersion))
        }
    }
}

/// Reads what a file with `_PyRuntime` says of itself.
fn read(file: &DynamicFile<'_>, state: u64) -> Result<CpythonFile, RecognitionError> {
    let version = version::of_file(file)?;
    let mut is_free_threaded = false;
    if version.has_debug_offsets() {
        let offsets = DebugOffsets::read(file, state).ok_or(RecognitionError::UnknownLayout)?;
        if offsets.version() != version {
            return Err(RecognitionError::UnknownVersion);
        }
        is_free_threaded = offsets.is_free_threaded();
        let layout = layout::of_version(version, is_free_threaded)
            .ok_or(RecognitionError::UnsupportedVersion)?;
        if !offsets.agree_with(&layout) {
            return Err(RecognitionError::UnknownLayout);
        }
    }
    let values = thread_state::find(file, version, is_free_threaded, state);
    let eval_loop = file
        .symbol("_PyEval_EvalFrameDefault")
        .map_or(0..0, |symbol| symbol.address..symbol.address.saturating_add(symbol.size));
    CpythonFile::new(version, is_free_threaded, state, values, eval_loop)
}
