//! The names of JIT code that frames of open windows refer to.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use profile::{JitNameId, Pid};

use super::gap::JitNameGap;
use crate::limits::{Charge, Owner, SharedPool};

/// Bytes that a name takes besides its text.
const NAME_BYTES: u64 = 128;

/// A name, and why it is retained.
#[derive(Debug)]
struct NameRecord {
    /// `Err` until a perf map has a name.
    name: Result<Arc<str>, JitNameGap>,
    pid: Pid,
    /// The last window with frames of this name.
    last_window: u64,
    _charge: Charge,
}

/// All names, by their keys. A name keeps its key and a key its name, whatever a map says later.
#[derive(Debug)]
pub(in crate::processes) struct JitNames {
    by_id: HashMap<JitNameId, NameRecord>,
    last_id: u32,
    pool: SharedPool,
}

impl JitNames {
    pub fn new(pool: SharedPool) -> Self {
        Self { by_id: HashMap::new(), last_id: 0, pool }
    }

    /// Adds a name of a process, `Err` while it is not known. Returns `None` if it does not fit.
    pub fn add(
        &mut self,
        pid: Pid,
        owner: Owner,
        name: Result<Arc<str>, JitNameGap>,
    ) -> Option<JitNameId> {
        let id = JitNameId(NonZeroU32::new(self.last_id.checked_add(1)?)?);
        let bytes = NAME_BYTES + name.as_ref().map_or(0, |name| name.len() as u64);
        let charge = self.pool.charge(owner, bytes)?;
        self.last_id = id.0.get();
        self.by_id.insert(id, NameRecord { name, pid, last_window: 0, _charge: charge });
        Some(id)
    }

    /// Sets a name that was not known, or why it will not be.
    pub fn set(&mut self, id: JitNameId, name: Result<Arc<str>, JitNameGap>) {
        if let Some(record) = self.by_id.get_mut(&id).filter(|record| record.name.is_err()) {
            record.name = name;
        }
    }

    /// Returns whether a key is still valid.
    pub fn contains(&self, id: JitNameId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// Returns a name, or why there is none, and its process; `None` if the key is not valid.
    pub fn get(&self, id: JitNameId) -> Option<(Result<Arc<str>, JitNameGap>, Pid)> {
        self.by_id.get(&id).map(|record| (record.name.clone(), record.pid))
    }

    /// Retains a name until a window is complete, because it has frames of that name.
    pub fn mark_sampled(&mut self, id: JitNameId, window: u64) {
        if let Some(record) = self.by_id.get_mut(&id) {
            record.last_window = record.last_window.max(window);
        }
    }

    /// Removes the names without frames in a window from `oldest` on.
    pub fn remove_unused(&mut self, oldest: u64) {
        self.by_id.retain(|_, record| record.last_window >= oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_retained_for_open_windows_and_never_change() {
        let pool = SharedPool::new(1 << 20);
        let mut names = JitNames::new(pool.clone());
        let add = |names: &mut JitNames, name| names.add(Pid(1), Owner::User(1), name);
        let known = add(&mut names, Ok("f".into())).expect("space");
        let unknown = add(&mut names, Err(JitNameGap::NoEntry)).expect("space");
        names.set(known, Ok("g".into()));
        names.set(unknown, Ok("g".into()));
        names.set(unknown, Err(JitNameGap::NoMap));
        let name = |names: &JitNames, id| names.get(id).map(|(name, _)| name);
        assert_eq!(name(&names, known), Some(Ok("f".into())));
        assert_eq!(name(&names, unknown), Some(Ok("g".into())));
        names.mark_sampled(known, 7);
        names.mark_sampled(unknown, 6);
        names.remove_unused(7);
        assert!(names.contains(known) && !names.contains(unknown));
        names.remove_unused(8);
        assert_eq!((name(&names, known), pool.used()), (None, 0));
    }
}
