//! What was recognized in a file, as the file helper answers it.
//!
//! The file helper parses files of others and is not trusted: each number is checked again. The
//! layout is not sent, it follows from the version.

use std::ops::Range;

use prost::{Enumeration, Message, Oneof};

use super::RUNTIMES;
use super::libc::{Libc, LibcKind};
use super::recognition::{Recognition, RuntimeFile};
use super::recognition_error::RecognitionError;
use super::runtime::RuntimeDescription;
use super::thread_value::ThreadValue;

/// What was recognized in a file.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RecognitionMessage {
    #[prost(oneof = "RuntimeMessage", tags = "1, 2")]
    runtime: Option<RuntimeMessage>,
    #[prost(message, optional, tag = "3")]
    libc: Option<LibcMessage>,
    /// Why the C library is not known: as [`RuntimeMessage::Error`].
    #[prost(uint32, optional, tag = "4")]
    libc_error: Option<u32>,
}

#[derive(Clone, PartialEq, Eq, Oneof)]
enum RuntimeMessage {
    /// The number of a [`RecognitionError`].
    #[prost(uint32, tag = "1")]
    Error(u32),
    #[prost(message, tag = "2")]
    File(RuntimeFileMessage),
}

#[derive(Clone, PartialEq, Eq, Message)]
struct RuntimeFileMessage {
    /// The kind of the runtime on the kernel side.
    #[prost(uint32, tag = "1")]
    kind: u32,
    /// In the encoding of the runtime.
    #[prost(fixed64, tag = "2")]
    version: u64,
    #[prost(fixed64, tag = "3")]
    state: u64,
    #[prost(message, repeated, tag = "4")]
    values: Vec<ThreadValueMessage>,
    /// Start and end of the evaluation loop.
    #[prost(fixed64, tag = "5")]
    eval_start: u64,
    #[prost(fixed64, tag = "6")]
    eval_end: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct ThreadValueMessage {
    #[prost(enumeration = "ThreadValueKind", tag = "1")]
    kind: i32,
    #[prost(fixed64, tag = "2")]
    address: u64,
    #[prost(sint32, tag = "3")]
    offset: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
enum ThreadValueKind {
    None = 0,
    Static = 1,
    Dynamic = 2,
    Key = 3,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct LibcMessage {
    #[prost(bool, tag = "1")]
    is_musl: bool,
    #[prost(uint32, tag = "2")]
    specific: u32,
}

impl RecognitionMessage {
    /// Returns the message; `None` if nothing was recognized.
    pub fn of(recognition: &Recognition) -> Option<Self> {
        let Recognition { runtime, libc } = recognition;
        let runtime = runtime.as_ref().map(|runtime| match runtime {
            Ok(file) => RuntimeMessage::File(file.into()),
            Err(error) => RuntimeMessage::Error(*error as u32),
        });
        let libc_error = libc.and_then(Result::err).map(|error| error as u32);
        let libc = libc.and_then(Result::ok).map(|libc| LibcMessage {
            is_musl: libc.kind == LibcKind::Musl,
            specific: libc.specific,
        });
        (!recognition.is_empty()).then_some(Self { runtime, libc, libc_error })
    }

    /// Returns what was recognized; inconsistent answers count as an error.
    pub fn recognition(&self) -> Recognition {
        let runtime = self.runtime.as_ref().map(|runtime| match runtime {
            RuntimeMessage::File(file) => file.checked().ok_or(RecognitionError::Malformed),
            RuntimeMessage::Error(error) => Err(error_of(*error)),
        });
        let libc = match (self.libc, self.libc_error) {
            (Some(libc), _) => Some(libc.checked().ok_or(RecognitionError::Malformed)),
            (None, Some(error)) => Some(Err(error_of(error))),
            (None, None) => None,
        };
        Recognition { runtime, libc }
    }
}

fn error_of(number: u32) -> RecognitionError {
    let error = RecognitionError::ALL.get(number as usize);
    error.copied().unwrap_or(RecognitionError::Malformed)
}

impl From<&RuntimeFile> for RuntimeFileMessage {
    fn from(file: &RuntimeFile) -> Self {
        let Range { start: eval_start, end: eval_end } = file.eval_loop;
        Self {
            kind: file.version.kind() as u32,
            version: file.version.number(),
            state: file.state,
            values: file.values.into_iter().map(ThreadValueMessage::from).collect(),
            eval_start,
            eval_end,
        }
    }
}

impl RuntimeFileMessage {
    fn checked(&self) -> Option<RuntimeFile> {
        let runtime = RUNTIMES.into_iter().find(|runtime| runtime.kind() as u32 == self.kind)?;
        let values = self.values.iter().map(ThreadValueMessage::value);
        let values: Vec<ThreadValue> = values.collect::<Option<_>>()?;
        let description = RuntimeDescription {
            version: self.version,
            state: self.state,
            values: values.try_into().ok()?,
            eval_loop: self.eval_start..self.eval_end,
        };
        RuntimeFile::new(runtime, description).ok()
    }
}

impl From<ThreadValue> for ThreadValueMessage {
    fn from(value: ThreadValue) -> Self {
        let (kind, address, offset) = match value {
            ThreadValue::None => (ThreadValueKind::None, 0, 0),
            ThreadValue::Static(offset) => (ThreadValueKind::Static, 0, offset),
            ThreadValue::Dynamic { slot, offset } => (ThreadValueKind::Dynamic, slot, offset),
            ThreadValue::Key(address) => (ThreadValueKind::Key, address, 0),
        };
        Self { kind: kind.into(), address, offset }
    }
}

impl ThreadValueMessage {
    fn value(&self) -> Option<ThreadValue> {
        Some(match ThreadValueKind::try_from(self.kind).ok()? {
            ThreadValueKind::None => ThreadValue::None,
            ThreadValueKind::Static => ThreadValue::Static(self.offset),
            ThreadValueKind::Dynamic => {
                ThreadValue::Dynamic { slot: self.address, offset: self.offset }
            }
            ThreadValueKind::Key => ThreadValue::Key(self.address),
        })
    }
}

impl LibcMessage {
    fn checked(self) -> Option<Libc> {
        let kind = if self.is_musl { LibcKind::Musl } else { LibcKind::Glibc };
        let libc = Libc { kind, specific: self.specific };
        libc.is_plausible().then_some(libc)
    }
}
