//! Bounds the series of all windows together. Users choose the names of their programs and threads,
//! and each new name makes a series that profile stores keep for months.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use profile::labels::{CGROUP, COMM, CONTAINER_ID, EXECUTABLE, MERGED, POD_UID};
use profile::{Labels, MergedSeries, Profile};

use crate::limits::{Charge, Owner, SharedPool};

/// How long a series counts after it was last seen.
const RETENTION: Duration = Duration::from_secs(3600);
/// Series in that time, as a multiple of those that one window may have.
const WINDOWS: u64 = 8;
/// Series in that time at least.
const SERIES_LEAST: u64 = 1024;
/// The owner of the series into which those of cgroups are merged. The hash of no group is 0, but
/// by chance.
const MERGED_OWNER: Owner = Owner::Group(0);

/// Limits the distinct series within an hour. Those of one container, cgroup or pod are half of all
/// at most: beyond that, new names there are merged into one series, which keeps its other labels.
/// Cgroups can be new all the time, too: beyond what is left for those series, theirs are merged
/// into one of the machine.
#[derive(Debug)]
pub struct SeriesLimiter {
    known: HashMap<u64, KnownSeries>,
    pool: SharedPool,
    series_max: usize,
    hasher: RandomState,
}

#[derive(Debug)]
struct KnownSeries {
    seen: Instant,
    _charge: Charge,
}

impl SeriesLimiter {
    /// Starts without series. `series_max`: those that one window may have.
    pub fn new(series_max: usize) -> Self {
        let pool = SharedPool::new((series_max as u64).saturating_mul(WINDOWS).max(SERIES_LEAST));
        Self { known: HashMap::new(), pool, series_max, hasher: RandomState::new() }
    }

    /// Merges the series of a window that are new and exceed the limit. `series_max`: those that
    /// one window may have now.
    pub fn limit(
        &mut self,
        profile: &mut Profile,
        series_max: usize,
        now: Instant,
    ) -> MergedSeries {
        if series_max != self.series_max {
            *self = Self::new(series_max);
        }
        self.forget_unseen(now);
        profile.merge_series(|labels| self.target(labels, now))
    }

    /// Returns the number of distinct series within the hour before the last window.
    pub fn series(&self) -> u64 {
        self.known.len() as u64
    }

    fn forget_unseen(&mut self, now: Instant) {
        self.known.retain(|_, series| now.saturating_duration_since(series.seen) < RETENTION);
    }

    /// Returns the labels of the series to merge a series into; `None` if it is within the limit.
    fn target(&mut self, labels: &Labels, now: Instant) -> Option<Arc<Labels>> {
        let mut group = without(labels, &[COMM, EXECUTABLE]);
        let owner = Owner::Group(self.hasher.hash_one(owner_of(&group)));
        if self.is_within(labels, owner, now) {
            return None;
        }
        group.set(MERGED, "true");
        if !self.is_within(&group, MERGED_OWNER, now) {
            group = without(&group, &[CGROUP, POD_UID, CONTAINER_ID]);
        }
        Some(Arc::new(group))
    }

    /// Returns whether a series is known or may be added.
    fn is_within(&mut self, labels: &Labels, owner: Owner, now: Instant) -> bool {
        let key = self.hasher.hash_one(labels);
        if let Some(known) = self.known.get_mut(&key) {
            known.seen = now;
            return true;
        }
        let charge = self.pool.charge(owner, 1);
        let series = charge.map(|charge| KnownSeries { seen: now, _charge: charge });
        let is_within = series.is_some();
        self.known.extend(series.map(|series| (key, series)));
        is_within
    }
}

fn without(labels: &Labels, names: &[&str]) -> Labels {
    let mut rest = labels.clone();
    names.iter().for_each(|name| rest.set(name, ""));
    rest
}

/// Returns the labels of a group that identify who is accountable for its series: a
/// user can make cgroups in the user's own slice of systemd, so these count together.
fn owner_of(group: &Labels) -> Labels {
    let mut owner = group.clone();
    let cgroup = group.get(CGROUP).unwrap_or_default();
    if let Some(below) = cgroup.strip_prefix("/user.slice/")
        && let Some(slice) = below.split('/').next().filter(|name| name.starts_with("user-"))
    {
        owner = without(&owner, &[POD_UID, CONTAINER_ID]);
        owner.set(CGROUP, &format!("/user.slice/{slice}"));
    }
    owner
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Series of one window for a [`SeriesLimiter`].
    struct Series {
        limiter: SeriesLimiter,
        now: Instant,
    }

    impl Series {
        fn new(series_max: usize) -> Self {
            Self { limiter: SeriesLimiter::new(series_max), now: Instant::now() }
        }

        /// Adds the series of a name in a cgroup. Returns the labels that it is merged into.
        fn add(&mut self, cgroup: &str, comm: usize) -> Option<Arc<Labels>> {
            let comm = format!("n{comm}");
            let labels = Labels::from([("comm", comm.as_str()), ("cgroup", cgroup), ("node", "n")]);
            self.limiter.target(&labels, self.now)
        }

        fn count_merged(&mut self, cgroup: &str, names: std::ops::Range<usize>) -> usize {
            names.filter(|name| self.add(cgroup, *name).is_some()).count()
        }
    }

    #[test]
    fn names_that_change_all_the_time_are_merged_in_their_cgroup() {
        let mut series = Series::new(10);
        assert_eq!(series.count_merged("/hog", 0..384), 0);
        assert_eq!(series.count_merged("/hog", 384..1000), 616);
        let merged = series.add("/hog", 1000).expect("merged");
        let expected = [("cgroup", "/hog"), ("merged", "true"), ("node", "n")];
        assert_eq!(*merged, Labels::from(expected));
        assert_eq!(series.limiter.series(), 385);
        assert_eq!(series.count_merged("/service", 0..3), 0, "another cgroup");
        assert_eq!(series.count_merged("/hog", 0..384), 0, "names that are known");
    }

    #[test]
    fn cgroups_that_change_all_the_time_are_merged_in_the_machine() {
        let mut series = Series::new(10);
        let merged: Vec<_> =
            (0..5000).filter_map(|number| series.add(&format!("/{number}"), 0)).collect();
        assert_eq!((series.limiter.series(), merged.len()), (1024, 5000 - 1024));
        let expected = Labels::from([("merged", "true"), ("node", "n")]);
        assert!(merged.iter().all(|labels| **labels == expected));
        assert_eq!(series.count_merged("/0", 0..1), 0, "a series that is known");
    }

    #[test]
    fn cgroups_of_one_user_are_one_owner() {
        let mut series = Series::new(10);
        let cgroup = |number| format!("/user.slice/user-1000.slice/user@1000.service/{number}");
        let merged = (0..5000).filter_map(|number| series.add(&cgroup(number), 0)).count();
        assert!(merged > 4000);
        assert_eq!(series.count_merged("/service", 0..50), 0);
        assert!(series.limiter.series() <= 1024);
    }

    #[test]
    fn series_that_are_not_seen_for_an_hour_make_space() {
        let mut series = Series::new(1);
        assert_eq!(series.count_merged("/a", 0..384), 0);
        assert_eq!(series.count_merged("/a", 384..385), 1);
        series.now += RETENTION;
        series.limiter.forget_unseen(series.now);
        assert_eq!(series.count_merged("/a", 1000..1384), 0);
    }

    #[test]
    fn another_limit_begins_anew() {
        let (mut limiter, mut profile) = (SeriesLimiter::new(0), Profile::default());
        assert_eq!(limiter.limit(&mut profile, 7, Instant::now()), MergedSeries::default());
        assert_eq!(limiter.series_max, 7);
    }
}
