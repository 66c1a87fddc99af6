//! Backoff of tables that are evicted soon after they were read, over and over.
//!
//! Where the slabs are too small for what is sampled, some stacks are cut. The host does not pay
//! for reading the same files all the time: each retry of such a table comes later than the last.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Hash that identifies the content of a file.
pub(super) type ContentHash = [u8; 32];

/// A table that stayed loaded for this long was worth reading.
const WORTHWHILE: Duration = Duration::from_secs(60);
/// Early evictions in a row that are free of backoff.
const FREE_EVICTIONS: u32 = 1;
/// The first backoff, as a multiple of the CPU time that reading takes. Each later one is twice
/// as long.
const FIRST_BACKOFF: u32 = 100;
const BACKOFF_MAX: Duration = Duration::from_secs(600);
/// Backoff of a table that did not fit.
const REFUSED_BACKOFF: Duration = Duration::from_secs(60);
/// Backoff of a table larger than three quarters of all slabs, which is never loaded.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// Tables remembered; further ones have no backoff.
const REMEMBERED_MAX: usize = 4096;

/// Which tables are in backoff, and until when.
#[derive(Debug, Default)]
pub(super) struct Backoffs(HashMap<ContentHash, Backoff>);

#[derive(Debug)]
struct Backoff {
    /// Times in a row that the table was read in vain.
    failures: u32,
    until: Instant,
}

impl Backoffs {
    /// Records the eviction of a table that was loaded at `since`. `cost`: CPU time that reading
    /// it took. Returns whether the table is in backoff now.
    pub fn evicted(
        &mut self,
        hash: &ContentHash,
        cost: Duration,
        since: Instant,
        now: Instant,
    ) -> bool {
        if now - since >= WORTHWHILE {
            self.0.remove(hash);
            return false;
        }
        self.add(hash, now, |failures| match failures.checked_sub(FREE_EVICTIONS + 1) {
            Some(more) => (cost * FIRST_BACKOFF).saturating_mul(1 << more.min(16)).min(BACKOFF_MAX),
            None => Duration::ZERO,
        })
    }

    /// Records that a table did not fit.
    pub fn refused(&mut self, hash: &ContentHash, now: Instant) {
        self.add(hash, now, |failures| REFUSED_BACKOFF.saturating_mul(failures).min(BACKOFF_MAX));
    }

    /// Records that a table can never fit.
    pub fn too_large(&mut self, hash: &ContentHash, now: Instant) {
        self.add(hash, now, |_| FOREVER);
    }

    /// Whether a table is in backoff.
    pub fn contains(&self, hash: &ContentHash, now: Instant) -> bool {
        self.0.get(hash).is_some_and(|backoff| backoff.until > now)
    }

    /// Forgets tables that were not requested for a while after their backoff.
    pub fn forget_expired(&mut self, now: Instant) {
        self.0.retain(|_, backoff| backoff.until + BACKOFF_MAX > now);
    }

    fn add(
        &mut self,
        hash: &ContentHash,
        now: Instant,
        length: impl FnOnce(u32) -> Duration,
    ) -> bool {
        if self.0.len() >= REMEMBERED_MAX && !self.0.contains_key(hash) {
            return false;
        }
        let backoff = self.0.entry(*hash).or_insert(Backoff { failures: 0, until: now });
        backoff.failures += 1;
        backoff.until = now + length(backoff.failures);
        backoff.until > now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: ContentHash = [7; 32];
    const COST: Duration = Duration::from_millis(100);

    #[test]
    fn backoff_grows_with_each_early_eviction() {
        let (mut backoffs, mut now, mut reads) = (Backoffs::default(), Instant::now(), 0u32);
        let end = now + Duration::from_secs(24 * 3600);
        while now < end {
            reads += 1;
            let since = now;
            now += Duration::from_secs(1);
            backoffs.evicted(&HASH, COST, since, now);
            while backoffs.contains(&HASH, now) {
                now += Duration::from_secs(1);
            }
            backoffs.forget_expired(now);
        }
        // 0.1 s of CPU time every ten minutes.
        assert!((140..180).contains(&reads), "{reads} reads in a day");
    }

    #[test]
    fn single_or_late_eviction_has_no_backoff() {
        let (mut backoffs, now) = (Backoffs::default(), Instant::now());
        let soon = now + Duration::from_secs(3);
        assert!(!backoffs.evicted(&HASH, COST, now, soon));
        assert!(backoffs.evicted(&HASH, COST, now, soon));
        assert!(backoffs.contains(&HASH, soon));
        assert!(!backoffs.contains(&HASH, soon + 2 * COST * FIRST_BACKOFF));
        assert!(!backoffs.evicted(&HASH, COST, now, now + WORTHWHILE));
        assert!(!backoffs.contains(&HASH, soon));
    }

    #[test]
    fn refused_table_backs_off_and_memory_is_bounded() {
        let (mut backoffs, now) = (Backoffs::default(), Instant::now());
        backoffs.refused(&HASH, now);
        assert!(backoffs.contains(&HASH, now));
        for number in 0..2 * REMEMBERED_MAX as u32 {
            let mut hash = HASH;
            hash[..4].copy_from_slice(&number.to_le_bytes());
            backoffs.refused(&hash, now);
        }
        assert_eq!(backoffs.0.len(), REMEMBERED_MAX);
        backoffs.forget_expired(now + 2 * BACKOFF_MAX);
        assert!(backoffs.0.is_empty());
        backoffs.too_large(&HASH, now);
        backoffs.forget_expired(now + 2 * BACKOFF_MAX);
        assert!(backoffs.contains(&HASH, now + 2 * BACKOFF_MAX));
    }
}
