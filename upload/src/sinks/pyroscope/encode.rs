//! A batch as profiles that Pyroscope accepts: one or more for each series, each within the limits.
//!
//! - Values are `cpu/nanoseconds` alone, which is what Pyroscope's own agents send.
//! - A stack that is too deep loses the frames next to the root; the server would cut the leaves.
//! - Of a sample's own labels only `cut` and `guessed` are sent, if at all: the server makes a
//!   series of each value.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use profile::Labels;
use profile::labels::{CUT, GUESSED};
use profile::pprof::proto as pb;
use prost::Message;

use super::config::Limits;
use super::labels::{SeriesLabels, choose};
use super::proto::{LabelPair, PushRequest, RawProfileSeries, RawSample};
use crate::batch::{Batch, subset};
use crate::sinks::send_plan::Piece;
use crate::sinks::symbolize::{Symbolize, leave_names_to_server};

/// The labels of samples that are worth a series of their own.
const SAMPLE_LABELS: [&str; 2] = [CUT, GUESSED];

/// What is sent beside stacks and values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content {
    /// `cut` and `guessed` of samples.
    pub sample_labels: bool,
    /// Names of functions, except those that the server finds.
    pub symbolize: Symbolize,
}

/// Encodes the pieces of one batch, one at a time, so that a large batch is never in memory twice.
pub(super) struct Encoder<'a> {
    profile: pb::Profile,
    limits: &'a Limits,
    /// Index of `cpu/nanoseconds`.
    cpu: usize,
    /// The series of the batch, with the labels that they have at the server.
    series: Vec<(Labels, Vec<usize>)>,
    /// Labels that were left out or cut, over all series.
    labels_lost: u64,
    /// Samples whose stack was cut.
    stacks_cut: u64,
}

/// One profile of a series, as it is sent.
#[derive(Clone, Debug)]
pub(super) struct EncodedProfile {
    /// A UUID that depends only on the content: the same after a restart.
    pub id: String,
    /// Labels of its series, sorted by name.
    labels: Vec<LabelPair>,
    /// pprof, not compressed.
    raw: Vec<u8>,
}

impl EncodedProfile {
    /// Returns what the server counts: the bytes of the uncompressed profile and its labels.
    pub fn bytes(&self) -> usize {
        let label_bytes = self.labels.iter().map(|label| label.name.len() + label.value.len());
        self.raw.len() + label_bytes.sum::<usize>()
    }
}

impl<'a> Encoder<'a> {
    /// Prepares a batch; `None` if it has no CPU time.
    pub fn new(batch: &Batch, limits: &'a Limits, content: Content) -> Option<Self> {
        let cpu = batch.value_index("cpu", "nanoseconds")?;
        let mut profile = batch.profile.clone();
        profile.comment.clear();
        retain_labels(&mut profile, content.sample_labels);
        if content.symbolize == Symbolize::Server {
            leave_names_to_server(&mut profile);
        }
        let stacks_cut = cut_stacks(&mut profile, limits.stack_frames, content.sample_labels);
        let own = if content.sample_labels { SAMPLE_LABELS.len() } else { 0 };
        let (series, labels_lost) = series(batch, limits.labels.saturating_sub(own));
        Some(Self { profile, limits, cpu, series, labels_lost, stacks_cut })
    }

    /// Returns each series as one piece.
    pub fn pieces(&self) -> Vec<Piece> {
        let series = self.series.iter().cloned();
        series.map(|(labels, samples)| Piece::of_series(labels, samples)).collect()
    }

    /// Encodes a piece; `None` if it exceeds the limits of a profile. Beyond a burst the server
    /// would answer 429 forever.
    pub fn profile(&self, piece: &Piece) -> Option<EncodedProfile> {
        if piece.samples().len() > self.limits.profile_samples {
            return None;
        }
        let pair = |(name, value): (&str, &str)| LabelPair {
            name: name.to_owned(),
            value: value.to_owned(),
        };
        let profile = EncodedProfile {
            id: self.id_of(piece),
            labels: piece.labels.iter().map(pair).collect(),
            raw: subset(&self.profile, piece.samples(), &[self.cpu]).encode_to_vec(),
        };
        let bytes_max = self.limits.profile_bytes.min(self.limits.burst_bytes);
        (profile.bytes() as u64 <= bytes_max).then_some(profile)
    }

    /// Describes what was left out of the batch for the server's limits.
    pub fn losses(&self) -> Option<String> {
        let labels = (self.labels_lost > 0).then(|| {
            let lost = self.labels_lost;
            format!("{lost} labels were left out or cut, the server takes no more")
        });
        let stacks = (self.stacks_cut > 0).then(|| {
            let cut = self.stacks_cut;
            format!("{cut} stacks were cut at the root, the server takes none so deep")
        });
        let texts: Vec<String> = [labels, stacks].into_iter().flatten().collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }

    /// Returns a UUID of version 8 (RFC 9562), a hash of what tells a piece from all others.
    fn id_of(&self, piece: &Piece) -> String {
        let half = |salt: u64| {
            let mut hasher = DefaultHasher::new();
            (salt, self.profile.time_nanos, self.profile.duration_nanos).hash(&mut hasher);
            for (name, value) in piece.labels.iter() {
                (name, value).hash(&mut hasher);
            }
            (piece.range().start, piece.range().end).hash(&mut hasher);
            hasher.finish()
        };
        let bits = (u128::from(half(0)) << 64) | u128::from(half(1));
        let bits = bits & !(0xf << 76) | (0x8 << 76); // version 8
        let bits = bits & !(0x3 << 62) | (0x2 << 62); // variant of the RFC
        let hex = format!("{bits:032x}");
        let groups = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        groups.join("-")
    }
}

/// Returns the request with these profiles.
pub(super) fn request(profiles: &[EncodedProfile]) -> PushRequest {
    let series = |profile: &EncodedProfile| RawProfileSeries {
        labels: profile.labels.clone(),
        samples: vec![RawSample { raw_profile: profile.raw.clone(), id: profile.id.clone() }],
    };
    PushRequest { series: profiles.iter().map(series).collect() }
}

/// Returns the series of a batch in the order of the labels that they have at the server, and how
/// many labels were lost. Series that differ only in lost labels are one.
fn series(batch: &Batch, labels_max: usize) -> (Vec<(Labels, Vec<usize>)>, u64) {
    let mut lost_of_all = 0;
    let mut by_labels: BTreeMap<Labels, Vec<usize>> = BTreeMap::new();
    for series in batch.series() {
        let SeriesLabels { labels, lost } = choose(&series.labels, labels_max);
        lost_of_all += lost;
        by_labels.entry(labels).or_default().extend(series.samples);
    }
    (by_labels.into_iter().collect(), lost_of_all)
}

/// Drops all labels of samples except those that are sent: labels of the series go beside the
/// profile.
fn retain_labels(profile: &mut pb::Profile, with_sample_labels: bool) {
    let retained: Vec<i64> = (0i64..)
        .zip(&profile.string_table)
        .filter(|(_, text)| with_sample_labels && SAMPLE_LABELS.contains(&text.as_str()))
        .map(|(index, _)| index)
        .collect();
    for sample in &mut profile.sample {
        sample.label.retain(|label| label.str != 0 && retained.contains(&label.key));
    }
}

/// Cuts stacks that are deeper than the server accepts, at the root, and sets their `cut` label.
/// Returns the number of such samples.
fn cut_stacks(profile: &mut pb::Profile, depth: usize, with_label: bool) -> u64 {
    let is_deep = |sample: &pb::Sample| sample.location_id.len() > depth;
    if !profile.sample.iter().any(is_deep) {
        return 0;
    }
    let key = index_of_text(profile, CUT);
    let value = index_of_text(profile, &format!("user: deeper than {depth} frames"));
    let mut cut = 0;
    for sample in profile.sample.iter_mut().filter(|sample| is_deep(sample)) {
        cut += 1;
        sample.location_id.truncate(depth);
        if with_label && sample.label.iter().all(|label| label.key != key) {
            sample.label.push(pb::Label { key, str: value, ..pb::Label::default() });
        }
    }
    cut
}

/// Returns the index of a text in the string table, where it is added if missing.
fn index_of_text(profile: &mut pb::Profile, text: &str) -> i64 {
    let found = profile.string_table.iter().position(|known| known == text);
    let index = found.unwrap_or_else(|| {
        profile.string_table.push(text.to_owned());
        profile.string_table.len() - 1
    });
    index as i64
}
