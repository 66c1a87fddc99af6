//! A bound on a resource that owners share, so that one of them cannot use up all of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::owner::Owner;

/// The reserve, as a divisor of the pool.
const RESERVE: u64 = 4;
/// What an owner may hold by the reserve, as a divisor of the pool.
const SMALL_PART: u64 = 64;

/// A bounded amount of a resource, such as bytes or open files.
///
/// A quarter of the pool is reserved. Of the rest, an owner may hold as much as is still free, so
/// there is always something left for the next one, but each greedy owner halves it. Switches share
/// their packet buffers by this rule (A. Choudhury and E. Hahne, "Dynamic Queue Length Thresholds
/// for Shared-Memory Packet Switches", 1998). From the reserve, each owner may hold a small part of
/// the pool, whatever the others hold: sixteen owners at least, with what they have in all.
#[derive(Clone, Debug)]
pub struct SharedPool(Arc<Mutex<PoolState>>);

#[derive(Debug)]
struct PoolState {
    max: u64,
    used: u64,
    /// Only owners that hold something.
    by_owner: HashMap<Owner, u64>,
    refused: u64,
}

impl SharedPool {
    /// Returns an empty pool of `max` units.
    pub fn new(max: u64) -> Self {
        let state = PoolState { max, used: 0, by_owner: HashMap::new(), refused: 0 };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Charges an owner; `None` when that exceeds its part, which is counted as refused.
    pub fn charge(&self, owner: Owner, amount: u64) -> Option<Charge> {
        let mut charge = self.empty_charge(owner);
        charge.grow(amount).then_some(charge)
    }

    /// Returns a charge of nothing, which can grow.
    pub fn empty_charge(&self, owner: Owner) -> Charge {
        Charge { pool: self.clone(), owner, amount: 0 }
    }

    /// Returns whether an owner may be charged. Refusals are counted.
    pub fn has_space(&self, owner: Owner, amount: u64) -> bool {
        let mut state = self.state();
        let fits = state.fits(owner, amount);
        state.refused += u64::from(!fits);
        fits
    }

    /// Returns the units in use.
    pub fn used(&self) -> u64 {
        self.state().used
    }

    /// Returns how often an owner was refused so far.
    pub fn refused(&self) -> u64 {
        self.state().refused
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PoolState {
    fn fits(&self, owner: Owner, amount: u64) -> bool {
        let held = self.by_owner.get(&owner).copied().unwrap_or(0).saturating_add(amount);
        let free = self.max.saturating_sub(self.used);
        let unreserved = free.saturating_sub(self.max / RESERVE);
        held <= unreserved || (held <= self.max / SMALL_PART && amount <= free)
    }

    fn release(&mut self, owner: Owner, amount: u64) {
        self.used -= amount;
        if let Some(held) = self.by_owner.get_mut(&owner) {
            *held -= amount;
            if *held == 0 {
                self.by_owner.remove(&owner);
            }
        }
    }
}

/// What an owner holds of a pool. Returned when dropped.
#[derive(Debug)]
pub struct Charge {
    pool: SharedPool,
    owner: Owner,
    amount: u64,
}

impl Charge {
    /// Charges more; returns false and charges nothing when that exceeds the owner's part.
    pub fn grow(&mut self, amount: u64) -> bool {
        let mut state = self.pool.state();
        if !state.fits(self.owner, amount) {
            state.refused += 1;
            return false;
        }
        if amount > 0 {
            state.used += amount;
            *state.by_owner.entry(self.owner).or_default() += amount;
        }
        drop(state);
        self.amount += amount;
        true
    }

    /// Returns a part of the charge to the pool.
    pub fn shrink(&mut self, amount: u64) {
        let amount = amount.min(self.amount);
        self.amount -= amount;
        if amount > 0 {
            self.pool.state().release(self.owner, amount);
        }
    }

    /// Charges another owner instead; returns false and changes nothing when that exceeds its part.
    pub fn transfer(&mut self, owner: Owner) -> bool {
        if owner == self.owner {
            return true;
        }
        let Some(charge) = self.pool.charge(owner, self.amount) else { return false };
        *self = charge; // the charge of the previous owner is returned
        true
    }

    /// Charges the same owner as much again; `None` when that exceeds its part.
    pub fn duplicate(&self) -> Option<Self> {
        self.pool.charge(self.owner, self.amount)
    }

    /// Returns a charge of nothing for the same owner.
    pub fn empty(&self) -> Self {
        self.empty_of(self.owner)
    }

    /// Returns a charge of nothing for another owner.
    pub fn empty_of(&self, owner: Owner) -> Self {
        self.pool.empty_charge(owner)
    }

    /// Returns the units charged.
    pub fn amount(&self) -> u64 {
        self.amount
    }

    /// Returns who is charged.
    pub fn owner(&self) -> Owner {
        self.owner
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shrink(self.amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Owner = Owner::User(1);

    /// Charges single units until the pool refuses.
    fn fill(pool: &SharedPool, owner: Owner) -> Vec<Charge> {
        std::iter::from_fn(|| pool.charge(owner, 1)).collect()
    }

    #[test]
    fn greedy_owners_leave_a_part_for_each_of_the_others() {
        let pool = SharedPool::new(1280);
        let bystander = pool.charge(Owner::Group(7), 5).expect("space");
        let greedy: Vec<Vec<Charge>> = (1..16).map(|uid| fill(&pool, Owner::User(uid))).collect();
        let parts: Vec<usize> = greedy.iter().map(Vec::len).collect();
        assert_eq!(parts[..5], [478, 239, 119, 60, 30]);
        assert!(parts[5..].iter().all(|part| *part == 20), "{parts:?}");
        let more = pool.charge(Owner::Group(7), 15).expect("its part");
        assert!(pool.charge(Owner::Group(7), 1).is_none());
        assert_eq!((bystander.amount(), more.amount()), (5, 15));
    }

    #[test]
    fn dropped_charges_are_returned() {
        let pool = SharedPool::new(80);
        let mut charge = pool.charge(ONE, 10).expect("space");
        assert!(charge.grow(20) && !charge.grow(1000));
        let copy = charge.duplicate();
        assert_eq!((pool.used(), copy.is_some()), (30, false));
        charge.shrink(25);
        let copy = charge.duplicate().expect("space");
        assert_eq!((pool.used(), copy.amount()), (10, 5));
        drop((charge, copy));
        assert_eq!((pool.used(), pool.refused()), (0, 2));
        assert!(pool.state().by_owner.is_empty());
    }

    #[test]
    fn space_is_checked_without_a_charge() {
        let pool = SharedPool::new(10);
        assert!(pool.has_space(ONE, 8) && !pool.has_space(ONE, 9));
        assert_eq!((pool.used(), pool.refused()), (0, 1));
    }
}
