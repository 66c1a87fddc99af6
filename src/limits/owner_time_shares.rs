//! The CPU time or wall time of one cause of overhead, divided among owners.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::owner::Owner;
use super::time_share::TimeShare;

/// The part of the cause's rate that one owner may use at most.
const MOST: f64 = 1.0 / 2.0;
/// The part that each owner may use even if others have used up the rest.
const LEAST: f64 = 1.0 / 4.0;
/// Owners remembered. Of more, those that have used nothing for longest are forgotten.
const OWNERS_MAX: usize = 256;

/// The time that one cause of overhead may use, divided among owners: one owner uses half of it at
/// most, and whatever others use, a quarter is left for it.
#[derive(Clone, Debug)]
pub struct OwnerTimeShares {
    rate: f64,
    total: TimeShare,
    by_owner: HashMap<Owner, OwnerShare>,
}

#[derive(Clone, Debug)]
struct OwnerShare {
    most: TimeShare,
    least: TimeShare,
    charged: Instant,
}

impl OwnerTimeShares {
    /// Creates full shares. `rate`: seconds per second of all owners together.
    pub fn new(rate: f64, now: Instant) -> Self {
        Self { rate, total: TimeShare::new(rate, now), by_owner: HashMap::new() }
    }

    /// Creates shares without a limit.
    pub fn unlimited() -> Self {
        Self::new(f64::INFINITY, Instant::now())
    }

    /// Changes the rate, as [`TimeShare::set_rate`] does.
    pub fn set_rate(&mut self, rate: f64, now: Instant) {
        self.rate = rate;
        self.total.set_rate(rate, now);
        for share in self.by_owner.values_mut() {
            share.most.set_rate(rate * MOST, now);
            share.least.set_rate(rate * LEAST, now);
        }
    }

    /// Whether an owner may use time now.
    pub fn has_credit(&mut self, owner: Owner, now: Instant) -> bool {
        let has_total = self.total.has_credit(now);
        match self.by_owner.get_mut(&owner) {
            Some(share) => share.most.has_credit(now) && (has_total || share.least.has_credit(now)),
            None => true,
        }
    }

    /// Takes time that was used for an owner.
    pub fn charge(&mut self, owner: Owner, used: Duration, now: Instant) {
        self.total.charge(used, now);
        if !self.by_owner.contains_key(&owner) && self.by_owner.len() >= OWNERS_MAX {
            let oldest = self.by_owner.iter().min_by_key(|(_, share)| share.charged);
            if let Some(oldest) = oldest.map(|(owner, _)| *owner) {
                self.by_owner.remove(&oldest);
            }
        }
        let rate = self.rate;
        let share = self.by_owner.entry(owner).or_insert_with(|| OwnerShare {
            most: TimeShare::new(rate * MOST, now),
            least: TimeShare::new(rate * LEAST, now),
            charged: now,
        });
        share.most.charge(used, now);
        share.least.charge(used, now);
        share.charged = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOG: Owner = Owner::User(1);
    const OTHER: Owner = Owner::User(2);
    const PIECE: Duration = Duration::from_millis(1);

    /// Uses time in pieces of a millisecond for as long as an owner may; returns the pieces.
    fn use_up(shares: &mut OwnerTimeShares, owner: Owner, now: Instant) -> u32 {
        let mut pieces = 0;
        while shares.has_credit(owner, now) && pieces < 10_000 {
            shares.charge(owner, PIECE, now);
            pieces += 1;
        }
        pieces
    }

    #[test]
    fn one_owner_uses_half_and_the_next_one_the_rest() {
        let now = Instant::now();
        let mut shares = OwnerTimeShares::new(0.01, now); // 100 ms of credit
        let (hog, other) = (use_up(&mut shares, HOG, now), use_up(&mut shares, OTHER, now));
        assert!((49..=51).contains(&hog) && (49..=51).contains(&other), "{hog}, {other}");
    }

    #[test]
    fn a_quarter_is_left_for_each_owner() {
        let now = Instant::now();
        let mut shares = OwnerTimeShares::new(0.01, now);
        for uid in 1..10 {
            use_up(&mut shares, Owner::User(uid), now);
        }
        let late = use_up(&mut shares, Owner::User(99), now);
        assert!((24..=26).contains(&late), "{late}");
    }

    #[test]
    fn the_number_of_owners_is_bounded() {
        let now = Instant::now();
        let mut shares = OwnerTimeShares::unlimited();
        for uid in 0..3 * OWNERS_MAX as u32 {
            shares.charge(Owner::User(uid), PIECE, now + PIECE * uid);
        }
        assert_eq!(shares.by_owner.len(), OWNERS_MAX);
        assert!(shares.has_credit(HOG, now));
    }
}
