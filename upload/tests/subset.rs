//! A subset of a message describes its samples exactly as the whole message does.
#![allow(clippy::unwrap_used)] // tests may panic

use std::collections::HashSet;

use profile::pprof::proto as pb;
use proptest::prelude::*;
use upload::{Batch, subset};

/// A string table: the empty string first, some strings twice.
const STRINGS: [&str; 12] =
    ["", "samples", "count", "cpu", "comm", "thread", "cut", "main", "main", "x", "/bin/x", "x.c"];

fn string_index() -> impl Strategy<Value = i64> {
    0..STRINGS.len() as i64
}

fn label() -> impl Strategy<Value = pb::Label> {
    let text = (string_index(), string_index()).prop_map(|(key, str)| pb::Label {
        key,
        str,
        ..Default::default()
    });
    let number = (string_index(), any::<i64>(), string_index())
        .prop_map(|(key, num, num_unit)| pb::Label { key, num, num_unit, str: 0 });
    prop_oneof![text, number]
}

/// Unique IDs other than 0, in any order: readers must not rely on more.
fn ids(count: usize) -> impl Strategy<Value = Vec<u64>> {
    let in_order: Vec<u64> = (1..=count as u64).collect();
    let scattered: Vec<u64> = (1..=count as u64).map(|n| n * 7 % 1_009).collect();
    prop_oneof![Just(in_order), Just(scattered).prop_shuffle()]
}

prop_compose! {
    fn mappings()(
        ids in ids(4),
        texts in prop::collection::vec((string_index(), string_index()), 4),
    ) -> Vec<pb::Mapping> {
        let one = |(id, (filename, build_id))| {
            pb::Mapping { id, filename, build_id, has_functions: id % 2 == 0, ..Default::default() }
        };
        ids.into_iter().zip(texts).map(one).collect()
    }
}

prop_compose! {
    fn functions()(
        ids in ids(6),
        texts in prop::collection::vec((string_index(), string_index(), string_index()), 6),
    ) -> Vec<pb::Function> {
        let one = |(id, (name, system_name, filename))| {
            pb::Function { id, name, system_name, filename, start_line: id as i64 }
        };
        ids.into_iter().zip(texts).map(one).collect()
    }
}

/// Indexes into other tables, converted to IDs by [`profile`].
type Frame = (usize, u64, Vec<(usize, i64)>);

fn frames() -> impl Strategy<Value = Vec<Frame>> {
    let lines = prop::collection::vec((0..6_usize, 0..99_i64), 0..3);
    prop::collection::vec((0..5_usize, any::<u64>(), lines), 8)
}

type Stack = (Vec<usize>, Vec<i64>, Vec<pb::Label>);

fn stacks() -> impl Strategy<Value = Vec<Stack>> {
    let stack = prop::collection::vec(0..8_usize, 0..6);
    let values = prop::collection::vec(any::<i64>(), 2);
    prop::collection::vec((stack, values, prop::collection::vec(label(), 0..4)), 0..12)
}

prop_compose! {
    fn profile()(
        mapping in mappings(),
        function in functions(),
        location_ids in ids(8),
        frames in frames(),
        stacks in stacks(),
        default_sample_type in string_index(),
        comment in prop::collection::vec(string_index(), 0..3),
    ) -> pb::Profile {
        let line = |(f, line): (usize, i64)| pb::Line { function_id: function[f].id, line };
        let location = |(id, (mapped, address, lines)): (&u64, Frame)| pb::Location {
            id: *id,
            mapping_id: mapping.get(mapped).map_or(0, |mapping| mapping.id), // 0: none
            address,
            line: lines.into_iter().map(line).collect(),
        };
        let location: Vec<_> = location_ids.iter().zip(frames).map(location).collect();
        let sample = stacks.into_iter().map(|(stack, value, label)| pb::Sample {
            location_id: stack.into_iter().map(|index| location[index].id).collect(),
            value,
            label,
        });
        pb::Profile {
            sample_type: vec![
                pb::ValueType { r#type: 1, unit: 2 },
                pb::ValueType { r#type: 3, unit: 9 },
            ],
            sample: sample.collect(),
            mapping,
            location,
            function,
            string_table: STRINGS.map(String::from).into(),
            time_nanos: 5,
            duration_nanos: 6,
            period_type: Some(pb::ValueType { r#type: 3, unit: 9 }),
            period: 7,
            comment,
            default_sample_type,
        }
    }
}

fn text(profile: &pb::Profile, index: i64) -> String {
    profile.string_table[usize::try_from(index).unwrap()].clone()
}

/// The content of a sample, independent of IDs and indexes.
#[derive(Debug, PartialEq)]
struct SampleContent {
    frames: Vec<String>,
    values: Vec<(String, String, i64)>,
    labels: Vec<(String, String, i64, String)>,
}

fn content_of(profile: &pb::Profile, sample: &pb::Sample) -> SampleContent {
    let typed = profile.sample_type.iter().zip(&sample.value);
    SampleContent {
        frames: sample.location_id.iter().map(|id| frame(profile, *id)).collect(),
        values: typed
            .map(|(t, value)| (text(profile, t.r#type), text(profile, t.unit), *value))
            .collect(),
        labels: sample
            .label
            .iter()
            .map(|l| (text(profile, l.key), text(profile, l.str), l.num, text(profile, l.num_unit)))
            .collect(),
    }
}

fn frame(profile: &pb::Profile, id: u64) -> String {
    let location = profile.location.iter().find(|l| l.id == id).unwrap();
    let mapping = profile.mapping.iter().find(|m| m.id == location.mapping_id);
    let mapped = mapping.map(|m| {
        (
            text(profile, m.filename),
            text(profile, m.build_id),
            pb::Mapping { id: 0, filename: 0, build_id: 0, ..*m },
        )
    });
    let lines = location.line.iter().map(|line| {
        let function = profile.function.iter().find(|f| f.id == line.function_id).unwrap();
        let texts = [function.name, function.system_name, function.filename];
        (texts.map(|index| text(profile, index)), line.line)
    });
    format!("{mapped:?} {} {:?}", location.address, Vec::from_iter(lines))
}

/// Returns the content that a subset with these sample types retains: all but series labels.
fn retained(mut content: SampleContent, values: &[usize]) -> SampleContent {
    content.values = values.iter().map(|index| content.values[*index].clone()).collect();
    let is_series_label = |key: &str| !profile::NON_SERIES.contains(&key);
    content.labels.retain(|(key, text, _, _)| text.is_empty() || !is_series_label(key));
    content
}

/// Asserts that IDs count from 1, strings are unique, and every entry is referenced.
fn check_tables(part: &pb::Profile) {
    let in_order = |ids: Vec<u64>| ids.iter().zip(1..).all(|(id, expected)| *id == expected);
    assert!(in_order(part.mapping.iter().map(|m| m.id).collect()));
    assert!(in_order(part.location.iter().map(|l| l.id).collect()));
    assert!(in_order(part.function.iter().map(|f| f.id).collect()));
    assert_eq!(part.string_table[0], "");
    let texts: HashSet<_> = part.string_table.iter().collect();
    assert_eq!(texts.len(), part.string_table.len());
    let locations: HashSet<_> = part.sample.iter().flat_map(|s| &s.location_id).collect();
    assert_eq!(locations.len(), part.location.len());
    let functions: HashSet<_> =
        part.location.iter().flat_map(|l| &l.line).map(|l| l.function_id).collect();
    assert_eq!(functions.len(), part.function.len());
    let mappings: HashSet<_> =
        part.location.iter().map(|l| l.mapping_id).filter(|id| *id != 0).collect();
    assert_eq!(mappings.len(), part.mapping.len());
}

proptest! {
    #[test]
    fn a_subset_describes_its_samples_unchanged(
        whole in profile(),
        chosen in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        values in prop_oneof![Just(vec![0]), Just(vec![1]), Just(vec![1, 0]), Just(vec![0, 1])],
    ) {
        let count = whole.sample.len();
        let chosen = chosen.iter().filter(|_| count > 0);
        let chosen: Vec<usize> = chosen.map(|index| index.index(count)).collect();
        let part = subset(&whole, &chosen, &values);
        check_tables(&part);
        prop_assert_eq!(part.sample.len(), chosen.len());
        for (sample, index) in part.sample.iter().zip(&chosen) {
            let expected = retained(content_of(&whole, &whole.sample[*index]), &values);
            prop_assert_eq!(content_of(&part, sample), expected);
        }
        prop_assert_eq!((part.time_nanos, part.duration_nanos, part.period), (5, 6, 7));
        let comments = |profile: &pb::Profile| -> Vec<String> {
            profile.comment.iter().map(|index| text(profile, *index)).collect()
        };
        prop_assert_eq!(comments(&part), comments(&whole));
    }

    #[test]
    fn series_partition_the_samples(whole in profile()) {
        let count = whole.sample.len();
        let batch = Batch { profile: whole };
        let series = batch.series();
        let mut indexes: Vec<usize> =
            series.iter().flat_map(|series| series.samples.clone()).collect();
        indexes.sort_unstable();
        prop_assert_eq!(indexes, (0..count).collect::<Vec<_>>());
        let labels: Vec<_> = series.iter().map(|series| &series.labels).collect();
        prop_assert!(labels.is_sorted_by(|a, b| a < b));
    }
}

#[test]
fn dangling_indexes_are_skipped() {
    let sample = pb::Sample {
        location_id: vec![9],
        value: vec![1],
        label: vec![pb::Label { key: 99, str: -1, ..Default::default() }],
    };
    let whole = pb::Profile { sample: vec![sample], ..Default::default() };
    let part = subset(&whole, &[0, 7], &[0, 3]);
    assert_eq!(part.sample.len(), 1);
    assert_eq!(part.sample[0].location_id, [0]);
    assert_eq!(part.string_table, [""]);
}
