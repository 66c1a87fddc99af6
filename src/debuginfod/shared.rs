//! What the thread that downloads shares with those that ask.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use profile::BuildId;
use tokio::sync::Notify;

use super::lookups::{LookupState, Lookups};
use super::outcome::{DownloadCounts, DownloadOutcome};
use super::quota::HourlyQuota;
use crate::limits::Owner;

/// Build IDs that wait. A lookup beyond is refused, and tried again in the next window.
const QUEUE_MAX: usize = 512;

/// A build ID to look up. The order is that of the queue, what comes first is greatest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lookup {
    /// Samples in the executable: those with most come first.
    pub samples: u64,
    /// Its number among all lookups.
    number: Reverse<u64>,
    /// Who is accountable for it.
    pub owner: Owner,
    pub build_id: BuildId,
}

impl Lookup {
    pub fn new(build_id: &BuildId, owner: Owner, samples: u64) -> Self {
        Self { samples, number: Reverse(0), owner, build_id: build_id.clone() }
    }
}

/// Lookups, their limits and their outcomes. Nothing blocks while it is locked.
#[derive(Debug)]
pub(super) struct SharedLookups {
    state: Mutex<State>,
    /// The queue is not empty.
    has_queued: Notify,
}

#[derive(Debug)]
struct State {
    lookups: Lookups,
    queue: BinaryHeap<Lookup>,
    /// Lookups that were queued so far.
    queued: u64,
    quota: HourlyQuota,
    counts: DownloadCounts,
    /// How a server failed last.
    failure: Option<String>,
}

impl SharedLookups {
    pub fn new(quota: HourlyQuota) -> Self {
        let state = State {
            lookups: Lookups::default(),
            queue: BinaryHeap::new(),
            queued: 0,
            quota,
            counts: DownloadCounts::default(),
            failure: None,
        };
        Self { state: Mutex::new(state), has_queued: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the state of a build ID; `None` if it may be looked up.
    pub fn state_of(&self, build_id: &BuildId) -> Option<LookupState> {
        self.state().lookups.state(build_id, Instant::now())
    }

    /// Queues a lookup.
    pub fn begin(&self, lookup: Lookup) {
        let (mut state, now) = (self.state(), Instant::now());
        let has_space = state.queue.len() < QUEUE_MAX;
        if !has_space || !state.quota.take_lookup(lookup.owner, now) {
            state.counts.outcomes[DownloadOutcome::RateLimited as usize] += 1;
            return;
        }
        state.lookups.begin(&lookup.build_id, now);
        state.queued += 1;
        let number = Reverse(state.queued);
        state.queue.push(Lookup { number, ..lookup });
        self.has_queued.notify_one();
    }

    /// Waits for the next lookup, and takes it from the queue.
    pub async fn next(&self) -> Lookup {
        loop {
            if let Some(lookup) = self.take_queued() {
                return lookup;
            }
            self.has_queued.notified().await;
        }
    }

    fn take_queued(&self) -> Option<Lookup> {
        let mut state = self.state();
        let lookup = state.queue.pop()?;
        if !state.queue.is_empty() {
            self.has_queued.notify_one(); // several notices count as one
        }
        Some(lookup)
    }

    /// Records how a server failed.
    pub fn failed(&self, failure: String) {
        self.state().failure = Some(failure);
    }

    /// Returns how a server failed last.
    pub fn failure(&self) -> Option<String> {
        self.state().failure.clone()
    }

    /// Ends a lookup, and counts its outcome.
    pub fn end(&self, build_id: &BuildId, outcome: DownloadOutcome) {
        let mut state = self.state();
        state.counts.outcomes[outcome as usize] += 1;
        state.lookups.end(build_id, outcome, Instant::now());
    }

    /// Records that a file was found in the cache directory without a lookup, or was not.
    pub fn found_on_disk(&self, build_id: &BuildId, is_found: bool) {
        let (mut state, now) = (self.state(), Instant::now());
        match (is_found, state.lookups.state(build_id, now)) {
            (true, None | Some(LookupState::Failed { .. })) => {
                state.counts.outcomes[DownloadOutcome::Cached as usize] += 1;
                state.lookups.end(build_id, DownloadOutcome::Cached, now);
            }
            (false, Some(LookupState::Stored)) => state.lookups.evicted(build_id),
            _ => {}
        }
    }

    /// Counts received bytes; returns false if their owner has used its part.
    pub fn receive(&self, owner: Owner, bytes: u64) -> bool {
        let mut state = self.state();
        state.counts.bytes += bytes;
        state.quota.take_bytes(owner, bytes, Instant::now())
    }

    /// Returns all counts so far.
    pub fn counts(&self) -> DownloadCounts {
        let state = self.state();
        DownloadCounts { pending: state.lookups.pending(), ..state.counts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_with_most_samples_come_first() {
        let shared = SharedLookups::new(HourlyQuota::new(1 << 10, 1 << 20, Instant::now()));
        for (id, samples) in [(1, 5), (2, 7), (3, 7), (4, 6)] {
            let build_id = BuildId::new(&[id]).expect("bytes");
            shared.begin(Lookup::new(&build_id, Owner::User(id.into()), samples));
        }
        let order = std::iter::from_fn(|| shared.take_queued());
        let order: Vec<u8> = order.map(|lookup| lookup.build_id.as_bytes()[0]).collect();
        assert_eq!(order, [2, 3, 4, 1]);
        assert_eq!(shared.counts().pending, 4, "until they have an outcome");
    }

    #[test]
    fn queue_is_bounded_and_refusals_are_counted() {
        let shared = SharedLookups::new(HourlyQuota::new(1 << 20, 1 << 20, Instant::now()));
        for number in 0..1000u32 {
            let build_id = BuildId::new(&number.to_le_bytes()).expect("bytes");
            shared.begin(Lookup::new(&build_id, Owner::User(1), 1));
        }
        let counts = shared.counts();
        assert_eq!(counts.count(DownloadOutcome::RateLimited), 1000 - QUEUE_MAX as u64);
        assert_eq!(counts.pending, QUEUE_MAX as u64);
    }
}
