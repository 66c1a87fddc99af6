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
mod thread_state;
mod version;

use profile::InterpretedLanguage;

use super::code_object::{CodeObject, CodeParts};
use super::dynamic_file::DynamicFile;
use super::recognition_error::RecognitionError;
use super::runtime::{Runtime, RuntimeDescription};
use crate::kernel::abi::{RuntimeKind, RuntimeLayout};
use debug_offsets::DebugOffsets;
use version::CpythonVersion;

/// CPython, whose versions are the numbers of [`CpythonVersion`].
#[derive(Debug)]
pub(super) struct Cpython;

impl Runtime for Cpython {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Cpython
    }

    fn language(&self) -> InterpretedLanguage {
        InterpretedLanguage::Python
    }

    fn supported_versions(&self) -> &'static str {
        "CPython 3.7 to 3.15"
    }

    fn recognize(
        &self,
        file: &DynamicFile<'_>,
    ) -> Option<Result<RuntimeDescription, RecognitionError>> {
        match file.symbol("_PyRuntime") {
            Some(runtime) => Some(describe(file, runtime.address)),
            // Up to 3.6 the state is in variables of its own.
            None => file
                .symbol("_PyThreadState_Current")
                .map(|_| Err(RecognitionError::UnsupportedVersion)),
        }
    }

    fn layout(&self, description: &RuntimeDescription) -> Result<RuntimeLayout, RecognitionError> {
        let RuntimeDescription { state, values, .. } = *description;
        let version = CpythonVersion::from_number(description.version);
        let is_known = version.is_known() && version.number() == description.version;
        let layout = layout::of_version(version).filter(|_| is_known);
        let layout = layout.ok_or(RecognitionError::UnsupportedVersion)?;
        if !thread_state::are_plausible(version, state, values) {
            return Err(RecognitionError::NoThreadState);
        }
        Ok(RuntimeLayout::of(&layout))
    }

    fn has_layout_in_file(&self, version: u64) -> bool {
        CpythonVersion::from_number(version).has_debug_offsets()
    }

    fn version_text(&self, version: u64) -> String {
        format!("CPython {}", CpythonVersion::from_number(version))
    }

    fn counted_version(&self, version: u64) -> u64 {
        CpythonVersion::from_number(version).without_micro().number()
    }

    fn decode(&self, version: u64, parts: &CodeParts<'_>) -> CodeObject {
        code_object::decode(CpythonVersion::from_number(version), parts)
    }
}

/// Returns what a file with `_PyRuntime` says of itself.
fn describe(file: &DynamicFile<'_>, state: u64) -> Result<RuntimeDescription, RecognitionError> {
    let mut version = version::of_file(file)?;
    if version.has_debug_offsets() {
        let offsets = DebugOffsets::read(file, state).ok_or(RecognitionError::UnknownLayout)?;
        if offsets.version() != version {
            return Err(RecognitionError::UnknownVersion);
        }
        version = version.with_threads(offsets.is_free_threaded());
        let layout = layout::of_version(version).ok_or(RecognitionError::UnsupportedVersion)?;
        if !offsets.agree_with(&layout) {
            return Err(RecognitionError::UnknownLayout);
        }
    }
    let values = thread_state::find(file, version, state);
    let eval_loop = file
        .symbol("_PyEval_EvalFrameDefault")
        .map_or(0..0, |symbol| symbol.address..symbol.address.saturating_add(symbol.size));
    Ok(RuntimeDescription { version: version.number(), state, values, eval_loop })
}
