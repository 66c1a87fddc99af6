//! What is recognized in a file.

use std::ops::Range;

use super::libc::Libc;
use super::recognition_error::RecognitionError;
use super::runtime::{Runtime, RuntimeDescription, RuntimeVersion};
use super::thread_value::{ThreadValue, is_user_pointer};
use crate::kernel::abi::RuntimeLayout;

/// A runtime in a file. Addresses are those in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeFile {
    /// Which runtime, and its version.
    pub version: RuntimeVersion,
    /// Address of the runtime's state.
    pub state: u64,
    /// Where the state of the current thread is; the first that is not 0 counts.
    pub values: [ThreadValue; 2],
    /// Where the fields of its structures are.
    pub layout: RuntimeLayout,
    /// Addresses of its evaluation loop; empty if they are not known.
    pub eval_loop: Range<u64>,
}

impl RuntimeFile {
    /// Returns what is known of a runtime by what its file says.
    ///
    /// # Errors
    /// If the version is not supported, or the description is not that of such a version.
    pub(super) fn new(
        runtime: &'static dyn Runtime,
        description: RuntimeDescription,
    ) -> Result<Self, RecognitionError> {
        let layout = runtime.layout(&description)?;
        let RuntimeDescription { version, state, values, eval_loop } = description;
        if !is_user_pointer(state, 8) {
            return Err(RecognitionError::Malformed);
        }
        if values[0] == ThreadValue::None || !values.iter().all(|value| value.is_plausible()) {
            return Err(RecognitionError::NoThreadState);
        }
        let version = RuntimeVersion::new(runtime, version);
        Ok(Self { version, state, values, layout, eval_loop })
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
