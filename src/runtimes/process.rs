//! A runtime in a process: what the kernel side needs to walk its frames.

use std::ops::Range;

use super::libc::{Libc, LibcKind};
use super::recognition::RuntimeFile;
use super::recognition_error::RecognitionError;
use super::runtime::RuntimeVersion;
use super::thread_value::{ThreadValue, USER_ADDRESSES_END};
use crate::kernel::abi::RuntimeLayout;

/// A runtime in the memory of a process. The kernel side has the same structure, without the
/// version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeProcess {
    /// By which the names and the lines of its code objects are decoded.
    pub version: RuntimeVersion,
    /// Address of the runtime's state.
    pub state: u64,
    /// Where the state of the current thread is, the first that is not 0 counts. Addresses are
    /// those of the process.
    pub values: [ThreadValue; 2],
    /// Where the C library has the values of pthread_setspecific; 0 if no value is one of these.
    pub specific: u32,
    /// The C library of the process.
    pub libc: LibcKind,
    /// Where the fields of the runtime's structures are.
    pub layout: RuntimeLayout,
    /// Addresses of its evaluation loop; empty if they are not known.
    pub eval_loop: Range<u64>,
}

impl RuntimeProcess {
    /// Returns the runtime of a process that has mapped its file. `bias`: of the file's addresses,
    /// which is the start of a mapping minus the address in the file of its first byte. `libc`: the
    /// C library of the process, if a known one is mapped.
    ///
    /// # Errors
    /// If the threads' state cannot be read without a C library.
    pub fn new(
        file: &RuntimeFile,
        bias: u64,
        libc: Option<Libc>,
    ) -> Result<Self, RecognitionError> {
        let needs_libc =
            |value: &ThreadValue| !matches!(value, ThreadValue::None | ThreadValue::Static(_));
        let mut values = [ThreadValue::None; 2];
        let readable = file
            .values
            .into_iter()
            .filter(|value| *value != ThreadValue::None && (libc.is_some() || !needs_libc(value)));
        for (slot, value) in values.iter_mut().zip(readable) {
            *slot = value.relocated(bias);
        }
        if values[0] == ThreadValue::None {
            return Err(RecognitionError::NoLibrary);
        }
        let state = file.state.wrapping_add(bias);
        if state >= USER_ADDRESSES_END || !values.iter().all(|value| value.is_plausible()) {
            return Err(RecognitionError::Malformed);
        }
        let has_key = values.iter().any(|value| matches!(value, ThreadValue::Key(_)));
        Ok(Self {
            version: file.version,
            state,
            values,
            specific: libc.filter(|_| has_key).map_or(0, |libc| libc.specific),
            libc: libc.map_or(LibcKind::Glibc, |libc| libc.kind),
            layout: file.layout,
            eval_loop: file.eval_loop.start.wrapping_add(bias)
                ..file.eval_loop.end.wrapping_add(bias),
        })
    }
}
