//! One closed window on its way to the sinks.

mod answer;
mod subset;

pub use answer::{Answer, Failure};
pub use subset::subset;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use profile::pprof::proto as pb;
use profile::{Labels, NON_SERIES};

/// Largest message of a batch in bytes, uncompressed. What a server takes is less: 64 MiB
/// is Parca's bound for a request, and what OTLP tells clients to keep to.
pub const BYTES_MAX: usize = 64 << 20;

/// One closed window, as a pprof message.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The message. Its samples carry the labels of their series, and `cut` and `guessed`.
    pub profile: pb::Profile,
}

/// Samples of one label set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// Its labels.
    pub labels: Labels,
    /// Places in `profile.sample`, ascending.
    pub samples: Vec<usize>,
}

impl Batch {
    /// When the window began, in nanoseconds since 1970.
    pub fn start_unix_ns(&self) -> u64 {
        self.profile.time_nanos.max(0) as u64
    }

    /// How long it lasted, in nanoseconds.
    pub fn duration_ns(&self) -> u64 {
        self.profile.duration_nanos.max(0) as u64
    }

    /// The sum of `samples/count`; 0 when there is no such sample type.
    pub fn samples(&self) -> u64 {
        let Some(place) = self.value_place("samples", "count") else { return 0 };
        let counts = self.profile.sample.iter().filter_map(|sample| sample.value.get(place));
        counts.fold(0, |sum, count| sum.saturating_add((*count).max(0) as u64))
    }

    /// Tells it from other batches, also from those of other machines at the same time: a hash of its times, counts
    /// and texts.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.start_unix_ns(), self.duration_ns(), self.samples()).hash(&mut hasher);
        (self.profile.sample.len(), &self.profile.string_table).hash(&mut hasher);
        hasher.finish()
    }

    /// Finds a sample type: the place of its values in each sample.
    pub fn value_place(&self, quantity: &str, unit: &str) -> Option<usize> {
        let is_it =
            |t: &pb::ValueType| self.text(t.r#type) == quantity && self.text(t.unit) == unit;
        self.profile.sample_type.iter().position(is_it)
    }

    /// Groups the samples by the labels of their series, in order of labels.
    pub fn series(&self) -> Vec<Series> {
        let mut by_places: BTreeMap<Vec<(i64, i64)>, Vec<usize>> = BTreeMap::new();
        for (place, sample) in self.profile.sample.iter().enumerate() {
            by_places.entry(self.series_label_places(sample)).or_default().push(place);
        }
        let mut by_labels: BTreeMap<Labels, Vec<usize>> = BTreeMap::new();
        for (places, samples) in by_places {
            by_labels.entry(self.labels(&places)).or_default().extend(samples);
        }
        let in_order = |(labels, mut samples): (Labels, Vec<usize>)| {
            samples.sort_unstable();
            Series { labels, samples }
        };
        by_labels.into_iter().map(in_order).collect()
    }

    /// Keys and texts, as places in the table of texts, of what makes a sample's series.
    fn series_label_places(&self, sample: &pb::Sample) -> Vec<(i64, i64)> {
        let texts = sample.label.iter().filter(|label| label.str != 0);
        let of_series = texts.filter(|label| is_of_series(self.text(label.key)));
        let mut places: Vec<_> = of_series.map(|label| (label.key, label.str)).collect();
        places.sort_unstable();
        places
    }

    fn labels(&self, places: &[(i64, i64)]) -> Labels {
        let owned = |place: i64| self.text(place).to_owned();
        Labels(places.iter().map(|(key, text)| (owned(*key), owned(*text))).collect())
    }

    fn text(&self, place: i64) -> &str {
        text_at(&self.profile, place)
    }
}

/// Tells the text labels that make a series from those that do not.
pub(crate) fn is_of_series(key: &str) -> bool {
    !NON_SERIES.contains(&key)
}

/// The text at a place of the table; empty when there is none.
pub(crate) fn text_at(profile: &pb::Profile, place: i64) -> &str {
    let text = usize::try_from(place).ok().and_then(|place| profile.string_table.get(place));
    text.map_or("", String::as_str)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Makes a batch whose samples have these text labels and counts, one stack each.
    pub(crate) fn batch(start_unix_ns: u64, samples: &[(&[(&str, &str)], i64)]) -> Batch {
        let mut texts: Vec<String> =
            ["", "samples", "count", "cpu", "nanoseconds"].map(String::from).into();
        let mut place = |text: &str| {
            let found = texts.iter().position(|known| known == text);
            found.unwrap_or_else(|| {
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
            let name = place(&format!("function{index}"));
            profile.function.push(pb::Function { id, name, system_name: name, filename: 0 });
            let line = vec![pb::Line { function_id: id, line: 1 }];
            profile.location.push(pb::Location { id, mapping_id: 0, address: id * 16, line });
            let mut label = |(key, text): &(&str, &str)| pb::Label {
                key: place(key),
                str: place(text),
                ..pb::Label::default()
            };
            let label = labels.iter().map(&mut label).collect();
            profile.sample.push(pb::Sample { location_id: vec![id], value: vec![*count], label });
        }
        profile.string_table = texts;
        Batch { profile }
    }

    #[test]
    fn samples_are_grouped_by_the_labels_of_series_alone() {
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
    fn numbers_make_no_series() {
        let mut batch = batch(5, &[(&[("comm", "a")], 1), (&[("comm", "a")], 1)]);
        let key = batch.profile.string_table.len() as i64;
        batch.profile.string_table.push("pid".to_owned());
        batch.profile.sample[0].label.push(pb::Label { key, num: 7, ..pb::Label::default() });
        assert_eq!(batch.series().len(), 1);
    }

    #[test]
    fn places_that_do_not_exist_are_empty_texts() {
        let mut batch = batch(5, &[(&[("comm", "a")], 1)]);
        batch.profile.sample[0].label[0].str = 1_000;
        batch.profile.sample[0].label[0].key = -3;
        batch.profile.sample_type[0].unit = i64::MAX;
        assert_eq!(batch.series().len(), 1);
        assert_eq!(batch.samples(), 0);
    }
}
