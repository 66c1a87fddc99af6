//! Captures libbpf's messages for error reports, instead of printing them.

use std::sync::{Mutex, PoisonError};

use libbpf_rs::{PrintLevel, set_print};

static MESSAGES: Mutex<String> = Mutex::new(String::new());

/// Bytes of messages that are captured at most. The verifier's log of a rejected program ends with
/// the reason, so this must hold a whole log.
const BYTES_MAX: usize = 1 << 20;

fn capture(_level: PrintLevel, message: String) {
    let mut messages = MESSAGES.lock().unwrap_or_else(PoisonError::into_inner);
    if messages.len() + message.len() <= BYTES_MAX {
        messages.push_str(&message);
    }
}

/// Runs `work`; returns its result and libbpf's messages meanwhile, from `level` upwards.
pub(super) fn with_messages<T>(level: PrintLevel, work: impl FnOnce() -> T) -> (T, String) {
    set_print(Some((level, capture)));
    let result = work();
    let mut messages = MESSAGES.lock().unwrap_or_else(PoisonError::into_inner);
    (result, std::mem::take(&mut *messages))
}
