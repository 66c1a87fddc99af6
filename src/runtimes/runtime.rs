//! What each runtime provides in its own folder.

use std::fmt;
use std::ops::Range;

use profile::InterpretedLanguage;

use super::code_object::{CodeObject, CodeParts};
use super::dynamic_file::DynamicFile;
use super::recognition_error::RecognitionError;
use super::thread_value::ThreadValue;
use crate::kernel::abi::{RuntimeKind, RuntimeLayout};

/// A runtime. Versions are numbers in an encoding of its own.
pub(super) trait Runtime: fmt::Debug + Sync {
    /// Returns its kind on the kernel side.
    fn kind(&self) -> RuntimeKind;

    /// Returns the language of the functions that it runs.
    fn language(&self) -> InterpretedLanguage;

    /// Returns its name with the versions whose frames are walked.
    fn supported_versions(&self) -> &'static str;

    /// Recognizes it; `None` if the file does not contain it.
    fn recognize(
        &self,
        file: &DynamicFile<'_>,
    ) -> Option<Result<RuntimeDescription, RecognitionError>>;

    /// Returns where the fields of its structures are, for the kernel side. The description may
    /// come from the file helper, which is not trusted.
    ///
    /// # Errors
    /// If the version is not supported, or the description is not that of such a version.
    fn layout(&self, description: &RuntimeDescription) -> Result<RuntimeLayout, RecognitionError>;

    /// Returns whether files with a version describe their layout, and so confirm it.
    fn has_layout_in_file(&self, _version: u64) -> bool {
        false
    }

    /// Returns its name with a version in words, such as `CPython 3.13.0`.
    fn version_text(&self, version: u64) -> String;

    /// Returns the version as which one is counted: 3.13 for 3.13.0.
    fn counted_version(&self, version: u64) -> u64 {
        version
    }

    /// Decodes what was read of a code object.
    fn decode(&self, version: u64, parts: &CodeParts<'_>) -> CodeObject;
}

/// What a file says of the runtime that it contains. Addresses are those in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RuntimeDescription {
    /// The version, in the encoding of the runtime.
    pub version: u64,
    /// Address of the runtime's state.
    pub state: u64,
    /// Where the state of the current thread is; the first that is not 0 counts.
    pub values: [ThreadValue; 2],
    /// The evaluation loop; empty if it is not known.
    pub eval_loop: Range<u64>,
}

/// A version of a runtime. Displayed in words, such as `CPython 3.13.0`.
#[derive(Clone, Copy, Debug)]
pub struct RuntimeVersion {
    runtime: &'static dyn Runtime,
    number: u64,
}

impl RuntimeVersion {
    pub(super) fn new(runtime: &'static dyn Runtime, number: u64) -> Self {
        Self { runtime, number }
    }

    /// Returns the kind of its runtime on the kernel side.
    pub fn kind(self) -> RuntimeKind {
        self.runtime.kind()
    }

    /// Returns the version, in the encoding of its runtime.
    pub fn number(self) -> u64 {
        self.number
    }

    /// Returns the language of the functions that it runs.
    pub fn language(self) -> InterpretedLanguage {
        self.runtime.language()
    }

    /// Returns whether the file describes the layout of its structures, and so confirms it.
    pub fn has_layout_in_file(self) -> bool {
        self.runtime.has_layout_in_file(self.number)
    }

    /// Returns the version as which it is counted, such as `CPython 3.13`.
    #[must_use]
    pub fn counted(self) -> Self {
        Self { number: self.runtime.counted_version(self.number), ..self }
    }

    /// Decodes what was read of a code object in a process with this version.
    pub fn decode(self, parts: &CodeParts<'_>) -> CodeObject {
        self.runtime.decode(self.number, parts)
    }
}

impl PartialEq for RuntimeVersion {
    fn eq(&self, other: &Self) -> bool {
        (self.kind(), self.number) == (other.kind(), other.number)
    }
}

impl Eq for RuntimeVersion {}

impl fmt::Display for RuntimeVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.runtime.version_text(self.number))
    }
}
