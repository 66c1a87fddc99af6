//! Where the state of the current thread is.
//!
//! From 3.12 on it is in a thread-local variable, which is null while the thread has released the
//! global lock and runs C code. So the state that `PyGILState_Ensure` keeps for the thread is the
//! second choice; up to 3.11 it is the only one that belongs to a thread. It is a value of
//! pthread_setspecific, and a thread-local variable from 3.15 on.

use super::version::CpythonVersion;
use crate::runtimes::accessor;
use crate::runtimes::dynamic_file::DynamicFile;
use crate::runtimes::thread_value::ThreadValue;

/// Functions that return the current state, by versions from 3.12 on; not every build has all.
const CURRENT: [&str; 3] =
    ["_PyThreadState_GetCurrent", "PyThreadState_GetUnchecked", "_PyThreadState_UncheckedGet"];
/// The function that returns the state that the thread keeps.
const KEPT: &str = "PyGILState_GetThisThreadState";

/// Finds the state of the current thread, the first choice first.
pub(super) fn find(
    file: &DynamicFile<'_>,
    version: CpythonVersion,
    state: u64,
) -> [ThreadValue; 2] {
    let value_of = |function| {
        let function = file.symbol(function);
        let value = function.map(|function| accessor::returned_thread_value(file, function));
        value.filter(|value| value.is_plausible()).unwrap_or_default()
    };
    let current = match version.minor() {
        12.. => {
            let values = CURRENT.into_iter().map(value_of);
            { values }.find(|value| *value != ThreadValue::None).unwrap_or_default()
        }
        _ => ThreadValue::None,
    };
    let kept = match version.minor() {
        15.. => value_of(KEPT),
        _ => key(file, version, state),
    };
    match current {
        ThreadValue::None => [kept, ThreadValue::None],
        _ if current == kept => [current, ThreadValue::None],
        _ => [current, kept],
    }
}

/// Returns whether keys among the values can be those of a version.
pub(super) fn are_plausible(version: CpythonVersion, state: u64, values: [ThreadValue; 2]) -> bool {
    values.into_iter().all(|value| match value {
        ThreadValue::Key(address) => key_address(version, state) == Some(address),
        ThreadValue::None | ThreadValue::Static(_) | ThreadValue::Dynamic { .. } => true,
    })
}

/// Returns the key of the state that a thread keeps. The function that returns the state must use
/// the key's address.
fn key(file: &DynamicFile<'_>, version: CpythonVersion, state: u64) -> ThreadValue {
    let find = || {
        let address = key_address(version, state)?;
        let (key, created) = (address, address - KEY_IN_STRUCTURE);
        let offsets = [key, created].map(|address| address - state);
        let function = file.symbol(KEPT)?;
        accessor::mentions(file, function, [key, created], offsets).then_some(key)
    };
    find().map_or(ThreadValue::None, ThreadValue::Key)
}

/// Offset of the key in a `Py_tss_t`, behind an `int` that is 1 once it was created.
const KEY_IN_STRUCTURE: u64 = 4;

/// Returns the address of the key of the state that a thread keeps; `None` if the version has none,
/// or its address is not known.
fn key_address(version: CpythonVersion, state: u64) -> Option<u64> {
    if version.is_free_threaded() {
        return None; // `_PyRuntime` has other fields before it
    }
    // `autoTSSkey` in `_PyRuntime.gilstate`, later in `_PyRuntime`.
    let structure = match version.minor() {
        7 => 1504,
        8 => 1392,
        9 | 10 => 584,
        11 => 592,
        12 => 1544,
        13 => 2160,
        14 => 2336,
        _ => return None,
    };
    state.checked_add(structure + KEY_IN_STRUCTURE)
}
