//! Tables that others push out soon after they were read, over and over: each has to wait before it is read again.
//!
//! Where the budget is too small for what is sampled, some stacks are cut, and the host does not pay for reading the same
//! files all the time: what is pushed out again and again is read ever more seldom.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// What tells the contents of files apart.
pub(super) type Hash = [u8; 32];

/// A table that stayed for so long was worth reading.
const WORTH: Duration = Duration::from_secs(60);
/// How often a table may be read in vain before it has to wait.
const FREE: u32 = 1;
/// The first wait, as a multiple of the CPU time that reading takes. Each of the next ones is twice as long.
const FIRST_WAIT: u32 = 100;
const WAIT_MAX: Duration = Duration::from_secs(600);
/// How long one waits that there was no room for.
const REFUSED_WAIT: Duration = Duration::from_secs(60);
/// How long one waits that is larger than all the room there is.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// Tables that are remembered; what comes on top need not wait.
const REMEMBERED_MAX: usize = 4096;

/// Who has to wait, and for how long.
#[derive(Debug, Default)]
pub(super) struct Backoffs(HashMap<Hash, Wait>);

#[derive(Debug)]
struct Wait {
    /// Times that it was read in vain, one after the other.
    in_vain: u32,
    until: Instant,
}

impl Backoffs {
    /// Learns that a table was pushed out, which had taken `cost` of CPU time to read and stayed from `since` to `now`. Says whether
    /// it has to wait.
    pub fn pushed_out(
        &mut self,
        hash: &Hash,
        cost: Duration,
        since: Instant,
        now: Instant,
    ) -> bool {
        if now - since >= WORTH {
            self.0.remove(hash);
            return false;
        }
        self.add(hash, now, |in_vain| match in_vain.checked_sub(FREE + 1) {
            Some(more) => (cost * FIRST_WAIT).saturating_mul(1 << more.min(16)).min(WAIT_MAX),
            None => Duration::ZERO,
        })
    }

    /// Learns that there was no room for a table.
    pub fn refused(&mut self, hash: &Hash, now: Instant) {
        self.add(hash, now, |in_vain| REFUSED_WAIT.saturating_mul(in_vain).min(WAIT_MAX));
    }

    /// Learns that there will never be room for a table.
    pub fn too_large(&mut self, hash: &Hash, now: Instant) {
        self.add(hash, now, |_| FOR_EVER);
    }

    /// Whether a table has to wait.
    pub fn has_to_wait(&self, hash: &Hash, now: Instant) -> bool {
        self.0.get(hash).is_some_and(|wait| wait.until > now)
    }

    /// Forgets those that nobody has asked for since their wait was over.
    pub fn tidy(&mut self, now: Instant) {
        self.0.retain(|_, wait| wait.until + WAIT_MAX > now);
    }

    fn add(&mut self, hash: &Hash, now: Instant, wait: impl FnOnce(u32) -> Duration) -> bool {
        if self.0.len() >= REMEMBERED_MAX && !self.0.contains_key(hash) {
            return false;
        }
        let known = self.0.entry(*hash).or_insert(Wait { in_vain: 0, until: now });
        known.in_vain += 1;
        known.until = now + wait(known.in_vain);
        known.until > now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: Hash = [7; 32];
    const COST: Duration = Duration::from_millis(100);

    #[test]
    fn what_is_pushed_out_over_and_over_waits_ever_longer() {
        let (mut waits, mut now, mut reads) = (Backoffs::default(), Instant::now(), 0u32);
        let end = now + Duration::from_secs(24 * 3600);
        while now < end {
            reads += 1;
            let since = now;
            now += Duration::from_secs(1);
            waits.pushed_out(&HASH, COST, since, now);
            while waits.has_to_wait(&HASH, now) {
                now += Duration::from_secs(1);
            }
            waits.tidy(now);
        }
        // 0.1 s of CPU time every ten minutes.
        assert!((140..180).contains(&reads), "{reads} times in a day");
    }

    #[test]
    fn what_is_pushed_out_once_or_stays_long_does_not_wait() {
        let (mut waits, now) = (Backoffs::default(), Instant::now());
        let soon = now + Duration::from_secs(3);
        assert!(!waits.pushed_out(&HASH, COST, now, soon));
        assert!(waits.pushed_out(&HASH, COST, now, soon));
        assert!(waits.has_to_wait(&HASH, soon));
        assert!(!waits.has_to_wait(&HASH, soon + 2 * COST * FIRST_WAIT));
        assert!(!waits.pushed_out(&HASH, COST, now, now + WORTH));
        assert!(!waits.has_to_wait(&HASH, soon));
    }

    #[test]
    fn what_there_is_no_room_for_waits_and_memory_is_bounded() {
        let (mut waits, now) = (Backoffs::default(), Instant::now());
        waits.refused(&HASH, now);
        assert!(waits.has_to_wait(&HASH, now));
        for number in 0..2 * REMEMBERED_MAX as u32 {
            let mut hash = HASH;
            hash[..4].copy_from_slice(&number.to_le_bytes());
            waits.refused(&hash, now);
        }
        assert_eq!(waits.0.len(), REMEMBERED_MAX);
        waits.tidy(now + 2 * WAIT_MAX);
        assert!(waits.0.is_empty());
        waits.too_large(&HASH, now);
        waits.tidy(now + 2 * WAIT_MAX);
        assert!(waits.has_to_wait(&HASH, now + 2 * WAIT_MAX));
    }
}
