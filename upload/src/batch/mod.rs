//! A batch: the profile of one closed window, on its way to the sinks.

mod answer;
mod subset;

pub use answer::{Answer, Failure};
pub use subset::subset;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use profile::pprof::{self, proto as pb};
use profile::{BootTime, Labels, NON_SERIES};

/// Largest message of a batch in bytes, uncompressed. Servers accept less: 64 MiB is Parca's limit
/// for a request, and the limit that OTLP asks of clients.
pub const BYTES_MAX: usize = 64 << 20;

/// The profile of one closed window.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The pprof message. Its samples carry the labels of their series, and `cut` and `guessed`.
    pub profile: pb::Profile,
}

/// The samples of one label set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// Labels of the series.
    pub labels: Labels,
    /// Indexes into `profile.sample`, ascending.
    pub samples: Vec<usize>,
}

impl Batch {
    /// Returns the start of the window, in nanoseconds since 1970.
    pub fn start_unix_ns(&self) -> u64 {
        self.profile.time_nanos.max(0) as u64
    }

    /// Returns the start of the window on the clock of its boot, if the agent has noted it.
    pub fn start(&self) -> Option<BootTime> {
        pprof::origin(&self.profile).map(|origin| origin.start)
    }

    /// Returns the length of the window, in nanoseconds.
    pub fn duration_ns(&self) -> u64 {
        self.profile.duration_nanos.max(0) as u64
    }

    /// Returns the sum of `samples/count`; 0 without that sample type.
    pub fn samples(&self) -> u64 {
        let Some(index) = self.value_index("samples", "count") else { return 0 };
        let counts = self.profile.sample.iter().filter_map(|sample| sample.value.get(index));
        counts.fold(0, |sum, count| sum.saturating_add((*count).max(0) as u64))
    }

    /// Hashes times, counts and texts, which distinguish a batch from others, also from those of
    /// other machines at the same time.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.start_unix_ns(), self.duration_ns(), self.samples()).hash(&mut hasher);
        (self.profile.sample.len(), &self.profile.string_table).hash(&mut hasher);
        hasher.finish()
    }

    /// Finds a sample type. Returns the index of its value in each sample.
    pub fn value_index(&self, quantity: &str, unit: &str) -> Option<usize> {
        let matches =
            |t: &pb::ValueType| self.text(t.r#type) == quantity && self.text(t.unit) == unit;
        self.profile.sample_type.iter().position(matches)
    }

    /// Groups the samples by the labels of their series, sorted by labels.
    pub fn series(&self) -> Vec<Series> {
        let mut by_indexes: BTreeMap<Vec<(i64, i64)>, Vec<usize>> = BTreeMap::new();
        for (index, sample) in self.profile.sample.iter().enumerate() {
            by_indexes.entry(self.series_label_indexes(sample)).or_default().push(index);
        }
        let mut by_labels: BTreeMap<Labels, Vec<usize>> = BTreeMap::new();
        for (indexes, samples) in by_indexes {
            by_labels.entry(self.labels(&indexes)).or_default().extend(samples);
        }
        let series = |(labels, mut samples): (Labels, Vec<usize>)| {
            samples.sort_unstable();
            Series { labels, samples }
        };
        by_labels.into_iter().map(series).collect()
    }

    /// Returns keys and values of a sample's series labels, as indexes into the string table.
    fn series_label_indexes(&self, sample: &pb::Sample) -> Vec<(i64, i64)> {
        let labels = sample.label.iter().filter(|label| is_series_label(&self.profile, label));
        let mut indexes: Vec<_> = labels.map(|label| (label.key, label.str)).collect();
        indexes.sort_unstable();
        indexes
    }

    fn labels(&self, indexes: &[(i64, i64)]) -> Labels {
        let owned = |index: i64| self.text(index).to_owned();
        Labels(indexes.iter().map(|(key, value)| (owned(*key), owned(*value))).collect())
    }

    fn text(&self, index: i64) -> &str {
        text_at(&self.profile, index)
    }
}

/// Returns whether a label is part of a sample's series: a text label, except those that vary
/// within a series.
pub(crate) fn is_series_label(profile: &pb::Profile, label: &pb::Label) -> bool {
    label.str != 0 && !NON_SERIES.contains(&text_at(profile, label.key))
}

/// Returns an entry of the string table; empty for an index that does not exist.
pub(crate) fn text_at(profile: &pb::Profile, index: i64) -> &str {
    let text = usize::try_from(index).ok().and_then(|index| profile.string_table.get(index));
    text.map_or("", String::as_str)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns a batch whose samples have these labels and counts, one stack each.
    pub(crate) fn batch(start_unix_ns: u64, samples: &[(&[(&str, &str)], i64)]) -> Batch {
        let mut texts: Vec<String> =
            ["", "samples", "count", "cpu", "nanoseconds"].map(String::from).into();
        let mut index_of = |text: &str| {
            let existing = texts.iter().position(|other| other == text);
            existing.unwrap_or_else(|| {
                texts.push(text.to_owned());
                texts.len() - 1
            }) as i64
        };
        let mut profile = pb::Profile {
            sample_type: vec![pb::ValueType { r#type: 1, unit: 2 }],
            period_type: Some(pb::ValueType { r#type: 3, unit: 4 }),
            period: 52_631_579,
            time_nanos: start_unix_ns as i64,
            duration_nanos: 10_000_000_000,
            ..pb::Profile::default()
        };
        for (index, (labels, count)) in samples.iter().enumerate() {
            let id = index as u64 + 1;
            let name = index_of(&format!("function{index}"));
            profile.function.push(pb::Function {
                id,
                name,
                system_name: name,
                ..Default::default()
            });
            let line = vec![pb::Line { function_id: id, line: 1 }];
            profile.location.push(pb::Location { id, mapping_id: 0, address: id * 16, line });
            let mut label = |(key, text): &(&str, &str)| pb::Label {
                key: index_of(key),
                str: index_of(text),
                ..pb::Label::default()
            };
            let label = labels.iter().map(&mut label).collect();
            profile.sample.push(pb::Sample { location_id: vec![id], value: vec![*count], label });
        }
        profile.string_table = texts;
        Batch { profile }
    }

    #[test]
    fn samples_are_grouped_by_series_labels_only() {
        let batch = batch(
            5,
            &[
                (&[("comm", "b"), ("thread", "1")], 1),
                (&[("comm", "a")], 2),
                (&[("thread", "2"), ("comm", "b"), ("cut", "user: no unwind row")], 3),
                (&[], 4),
            ],
        );
        let series: Vec<_> = batch.series().into_iter().map(|s| (s.labels.0, s.samples)).collect();
        let comm = |text: &str| BTreeMap::from([("comm".to_owned(), text.to_owned())]);
        let expected =
            vec![(BTreeMap::new(), vec![3]), (comm("a"), vec![1]), (comm("b"), vec![0, 2])];
        assert_eq!(series, expected);
        assert_eq!(batch.samples(), 10);
        assert_eq!((batch.start_unix_ns(), batch.duration_ns()), (5, 10_000_000_000));
    }

    #[test]
    fn numeric_labels_do_not_split_a_series() {
        let mut batch = batch(5, &[(&[("comm", "a")], 1), (&[("comm", "a")], 1)]);
        let key = batch.profile.string_table.len() as i64;
        batch.profile.string_table.push("pid".to_owned());
        batch.profile.sample[0].label.push(pb::Label { key, num: 7, ..pb::Label::default() });
        assert_eq!(batch.series().len(), 1);
    }

    #[test]
    fn dangling_string_indexes_read_as_empty() {
        let mut batch = batch(5, &[(&[("comm", "a")], 1)]);
        batch.profile.sample[0].label[0].str = 1_000;
        batch.profile.sample[0].label[0].key = -3;
        batch.profile.sample_type[0].unit = i64::MAX;
        assert_eq!(batch.series().len(), 1);
        assert_eq!(batch.samples(), 0);
    }
}
