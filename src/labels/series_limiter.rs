//! Bounds the series of all windows together. Users choose the names of their programs and threads,
//! and each new name makes a series that profile stores keep for months.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use profile::labels::{COMM, EXECUTABLE, MERGED};
use profile::{Labels, MergedSeries, Profile};

use crate::limits::{Charge, Owner, SharedPool};

/// How long a series counts after it was last seen.
const RETENTION: Duration = Duration::from_secs(3600);
/// Series in that time, as a multiple of those that one window may have.
const WINDOWS: u64 = 8;
/// Series in that time at least.
const SERIES_LEAST: u64 = 1024;

/// Limits the distinct series within an hour. Those of one container, cgroup or pod are half of all
/// at most: beyond that, new names there are merged into one series, which keeps its other labels.
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
        self.known.retain(|_, series| now.saturating_duration_since(series.seen) < RETENTION);
        let mut merged: HashMap<Arc<Labels>, Option<Arc<Labels>>> = HashMap::new();
        let mut is_merged = vec![false; profile.tasks.len()];
        for (task, is_merged) in profile.tasks.iter_mut().zip(&mut is_merged) {
            let entry = merged.entry(Arc::clone(&task.labels));
            let replaced = entry.or_insert_with_key(|labels| self.replacement(labels, now));
            if let Some(labels) = replaced {
                task.labels = Arc::clone(labels);
                *is_merged = true;
            }
        }
        let samples = profile.samples.iter().filter(|sample| is_merged[sample.key.task.0 as usize]);
        MergedSeries {
            series: merged.values().flatten().count() as u64,
            samples: samples.map(|sample| sample.count).sum(),
        }
    }

    /// Returns the labels of the series to merge a series into; `None` if it is within the limit.
    fn replacement(&mut self, labels: &Labels, now: Instant) -> Option<Arc<Labels>> {
        let key = self.hasher.hash_one(labels);
        if let Some(known) = self.known.get_mut(&key) {
            known.seen = now;
            return None;
        }
        let mut group = labels.clone();
        group.set(COMM, "");
        group.set(EXECUTABLE, "");
        let owner = Owner::Group(self.hasher.hash_one(&group));
        match self.pool.charge(owner, 1) {
            Some(charge) => {
                self.known.insert(key, KnownSeries { seen: now, _charge: charge });
                None
            }
            None => {
                group.set(MERGED, "true");
                Some(Arc::new(group))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use profile::{Pid, SampleCount, SampleKey, StackEnd, StackId, Task, TaskId, Tid};

    /// Returns a window with one sample of each name in a cgroup.
    fn window(cgroup: &str, names: impl Iterator<Item = String>) -> Profile {
        let mut profile = Profile { stacks: vec![Box::new([])], ..Profile::default() };
        for (index, name) in names.enumerate() {
            profile.tasks.push(Task {
                pid: Pid(index as u32),
                tid: Tid(index as u32),
                comm: name.as_str().into(),
                thread: "".into(),
                cgroup_id: 0,
                labels: Arc::new(Labels::from([("comm", name.as_str()), ("cgroup", cgroup)])),
            });
            let key = SampleKey {
                task: TaskId(index as u32),
                stack: StackId(0),
                kernel_end: StackEnd::Absent,
                user_end: StackEnd::Complete,
                guessed: false,
            };
            profile.samples.push(SampleCount { key, count: 1 });
        }
        profile
    }

    fn names(from: usize, count: usize) -> impl Iterator<Item = String> {
        (from..from + count).map(|number| format!("n{number}"))
    }

    #[test]
    fn names_that_change_all_the_time_are_merged_in_their_cgroup() {
        let (mut limiter, now) = (SeriesLimiter::new(10), Instant::now());
        let mut merged = MergedSeries::default();
        for number in 0..100 {
            let mut profile = window("/hog", names(number * 10, 10));
            let of_window = limiter.limit(&mut profile, 10, now);
            merged.series += of_window.series;
            merged.samples += of_window.samples;
            let labels = &profile.tasks[0].labels;
            assert_eq!(labels.get("cgroup"), Some("/hog"));
            assert_eq!(labels.get(MERGED).is_some(), number >= 52, "window {number}");
        }
        assert_eq!((limiter.known.len(), merged.series, merged.samples), (512, 488, 488));
        let mut bystander = window("/service", names(0, 3));
        assert_eq!(limiter.limit(&mut bystander, 10, now), MergedSeries::default());
        let mut known = window("/hog", names(0, 3));
        assert_eq!(limiter.limit(&mut known, 10, now), MergedSeries::default());
    }

    #[test]
    fn series_that_are_not_seen_for_an_hour_make_space() {
        let (mut limiter, now) = (SeriesLimiter::new(1), Instant::now());
        limiter.limit(&mut window("/a", names(0, 1000)), 1, now);
        assert_eq!(limiter.known.len(), 512);
        let later = now + RETENTION;
        let merged = limiter.limit(&mut window("/a", names(1000, 512)), 1, later);
        assert_eq!((merged.series, limiter.known.len()), (0, 512));
    }
}
