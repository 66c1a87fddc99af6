//! The series of a profile: samples by the labels of their tasks, and how many there may be.

use std::cmp::Reverse;
use std::sync::Arc;

use indexmap::IndexMap;

use crate::labels::MERGED;
use crate::{Labels, Profile};

/// What was merged into one series because there were too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MergedSeries {
    /// How many series that were.
    pub series: u64,
    /// Their samples.
    pub samples: u64,
}

impl Profile {
    /// Leaves at most `series_max` series: those with fewest samples become one. It has the labels given here, those that
    /// all series of this machine have, and `merged`. At least that one series is left.
    pub fn bound_series(&mut self, series_max: usize, labels: &Labels) -> MergedSeries {
        let (counts, series_of) = self.count_series();
        let kept = series_max.max(1) - 1;
        if counts.len() <= kept + 1 {
            return MergedSeries::default();
        }
        let mut order: Vec<usize> = (0..counts.len()).collect();
        order.sort_by_key(|series| {
            let (labels, count) = counts.get_index(*series).expect("one of them");
            (Reverse(*count), Arc::clone(labels))
        });
        let mut is_kept = vec![false; counts.len()];
        order[..kept].iter().for_each(|series| is_kept[*series] = true);

        let mut labels = labels.clone();
        labels.set(MERGED, "true");
        let labels = Arc::new(labels);
        for (task, series) in self.tasks.iter_mut().zip(series_of) {
            if !is_kept[series] {
                task.labels = Arc::clone(&labels);
            }
        }
        let samples = order[kept..].iter().map(|series| counts[*series]).sum();
        MergedSeries { series: order[kept..].len() as u64, samples }
    }

    /// Gives the samples of each series, and the series of each task.
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

    /// Tasks by the name of their series, with so many samples each.
    fn profile(tasks: &[(&str, u64)]) -> Profile {
        let mut profile = Profile { stacks: vec![Box::new([])], ..Profile::default() };
        for (place, (name, count)) in tasks.iter().enumerate() {
            profile.tasks.push(Task {
                pid: Pid(place as u32),
                tid: Tid(place as u32),
                comm: (*name).into(),
                thread: "".into(),
                cgroup_id: 0,
                labels: Arc::new(Labels::from([("comm", *name), ("node", "n")])),
            });
            let key = SampleKey {
                task: TaskId(place as u32),
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
    fn series_with_fewest_samples_become_one() {
        let tasks = [("a", 2), ("b", 9), ("c", 3), ("a", 2), ("d", 1)];
        let (names, merged) = bounded(&tasks, 3);
        assert_eq!(names, ["a", "b", "true", "a", "true"]);
        assert_eq!(merged, MergedSeries { series: 2, samples: 4 });
        assert_eq!(bounded(&tasks, 1).1, MergedSeries { series: 4, samples: 17 });
    }

    #[test]
    fn as_many_as_allowed_stay_as_they_are() {
        let tasks = [("a", 2), ("b", 9), ("a", 1)];
        assert_eq!(
            bounded(&tasks, 2),
            (vec!["a".into(), "b".into(), "a".into()], MergedSeries::default())
        );
        assert_eq!(bounded(&[], 0), (Vec::new(), MergedSeries::default()));
    }

    #[test]
    fn of_series_with_equally_many_samples_the_same_stay_in_each_window() {
        let one = bounded(&[("x", 1), ("y", 1), ("z", 1)], 2).0;
        let other = bounded(&[("z", 1), ("y", 1), ("x", 1)], 2).0;
        assert_eq!((one[0].as_str(), other[2].as_str()), ("x", "x"));
        assert_eq!((one[2].as_str(), other[0].as_str()), ("true", "true"));
    }
}
