//! A strict reader of `WriteRaw` requests. Anything that Parca rejects, drops or miscounts fails
//! the test.
//!
//! Written from Parca's `pkg/normalizer` and `pkg/profile/validate.go`, independently of the sink.

use std::collections::{BTreeMap, HashSet};

use profile::pprof::{self, proto as pb};
use prost::Message;

/// Path of the gRPC method.
pub const WRITE_RAW: &str = "/parca.profilestore.v1alpha1.ProfileStoreService/WriteRaw";

#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(string, tag = "1")]
    tenant: String,
    #[prost(message, repeated, tag = "2")]
    series: Vec<RawSeries>,
    #[prost(bool, tag = "3")]
    normalized: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawSeries {
    #[prost(message, optional, tag = "1")]
    labels: Option<LabelSet>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<RawSample>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LabelSet {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawSample {
    #[prost(bytes = "vec", tag = "1")]
    raw_profile: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    executable_info: Vec<Vec<u8>>,
}

/// A series that Parca accepts.
#[derive(Clone, Debug)]
pub struct ReceivedSeries {
    /// Without `__name__`.
    pub labels: BTreeMap<String, String>,
    pub profile: pb::Profile,
    pub is_compressed: bool,
}

impl ReceivedSeries {
    /// Sums the samples by the name of the innermost function, or by the address of a frame
    /// without symbols.
    pub fn by_leaf(&self) -> BTreeMap<String, i64> {
        let mut sums = BTreeMap::new();
        for sample in &self.profile.sample {
            let location = &self.profile.location[sample.location_id[0] as usize - 1];
            let name = match location.line.first() {
                Some(line) => {
                    let function = &self.profile.function[line.function_id as usize - 1];
                    self.profile.string_table[function.name as usize].clone()
                }
                None => format!("{:#x}", location.address),
            };
            *sums.entry(name).or_default() += sample.value[0];
        }
        sums
    }

    pub fn samples(&self) -> i64 {
        self.profile.sample.iter().map(|sample| sample.value[0]).sum()
    }
}

/// Decodes a request and checks it as Parca does.
pub fn read(body: &[u8]) -> Vec<ReceivedSeries> {
    assert!(body.len() < 64 << 20, "larger than the server accepts");
    let request = Request::decode(body).expect("a WriteRawRequest");
    assert!(request.normalized && request.tenant.is_empty());
    assert!(!request.series.is_empty());
    let received: Vec<ReceivedSeries> = request.series.iter().map(series).collect();
    let labels: HashSet<_> = received.iter().map(|received| received.labels.clone()).collect();
    assert_eq!(labels.len(), received.len(), "two series have the same labels");
    let times: HashSet<_> =
        received.iter().map(|t| (t.profile.time_nanos, t.profile.duration_nanos)).collect();
    assert_eq!(times.len(), 1, "series of one flush differ in time or duration");
    received
}

fn series(series: &RawSeries) -> ReceivedSeries {
    let mut labels = BTreeMap::new();
    for label in &series.labels.as_ref().expect("labels").labels {
        let is_name = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        assert!(is_name(&label.name), "{:?} is not a valid label name", label.name);
        assert!(!label.value.is_empty(), "{} is empty", label.name);
        let before = labels.insert(label.name.clone(), label.value.clone());
        assert!(before.is_none(), "duplicate label {}", label.name);
    }
    let name = labels.remove("__name__").expect("a name");
    assert_eq!(name, "parca_agent", "the web UI shows no other name as On-CPU");
    assert!(!labels.keys().any(|name| name.starts_with("__")), "{labels:?}");
    let [sample] = series.samples.as_slice() else { panic!("one profile for each series") };
    assert!(sample.executable_info.is_empty());
    let is_compressed = sample.raw_profile.starts_with(&[0x1f, 0x8b]);
    let profile = pprof::decode(&sample.raw_profile, 1 << 30).expect("pprof");
    validate(&profile);
    ReceivedSeries { labels, profile, is_compressed }
}

/// Checks the rules of `ValidatePprofProfile`, and the types of a CPU profile.
fn validate(profile: &pb::Profile) {
    let text = |index: i64| profile.string_table[index as usize].as_str();
    assert_eq!(text(0), "");
    let types: Vec<_> =
        profile.sample_type.iter().map(|t| (text(t.r#type), text(t.unit))).collect();
    assert_eq!(types, [("samples", "count")], "Parca stores each sample type as a row of its own");
    let period = profile.period_type.expect("a period type");
    assert_eq!((text(period.r#type), text(period.unit)), ("cpu", "nanoseconds"));
    assert!(profile.period > 0 && profile.time_nanos > 0);
    assert!(profile.duration_nanos > 0, "a profile without duration is not a delta");
    for (ids, what) in [
        (profile.mapping.iter().map(|m| m.id).collect::<Vec<_>>(), "mapping"),
        (profile.location.iter().map(|l| l.id).collect(), "location"),
        (profile.function.iter().map(|f| f.id).collect(), "function"),
    ] {
        assert!(ids.iter().copied().eq(1..=ids.len() as u64), "ids of {what}s are {ids:?}");
    }
    let mut stacks = HashSet::new();
    assert!(!profile.sample.is_empty());
    for sample in &profile.sample {
        assert_eq!(sample.value.len(), 1);
        assert!(sample.value[0] > 0, "Parca skips zeros");
        assert!(sample.label.is_empty(), "Parca drops labels of samples");
        assert!(sample.location_id.iter().all(|id| *id != 0));
        assert!(stacks.insert(&sample.location_id), "duplicate stack");
    }
    for mapping in &profile.mapping {
        assert_eq!((mapping.memory_start, mapping.memory_limit, mapping.file_offset), (0, 0, 0));
        let mut locations = profile.location.iter().filter(|l| l.mapping_id == mapping.id);
        assert!(
            !mapping.has_functions || locations.all(|l| !l.line.is_empty()),
            "{}",
            text(mapping.filename)
        );
    }
    check_references(profile);
}

/// Checks that no table has unreferenced rows, which would waste bandwidth.
fn check_references(profile: &pb::Profile) {
    let used: HashSet<u64> = profile.sample.iter().flat_map(|s| s.location_id.clone()).collect();
    assert_eq!(used.len(), profile.location.len());
    let used: HashSet<u64> =
        profile.location.iter().flat_map(|l| &l.line).map(|line| line.function_id).collect();
    assert_eq!(used.len(), profile.function.len());
    let used: HashSet<u64> =
        profile.location.iter().map(|l| l.mapping_id).filter(|id| *id != 0).collect();
    assert_eq!(used.len(), profile.mapping.len());
    assert!(profile.comment.is_empty());
}
