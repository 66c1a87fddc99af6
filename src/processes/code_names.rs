//! Names of code that frames of open windows refer to, where executable and address alone do not
//! say the name: of code of JIT compilers, of code that comes into the kernel, and of functions
//! that an interpreter runs.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use profile::{CodeNameId, Pid};

use super::code_name_gap::CodeNameGap;
use crate::limits::{Charge, Owner, SharedPool};

/// Bytes that a name takes besides its texts.
const NAME_BYTES: u64 = 160;
/// Bytes that a name takes besides, if it is found by its value.
const VALUE_BYTES: u64 = 96;

/// The name of code, and the place in its source. Clones share the texts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CodeName {
    /// The function; with its class or module, where that is known.
    pub name: Arc<str>,
    /// The source file; empty if unknown.
    pub file: Arc<str>,
    /// The line that runs or calls, from 1; 0 if unknown.
    pub line: u32,
    /// The first line of the function, from 1; 0 if unknown.
    pub start_line: u32,
}

impl CodeName {
    /// Returns the bytes of the texts, as if they were not shared.
    fn text_bytes(&self) -> u64 {
        (self.name.len() + self.file.len()) as u64
    }
}

/// A name without a place, as of code of a JIT compiler.
impl From<Arc<str>> for CodeName {
    fn from(name: Arc<str>) -> Self {
        Self { name, ..Self::default() }
    }
}

/// A name, and why it is retained.
#[derive(Debug)]
struct NameRecord {
    /// `Err` until there is a name.
    name: Result<CodeName, CodeNameGap>,
    /// The process whose perf map or jitdump may have the name.
    process: Option<Pid>,
    /// The last window with frames of this name.
    last_window: u64,
    charge: Charge,
}

/// All names, by their keys. A name keeps its key and a key its name, whatever is read later.
#[derive(Debug)]
pub(super) struct CodeNames {
    by_id: HashMap<CodeNameId, NameRecord>,
    /// Those of [`Self::intern`].
    by_value: HashMap<CodeName, CodeNameId>,
    last_id: u32,
    pool: SharedPool,
}

impl CodeNames {
    /// The key of all names that do not fit.
    pub const NO_SPACE: CodeNameId = CodeNameId(NonZeroU32::MIN);

    pub fn new(pool: SharedPool) -> Self {
        let charge = pool.empty_charge(Owner::SYSTEM);
        let no_space = NameRecord {
            name: Err(CodeNameGap::NoSpace),
            process: None,
            last_window: u64::MAX, // never removed
            charge,
        };
        let (by_id, by_value) = (HashMap::from([(Self::NO_SPACE, no_space)]), HashMap::new());
        Self { by_id, by_value, last_id: Self::NO_SPACE.0.get(), pool }
    }

    /// Adds a name, `Err` while it is not known. `process`: the one whose perf map or jitdump may
    /// have it. Returns `None` if it does not fit.
    pub fn add(
        &mut self,
        process: Option<Pid>,
        owner: Owner,
        name: Result<CodeName, CodeNameGap>,
    ) -> Option<CodeNameId> {
        let bytes = NAME_BYTES + name.as_ref().map_or(0, CodeName::text_bytes);
        let charge = self.pool.charge(owner, bytes)?;
        let id = CodeNameId(NonZeroU32::new(self.last_id.checked_add(1)?)?);
        self.last_id = id.0.get();
        self.by_id.insert(id, NameRecord { name, process, last_window: 0, charge });
        Some(id)
    }

    /// Returns the key of a name, which all frames with an equal name share, and adds it if it is
    /// new. `owner`: who pays for it then. Returns [`Self::NO_SPACE`] if it does not fit.
    pub fn intern(&mut self, owner: Owner, name: CodeName) -> CodeNameId {
        if let Some(id) = self.by_value.get(&name) {
            return *id;
        }
        let Some(id) = self.add(None, owner, Ok(name.clone())) else { return Self::NO_SPACE };
        let record = self.by_id.get_mut(&id);
        if record.is_some_and(|record| record.charge.grow(VALUE_BYTES)) {
            self.by_value.insert(name, id);
            return id;
        }
        self.by_id.remove(&id);
        Self::NO_SPACE
    }

    /// Sets a name that was not known, or why it will not be.
    pub fn set(&mut self, id: CodeNameId, name: Result<CodeName, CodeNameGap>) {
        let is_unknown = |record: &&mut NameRecord| record.name.is_err() && id != Self::NO_SPACE;
        if let Some(record) = self.by_id.get_mut(&id).filter(is_unknown) {
            record.name = match name {
                Ok(name) if !record.charge.grow(name.text_bytes()) => Err(CodeNameGap::NoSpace),
                name => name,
            };
        }
    }

    /// Returns whether a key is still valid.
    pub fn contains(&self, id: CodeNameId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// Returns a name, or why there is none, and the process whose map may have it; `None` if the
    /// key is not valid.
    pub fn get(&self, id: CodeNameId) -> Option<(Result<CodeName, CodeNameGap>, Option<Pid>)> {
        self.by_id.get(&id).map(|record| (record.name.clone(), record.process))
    }

    /// Retains a name until a window is complete, because it has frames of that name.
    pub fn mark_sampled(&mut self, id: CodeNameId, window: u64) {
        if let Some(record) = self.by_id.get_mut(&id) {
            record.last_window = record.last_window.max(window);
        }
    }

    /// Removes the names without frames in a window from `oldest` on.
    pub fn remove_unused(&mut self, oldest: u64) {
        self.by_id.retain(|_, record| record.last_window >= oldest);
        self.by_value.retain(|_, id| self.by_id.contains_key(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner = Owner::User(1);

    fn name_of(name: &str) -> CodeName {
        CodeName::from(Arc::from(name))
    }

    fn get(names: &CodeNames, id: CodeNameId) -> Option<Result<CodeName, CodeNameGap>> {
        names.get(id).map(|(name, _)| name)
    }

    #[test]
    fn names_are_retained_for_open_windows_and_never_change() {
        let pool = SharedPool::new(1 << 20);
        let mut names = CodeNames::new(pool.clone());
        let add = |names: &mut CodeNames, name| names.add(Some(Pid(1)), OWNER, name);
        let known = add(&mut names, Ok(name_of("f"))).expect("space");
        let unknown = add(&mut names, Err(CodeNameGap::NoEntry)).expect("space");
        names.set(known, Ok(name_of("g")));
        names.set(unknown, Ok(name_of("g")));
        names.set(unknown, Err(CodeNameGap::NoMap));
        assert_eq!(get(&names, known), Some(Ok(name_of("f"))));
        assert_eq!(get(&names, unknown), Some(Ok(name_of("g"))));
        names.mark_sampled(known, 7);
        names.mark_sampled(unknown, 6);
        names.remove_unused(7);
        assert!(names.contains(known) && !names.contains(unknown));
        names.remove_unused(8);
        assert_eq!((get(&names, known), pool.used()), (None, 0));
    }

    #[test]
    fn equal_names_have_one_key_and_each_line_has_its_own() {
        let pool = SharedPool::new(1 << 20);
        let mut names = CodeNames::new(pool.clone());
        let at = |line| CodeName { file: "/app.py".into(), line, start_line: 3, ..name_of("work") };
        let [first, again, other] = [4, 4, 5].map(|line| names.intern(OWNER, at(line)));
        assert_eq!(first, again);
        assert_ne!(first, other);
        assert_eq!(get(&names, other), Some(Ok(at(5))));
        names.mark_sampled(other, 2);
        names.remove_unused(2);
        assert_eq!((get(&names, first), names.intern(OWNER, at(5))), (None, other));
        assert_ne!(names.intern(OWNER, at(4)), first, "a key is never used again");
        names.remove_unused(3);
        assert_eq!((names.by_value.len(), pool.used()), (0, 0));
    }

    #[test]
    fn names_that_do_not_fit_share_a_key_that_says_so() {
        let pool = SharedPool::new(10_000);
        let mut names = CodeNames::new(pool.clone());
        let long = |number: u64| name_of(&format!("{number:0100}"));
        let ids: Vec<CodeNameId> = (0..100).map(|n| names.intern(OWNER, long(n))).collect();
        assert!(ids[0] != CodeNames::NO_SPACE && pool.used() <= 10_000);
        assert_eq!(ids[99], CodeNames::NO_SPACE);
        assert_eq!(names.by_value.len() + 1, names.by_id.len());
        names.set(CodeNames::NO_SPACE, Ok(name_of("f")));
        names.remove_unused(u64::MAX);
        assert_eq!(get(&names, CodeNames::NO_SPACE), Some(Err(CodeNameGap::NoSpace)));
        assert_eq!(get(&names, ids[0]), None);
    }
}
