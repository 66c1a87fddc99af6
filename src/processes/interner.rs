//! Stores equal values once.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

/// Values that are shared; unused ones are evicted once there are this many. A text in them has a
/// kilobyte at most.
const VALUES_MAX: usize = 1024;

/// Shares equal values. Takes memory for the values in use, and a little more.
///
/// Not crate `lru`: a value in use is never evicted, and which of the unused goes does not matter.
#[derive(Debug)]
pub(super) struct Interner<T>(HashSet<Arc<T>>);

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self(HashSet::new())
    }
}

impl<T: Eq + Hash> Interner<T> {
    /// Returns the shared value that equals `value`.
    pub fn intern(&mut self, value: T) -> Arc<T> {
        if let Some(shared) = self.0.get(&value) {
            return Arc::clone(shared);
        }
        if self.0.len() >= VALUES_MAX {
            self.0.retain(|shared| Arc::strong_count(shared) > 1);
        }
        let shared = Arc::new(value);
        if self.0.len() < VALUES_MAX {
            self.0.insert(Arc::clone(&shared));
        }
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_values_are_evicted_and_used_ones_stay() {
        let mut interner = Interner::default();
        let used: Vec<Arc<usize>> = (0..100).map(|number| interner.intern(number)).collect();
        for number in 0..10 * VALUES_MAX {
            interner.intern(number);
            assert!(interner.0.len() <= VALUES_MAX);
        }
        for (number, used) in used.iter().enumerate() {
            assert!(Arc::ptr_eq(used, &interner.intern(number)));
        }
    }
}
