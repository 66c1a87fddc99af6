//! A batch as Parca accepts it: one pprof message for each label set, with sample counts alone.
//!
//! Parca drops labels of samples, so everything that is to be queried is a label of the series. It
//! multiplies counts by the period itself, and makes a row of each value that is not 0: hence one
//! sample type, and equal stacks as one sample.
//!
//! Source: `pkg/normalizer` of Parca 0.28, which rejects a whole request for one series that breaks
//! a rule.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use profile::Labels;
use profile::pprof::proto as pb;
use prost::Message;

use super::proto::{Label, LabelSet, RawProfileSeries, RawSample, WriteRawRequest};
use crate::batch::{Batch, subset, text_at};
use crate::sinks::send_plan::{Piece, counted};
use crate::sinks::symbolize::{Symbolize, leave_names_to_server};

/// The name of profiles. Parca's UI shows it as "On-CPU".
const PROFILE_NAME: &str = "parca_agent";
/// The source file of a frame without a mapping: an empty one crashes older servers.
const NO_FILE: &str = "UNKNOWN";

/// Encodes the requests of one batch.
pub(super) struct Encoder {
    profile: pb::Profile,
    /// Index of `samples/count`.
    counts: usize,
}

impl Encoder {
    /// Leaves out what Parca drops, and with [`Symbolize::Server`] the names that Parca finds.
    /// Returns `None` if the batch has no sample counts.
    pub fn new(batch: &Batch, symbolize: Symbolize) -> Option<Self> {
        let counts = batch.value_index("samples", "count")?;
        let mut profile = batch.profile.clone();
        profile.comment.clear();
        profile.default_sample_type = 0;
        // Parca takes a profile without a duration for another type.
        profile.duration_nanos = profile.duration_nanos.max(1);
        profile.sample.iter_mut().for_each(|sample| sample.label.clear());
        if symbolize == Symbolize::Server {
            leave_names_to_server(&mut profile);
        }
        name_source_files(&mut profile);
        Some(Self { profile, counts })
    }

    /// Returns the request with these pieces.
    pub fn request(&self, pieces: &[Piece], gzip: bool) -> Vec<u8> {
        let series = |piece: &Piece| RawProfileSeries {
            labels: Some(label_set(&piece.labels)),
            samples: vec![RawSample { raw_profile: self.pprof(piece.samples(), gzip) }],
        };
        WriteRawRequest { series: pieces.iter().map(series).collect(), normalized: true }
            .encode_to_vec()
    }

    fn pprof(&self, samples: &[usize], gzip: bool) -> Vec<u8> {
        let mut profile = subset(&self.profile, samples, &[self.counts]);
        profile.sample = merged(std::mem::take(&mut profile.sample));
        let bytes = profile.encode_to_vec();
        if !gzip {
            return bytes;
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        // Writes to memory do not fail; if one did, the plain bytes would do as well.
        encoder.write_all(&bytes).and_then(|()| encoder.finish()).unwrap_or(bytes)
    }
}

/// Merges samples with equal stacks, in the order of first occurrence.
fn merged(samples: Vec<pb::Sample>) -> Vec<pb::Sample> {
    let mut indices: HashMap<Vec<u64>, usize> = HashMap::new();
    let mut out: Vec<pb::Sample> = Vec::with_capacity(samples.len());
    for sample in samples {
        let count = sample.value.first().copied().unwrap_or(0);
        match indices.get(&sample.location_id) {
            Some(index) => out[*index].value[0] = out[*index].value[0].saturating_add(count),
            None => {
                indices.insert(sample.location_id.clone(), out.len());
                out.push(sample);
            }
        }
    }
    out
}

/// Sets the source file of functions whose frames have no mapping.
fn name_source_files(profile: &mut pb::Profile) {
    let unmapped = profile.location.iter().filter(|location| location.mapping_id == 0);
    let ids: HashSet<u64> =
        unmapped.flat_map(|l| l.line.iter().map(|line| line.function_id)).collect();
    if ids.is_empty() {
        return;
    }
    let no_file = profile.string_table.len() as i64;
    profile.string_table.push(NO_FILE.to_owned());
    let empty: Vec<bool> =
        profile.function.iter().map(|f| text_at(profile, f.filename).is_empty()).collect();
    for (function, is_empty) in profile.function.iter_mut().zip(empty) {
        if is_empty && ids.contains(&function.id) {
            function.filename = no_file;
        }
    }
}

fn label_set(labels: &Labels) -> LabelSet {
    let name = [Label { name: "__name__".into(), value: PROFILE_NAME.into() }];
    let others =
        labels.0.iter().map(|(name, value)| Label { name: name.clone(), value: value.clone() });
    LabelSet { labels: name.into_iter().chain(others).collect() }
}

/// Returns the series of a batch under labels that Parca accepts, each label set once.
pub(super) fn pieces(batch: &Batch) -> Vec<Piece> {
    let mut by_labels: BTreeMap<Labels, Vec<usize>> = BTreeMap::new();
    for series in batch.series() {
        let samples = counted(batch, series.samples);
        if !samples.is_empty() {
            by_labels.entry(sanitized(&series.labels)).or_default().extend(samples);
        }
    }
    let piece = |(labels, mut samples): (Labels, Vec<usize>)| {
        samples.sort_unstable();
        Piece::of_series(labels, samples)
    };
    by_labels.into_iter().map(piece).collect()
}

/// Returns labels under names that Prometheus allows. Names that become equal get a `_` appended.
fn sanitized(labels: &Labels) -> Labels {
    let mut out = BTreeMap::new();
    // Valid names stay as they are.
    let (valid, invalid): (Vec<_>, Vec<_>) =
        labels.0.iter().partition(|(name, _)| label_name(name) == **name);
    for (name, value) in valid.into_iter().chain(invalid) {
        let mut name = label_name(name);
        while out.contains_key(&name) {
            name.push('_');
        }
        out.insert(name, value.clone());
    }
    out.retain(|_, value| !value.is_empty());
    Labels(out)
}

/// Returns a name of the form `[a-zA-Z_][a-zA-Z0-9_]*` without two leading underscores, which are
/// reserved.
fn label_name(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let replaced: String = name.chars().map(allowed).collect();
    match replaced.trim_start_matches('_') {
        rest if replaced.starts_with("__") || rest.is_empty() => format!("_{rest}"),
        _ if replaced.starts_with(|c: char| c.is_ascii_digit()) => format!("_{replaced}"),
        _ => replaced,
    }
}

#[cfg(test)]
mod tests {
    use profile::pprof;

    use super::*;
    use crate::batch::tests::batch;

    fn check(name: &str, expected: &str) {
        assert_eq!(label_name(name), expected, "{name:?}");
    }

    #[test]
    fn label_names_are_sanitized() {
        check("comm", "comm");
        check("_private", "_private");
        check("k8s.cluster-name", "k8s_cluster_name");
        check("9lives", "_9lives");
        check("__name__", "_name__");
        check("__", "_");
        check("", "_");
        check("gr\u{f6}\u{df}e", "gr__e");
    }

    #[test]
    fn equal_names_are_distinguished() {
        let labels = Labels::from([("a.b", "1"), ("a-b", "2"), ("a_b", "3")]);
        let found = sanitized(&labels);
        let expected = Labels::from([("a_b", "3"), ("a_b_", "2"), ("a_b__", "1")]);
        assert_eq!(found, expected);
    }

    #[test]
    fn series_with_equal_labels_are_merged() {
        let batch = batch(1, &[(&[("a.b", "x")], 1), (&[("a_b", "x")], 2), (&[("a_b", "y")], 4)]);
        let pieces = pieces(&batch);
        let found: Vec<_> =
            pieces.iter().map(|p| (p.labels.0["a_b"].as_str(), p.samples())).collect();
        assert_eq!(found, [("x", [0, 1].as_slice()), ("y", &[2])]);
    }

    /// Decodes the profiles of a request.
    fn profiles(bytes: &[u8]) -> Vec<pb::Profile> {
        let request = WriteRawRequest::decode(bytes).unwrap();
        let raw = request.series.iter().flat_map(|series| &series.samples);
        raw.map(|sample| pprof::decode(&sample.raw_profile, 1 << 20).unwrap()).collect()
    }

    #[test]
    fn equal_stacks_are_merged_and_zeros_left_out() {
        let mut batch = batch(1, &[(&[("cut", "user: x")], 1), (&[], 2), (&[], 0)]);
        batch.profile.sample[1].location_id = vec![1];
        let encoder = Encoder::new(&batch, Symbolize::Agent).unwrap();
        let profile = profiles(&encoder.request(&pieces(&batch), true)).remove(0);
        assert_eq!(profile.sample.len(), 1);
        assert_eq!((profile.sample[0].value[0], profile.sample[0].label.len()), (3, 0));
        assert!(!profile.string_table.iter().any(|text| text == "cut"));
    }

    #[test]
    fn names_are_left_to_the_server_where_it_can_find_them() {
        // Frames of a file with a build ID, of a file without, of the kernel, and without mapping.
        let samples: [(&[(&str, &str)], i64); 4] = [(&[], 1), (&[], 1), (&[], 1), (&[], 1)];
        let mut batch = batch(1, &samples);
        let profile = &mut batch.profile;
        let text = profile.string_table.len() as i64;
        profile.string_table.extend(["/bin/app", "ab12cd", "[kernel.kallsyms]"].map(String::from));
        let files = [(text, text + 1), (text, 0), (text + 2, text + 1)];
        for (index, (filename, build_id)) in files.into_iter().enumerate() {
            let id = index as u64 + 1;
            let has_functions = true;
            let mapping =
                pb::Mapping { id, filename, build_id, has_functions, ..Default::default() };
            profile.mapping.push(mapping);
            profile.location[index].mapping_id = id;
        }
        let lines = |symbolize| {
            let encoder = Encoder::new(&batch, symbolize).unwrap();
            let profile = profiles(&encoder.request(&pieces(&batch), true)).remove(0);
            assert_eq!(profile.mapping[0].has_functions, symbolize == Symbolize::Agent);
            assert_eq!(text_at(&profile, profile.function.last().unwrap().filename), NO_FILE);
            profile.location.iter().map(|location| location.line.len()).collect::<Vec<_>>()
        };
        assert_eq!(lines(Symbolize::Agent), [1, 1, 1, 1]);
        assert_eq!(lines(Symbolize::Server), [0, 1, 1, 1]);
    }

    #[test]
    fn a_batch_without_counts_is_not_encoded() {
        let mut batch = batch(1, &[(&[], 1)]);
        batch.profile.sample_type[0].unit = 0;
        assert!(Encoder::new(&batch, Symbolize::Agent).is_none());
    }
}
