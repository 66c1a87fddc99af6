//! What is known about each build ID: whether its file is there, is looked up, or was not found.

use std::collections::HashMap;
use std::time::Instant;

use profile::BuildId;

use super::outcome::DownloadOutcome;

/// Build IDs that are remembered. Beyond, those that were changed longest ago are forgotten.
const BUILD_IDS_MAX: usize = 8192;

/// What is known about a build ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LookupState {
    /// It is queued, or being downloaded.
    Pending,
    /// Its file is in the cache directory.
    Stored,
    /// It has no file, and is not looked up again before this time.
    Failed {
        /// When it may be looked up again.
        until: Instant,
    },
}

/// States by build ID.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    states: HashMap<BuildId, (LookupState, Instant)>,
    pending: u64,
}

impl Lookups {
    /// Returns the state of a build ID; `None` if it may be looked up.
    pub fn state(&self, build_id: &BuildId, now: Instant) -> Option<LookupState> {
        let (state, _) = self.states.get(build_id)?;
        let is_over = matches!(state, LookupState::Failed { until } if *until <= now);
        (!is_over).then_some(*state)
    }

    /// Returns the number of build IDs that are being looked up.
    pub fn pending(&self) -> u64 {
        self.pending
    }

    /// Begins a lookup.
    pub fn begin(&mut self, build_id: &BuildId, now: Instant) {
        self.set(build_id, LookupState::Pending, now);
    }

    /// Ends a lookup.
    pub fn end(&mut self, build_id: &BuildId, outcome: DownloadOutcome, now: Instant) {
        let state = match outcome.is_success() {
            true => LookupState::Stored,
            false => LookupState::Failed { until: now + outcome.retry_after() },
        };
        self.set(build_id, state, now);
    }

    /// Forgets that a file is in the cache directory: it was evicted.
    pub fn evicted(&mut self, build_id: &BuildId) {
        if matches!(self.states.get(build_id), Some((LookupState::Stored, _))) {
            self.states.remove(build_id);
        }
    }

    fn set(&mut self, build_id: &BuildId, state: LookupState, now: Instant) {
        let previous = self.states.insert(build_id.clone(), (state, now));
        let was_pending = matches!(previous, Some((LookupState::Pending, _)));
        self.pending += u64::from(state == LookupState::Pending);
        self.pending -= u64::from(was_pending);
        if self.states.len() > BUILD_IDS_MAX {
            self.forget_oldest();
        }
    }

    /// Forgets half of the build IDs that have an outcome.
    fn forget_oldest(&mut self) {
        let is_settled = |state: &LookupState| *state != LookupState::Pending;
        let settled = self.states.values().filter(|(state, _)| is_settled(state));
        let mut times: Vec<Instant> = settled.map(|(_, at)| *at).collect();
        times.sort_unstable();
        let Some(middle) = times.get(times.len() / 2).copied() else { return };
        self.states.retain(|_, (state, at)| !is_settled(state) || *at > middle);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn build_id(number: u32) -> BuildId {
        BuildId::new(&number.to_le_bytes()).expect("bytes")
    }

    #[test]
    fn failure_is_remembered_for_a_time() {
        let (mut lookups, now) = (Lookups::default(), Instant::now());
        let id = build_id(1);
        assert_eq!(lookups.state(&id, now), None);
        lookups.begin(&id, now);
        assert_eq!((lookups.state(&id, now), lookups.pending()), (Some(LookupState::Pending), 1));
        lookups.end(&id, DownloadOutcome::NotFound, now);
        let after = DownloadOutcome::NotFound.retry_after();
        assert!(lookups.state(&id, now + after - Duration::from_secs(1)).is_some());
        assert_eq!((lookups.state(&id, now + after), lookups.pending()), (None, 0));
    }

    #[test]
    fn evicted_file_is_looked_up_again() {
        let (mut lookups, now) = (Lookups::default(), Instant::now());
        lookups.end(&build_id(1), DownloadOutcome::Fetched, now);
        assert_eq!(lookups.state(&build_id(1), now), Some(LookupState::Stored));
        lookups.evicted(&build_id(1));
        assert_eq!(lookups.state(&build_id(1), now), None);
    }

    #[test]
    fn build_ids_are_bounded_and_pending_ones_stay() {
        let (mut lookups, now) = (Lookups::default(), Instant::now());
        lookups.begin(&build_id(0), now);
        for number in 1..30_000 {
            let at = now + Duration::from_millis(number.into());
            lookups.end(&build_id(number), DownloadOutcome::NotFound, at);
            assert!(lookups.states.len() <= BUILD_IDS_MAX);
        }
        assert_eq!(lookups.state(&build_id(0), now), Some(LookupState::Pending));
        assert!(lookups.state(&build_id(29_999), now).is_some());
    }
}
