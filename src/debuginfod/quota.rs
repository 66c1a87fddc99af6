//! How many lookups and bytes there may be within an hour, in all and of each owner.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::limits::{Charge, Owner, SharedPool};

const HOUR: Duration = Duration::from_secs(3600);

/// Lookups and bytes of one hour. An owner may use what a [`SharedPool`] lets it hold: the first
/// greedy one three eighths, and there is always something left for the next.
#[derive(Debug)]
pub(super) struct HourlyQuota {
    lookups_max: u64,
    bytes_max: u64,
    hour: Hour,
}

#[derive(Debug)]
struct Hour {
    since: Instant,
    lookups: SharedPool,
    bytes: SharedPool,
    /// Only owners with a lookup, so not more than there are lookups.
    used: HashMap<Owner, OwnerUse>,
}

#[derive(Debug)]
struct OwnerUse {
    lookups: Charge,
    bytes: Charge,
}

impl HourlyQuota {
    /// `lookups_max`, `bytes_max`: of all owners within an hour.
    pub fn new(lookups_max: u64, bytes_max: u64, now: Instant) -> Self {
        Self { lookups_max, bytes_max, hour: Hour::new(lookups_max, bytes_max, now) }
    }

    /// Takes a lookup; returns false if the owner has used its part.
    pub fn take_lookup(&mut self, owner: Owner, now: Instant) -> bool {
        self.of_owner(owner, now).lookups.grow(1)
    }

    /// Takes bytes; returns false if the owner has used its part.
    pub fn take_bytes(&mut self, owner: Owner, bytes: u64, now: Instant) -> bool {
        self.of_owner(owner, now).bytes.grow(bytes)
    }

    fn of_owner(&mut self, owner: Owner, now: Instant) -> &mut OwnerUse {
        if now.saturating_duration_since(self.hour.since) >= HOUR {
            self.hour = Hour::new(self.lookups_max, self.bytes_max, now);
        }
        let Hour { lookups, bytes, used, .. } = &mut self.hour;
        if used.len() as u64 > 2 * self.lookups_max {
            used.retain(|_, used| used.lookups.amount() > 0);
        }
        used.entry(owner).or_insert_with(|| OwnerUse {
            lookups: lookups.empty_charge(owner),
            bytes: bytes.empty_charge(owner),
        })
    }
}

impl Hour {
    fn new(lookups: u64, bytes: u64, since: Instant) -> Self {
        let (lookups, bytes) = (SharedPool::new(lookups), SharedPool::new(bytes));
        Self { since, lookups, bytes, used: HashMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREEDY: Owner = Owner::Group(1);
    const OTHER: Owner = Owner::User(1000);

    #[test]
    fn greedy_owner_leaves_lookups_for_others_and_the_next_hour_is_new() {
        let now = Instant::now();
        let mut quota = HourlyQuota::new(128, 1 << 20, now);
        let taken = (0..1000).filter(|_| quota.take_lookup(GREEDY, now)).count();
        assert_eq!(taken, 48);
        assert!(quota.take_lookup(OTHER, now));
        assert!(!quota.take_lookup(GREEDY, now + HOUR / 2));
        assert!(quota.take_lookup(GREEDY, now + HOUR));
    }

    #[test]
    fn bytes_are_limited_for_each_owner() {
        let now = Instant::now();
        let mut quota = HourlyQuota::new(128, 8000, now);
        let taken = (0..100).filter(|_| quota.take_bytes(GREEDY, 1000, now)).count();
        assert_eq!(taken, 3);
        assert!(quota.take_bytes(OTHER, 1000, now));
    }

    #[test]
    fn owners_are_bounded() {
        let now = Instant::now();
        let mut quota = HourlyQuota::new(128, 8000, now);
        for uid in 0..10_000 {
            quota.take_lookup(Owner::User(uid), now);
        }
        assert!(quota.hour.used.len() <= 257);
    }
}
