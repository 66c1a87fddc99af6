//! The series of a profile: samples grouped by the labels of their tasks, limited in number.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::labels::MERGED;
use crate::{Labels, Profile};

/// The series that were merged into others because there were too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MergedSeries {
    /// Number of series merged.
    pub series: u64,
    /// Number of their samples.
    pub samples: u64,
}

impl Profile {
    /// Reduces the profile to at most `series_max` series, and at least one, by merging those with
    /// the fewest samples. The merged series has [`MERGED`] and `labels`, the labels of all series
    /// of this machine.
    pub fn bound_series(&mut self, series_max: usize, labels: &Labels) -> MergedSeries {
        let counts = self.count_series();
        let retained = series_max.max(1) - 1;
        if counts.len() <= retained + 1 {
            return MergedSeries::default();
        }
        let mut order: Vec<_> =
            counts.into_iter().map(|(labels, count)| (Reverse(count), labels)).collect();
        order.sort();
        let retained: HashSet<_> = order.drain(..retained).map(|(_, labels)| labels).collect();

        let mut merged = labels.clone();
        merged.set(MERGED, "true");
        let merged = Arc::new(merged);
        self.merge_series(|labels| (!retained.contains(labels)).then(|| Arc::clone(&merged)))
    }

    /// Merges series into others. `target`: returns the labels of the series that a series is
    /// merged into, `None` if it stays; it is called once for each series.
    pub fn merge_series(
        &mut self,
        mut target: impl FnMut(&Arc<Labels>) -> Option<Arc<Labels>>,
    ) -> MergedSeries {
        let mut targets: HashMap<Arc<Labels>, Option<Arc<Labels>>> = HashMap::new();
        let mut is_merged = vec![false; self.tasks.len()];
        for (task, is_merged) in self.tasks.iter_mut().zip(&mut is_merged) {
            let entry = targets.entry(Arc::clone(&task.labels));
            if let Some(labels) = entry.or_insert_with_key(&mut target) {
                task.labels = Arc::clone(labels);
                *is_merged = true;
            }
        }
        let samples = self.samples.iter().filter(|sample| is_merged[sample.key.task.0 as usize]);
        MergedSeries {
            series: targets.values().flatten().count() as u64,
            samples: samples.map(|sample| sample.count).sum(),
        }
    }

    /// Returns the number of samples of each series.
    fn count_series(&self) -> HashMap<Arc<Labels>, u64> {
        let mut counts: HashMap<Arc<Labels>, u64> = HashMap::new();
        for task in &self.tasks {
            counts.entry(Arc::clone(&task.labels)).or_default();
        }
        for sample in &self.samples {
            let labels = &self.task_of(sample).labels;
            *counts.entry(Arc::clone(labels)).or_default() += sample.count;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Pid, SampleCount, SampleKey, StackEnd, StackId, Task, TaskId, Tid};

    /// Returns a profile of tasks, given as the name of their series and their number of samples.
    fn profile(tasks: &[(&str, u64)]) -> Profile {
        let mut profile = Profile { stacks: vec![Box::new([])], ..Profile::default() };
        for (index, (name, count)) in tasks.iter().enumerate() {
            profile.tasks.push(Task {
                pid: Pid(index as u32),
                tid: Tid(index as u32),
                comm: (*name).into(),
                thread: "".into(),
                cgroup_id: 0,
                labels: Arc::new(Labels::from([("comm", *name), ("node", "n")])),
            });
            let key = SampleKey {
                task: TaskId(index as u32),
                stack: StackId(0),
                kernel_end: StackEnd::Absent,
                user_end: StackEnd::Complete,
                guessed: false,
            };
            profile.samples.push(SampleCount { key, count: *count });
        }
        profile
    }

    fn bounded(tasks: &[(&str, u64)], series_max: usize) -> (Vec<String>, MergedSeries) {
        let mut profile = profile(tasks);
        let merged = profile.bound_series(series_max, &Labels::from([("node", "n")]));
        let name = |task: &Task| {
            assert_eq!(task.labels.get("node"), Some("n"));
            task.labels.get("comm").or(task.labels.get(MERGED)).unwrap_or_default().to_owned()
        };
        (profile.tasks.iter().map(name).collect(), merged)
    }

    #[test]
    fn merges_series_with_fewest_samples() {
        let tasks = [("a", 2), ("b", 9), ("c", 3), ("a", 2), ("d", 1)];
        let (names, merged) = bounded(&tasks, 3);
        assert_eq!(names, ["a", "b", "true", "a", "true"]);
        assert_eq!(merged, MergedSeries { series: 2, samples: 4 });
        assert_eq!(bounded(&tasks, 1).1, MergedSeries { series: 4, samples: 17 });
    }

    #[test]
    fn does_not_merge_within_the_limit() {
        let tasks = [("a", 2), ("b", 9), ("a", 1)];
        assert_eq!(
            bounded(&tasks, 2),
            (vec!["a".into(), "b".into(), "a".into()], MergedSeries::default())
        );
        assert_eq!(bounded(&[], 0), (Vec::new(), MergedSeries::default()));
    }

    #[test]
    fn breaks_ties_alike_in_each_window() {
        let one = bounded(&[("x", 1), ("y", 1), ("z", 1)], 2).0;
        let other = bounded(&[("z", 1), ("y", 1), ("x", 1)], 2).0;
        assert_eq!((one[0].as_str(), other[2].as_str()), ("x", "x"));
        assert_eq!((one[2].as_str(), other[0].as_str()), ("true", "true"));
    }
}
