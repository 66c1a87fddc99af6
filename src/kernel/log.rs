//! What libbpf has to say, kept for error messages instead of being printed.

use std::sync::Mutex;

use libbpf_rs::{PrintLevel, set_print};

static KEPT: Mutex<String> = Mutex::new(String::new());

/// Most bytes kept: the log of a refused program ends with the reason.
const KEPT_MAX: usize = 1 << 20;

fn keep(_level: PrintLevel, text: String) {
    let mut kept = KEPT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if kept.len() + text.len() <= KEPT_MAX {
        kept.push_str(&text);
    }
}

/// Runs `work` and gives its result with what libbpf said meanwhile, at `level` and above.
pub(super) fn listening<T>(level: PrintLevel, work: impl FnOnce() -> T) -> (T, String) {
    set_print(Some((level, keep)));
    let result = work();
    let mut kept = KEPT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    (result, std::mem::take(&mut *kept))
}
