//! The series of a profile: samples grouped by the labels of their tasks, limited in number.

use std::cmp::Reverse;
use std::sync::Arc;

use indexmap::IndexMap;

use crate::labels::MERGED;
use crate::{Labels, Profile};

/// The series that were merged into one because there were too many.
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
        let (counts, series_of) = self.count_series();
        let retained = series_max.max(1) - 1;
        if counts.len() <= retained + 1 {
            return MergedSeries::default();
        }
        let mut order: Vec<usize> = (0..counts.len()).collect();
        order.sort_by_key(|series| {
            let (labels, count) = counts.get_index(*series).expect("an index of counts");
            (Reverse(*count), Arc::clone(labels))
        });
        let mut is_retained = vec![false; counts.len()];
        order[..retained].iter().for_each(|series| is_retained[*series] = true);

        let mut labels = labels.clone();
        labels.set(MERGED, "true");
        let labels = Arc::new(labels);
        for (task, series) in self.tasks.iter_mut().zip(series_of) {
            if !is_retained[series] {
                task.labels = Arc::clone(&labels);
            }
        }
        let samples = order[retained..].iter().map(|series| counts[*series]).sum();
        MergedSeries { series: order[retained..].len() as u64, samples }
    }

    /// Returns the number of samples of each series, and the index of each task's series.
    fn count_series(&self) -> (IndexMap<Arc<Labels>, u64>, Vec<usize>) {
        let mut counts: IndexMap<Arc<Labels>, u64> = IndexMap::new();
        let mut series_of = Vec::with_capacity(self.tasks.len());
        for task in &self.tasks {
            let entry = counts.entry(Arc::clone(&task.labels));
            series_of.push(entry.index());
            entry.or_default();
        }
        for sample in &self.samples {
            counts[series_of[sample.key.task.0 as usize]] += sample.count;
        }
        (counts, series_of)
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
