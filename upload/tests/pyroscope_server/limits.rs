//! The server's checks of each profile, in the same order and with the same messages.
//!
//! Sources: `pkg/distributor/distributor.go`, `pkg/validation/{limits,validate}.go`, `pkg/pprof` of
//! Pyroscope 2.2.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use profile::pprof::proto as pb;
use prost::Message;

use super::wire::{Pair, gunzip};

/// Limits of a tenant, with the server's defaults.
#[derive(Clone, Debug)]
pub struct Limits {
    pub bytes_per_second: f64,
    pub burst_bytes: f64,
    pub profile_bytes: usize,
    pub profile_samples: usize,
    pub sample_labels: usize,
    pub stack_frames: usize,
    pub text_bytes: usize,
    pub labels: usize,
    pub label_name_bytes: usize,
    pub label_value_bytes: usize,
    pub series: usize,
    pub newer_ns: i64,
    pub older_ns: i64,
    pub body_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes_per_second: 4.0 * 1024.0 * 1024.0,
            burst_bytes: 2.0 * 1024.0 * 1024.0,
            profile_bytes: 4 << 20,
            profile_samples: 16_000,
            sample_labels: 100,
            stack_frames: 1_000,
            text_bytes: 65_535,
            labels: 30,
            label_name_bytes: 1_024,
            label_value_bytes: 2_048,
            series: 5_000,
            newer_ns: 10 * 60 * 1_000_000_000,
            older_ns: 60 * 60 * 1_000_000_000,
            body_bytes: 256 << 20,
        }
    }
}

/// Code and message of an error of the Connect protocol.
pub type ConnectError = (&'static str, String);

fn invalid(text: String) -> ConnectError {
    ("invalid_argument", text)
}

/// The token bucket of a tenant's rate limit.
pub struct Bucket {
    available_bytes: f64,
    refilled_at: Instant,
}

impl Bucket {
    pub fn full(limits: &Limits) -> Self {
        Self { available_bytes: limits.burst_bytes, refilled_at: Instant::now() }
    }

    /// Takes bytes from the bucket, or rejects all of them.
    pub fn allow(&mut self, limits: &Limits, bytes: usize) -> Result<(), ConnectError> {
        let now = Instant::now();
        let earned = (now - self.refilled_at).as_secs_f64() * limits.bytes_per_second;
        self.available_bytes = (self.available_bytes + earned).min(limits.burst_bytes);
        self.refilled_at = now;
        let bytes = bytes as f64;
        if bytes > self.available_bytes {
            let rate = limits.bytes_per_second / 1024.0 / 1024.0;
            let text = format!("push rate limit ({rate} MiB) exceeded while adding {bytes} B");
            return Err(("resource_exhausted", text));
        }
        self.available_bytes -= bytes;
        Ok(())
    }
}

/// Decodes a profile; returns it with its uncompressed size.
pub fn parse(raw: &[u8], max: usize) -> Result<(pb::Profile, usize), ConnectError> {
    let plain = match raw.starts_with(&[0x1f, 0x8b]) {
        true => gunzip(raw, max).ok_or_else(|| invalid("gzip: invalid data".into()))?,
        false => raw.to_vec(),
    };
    let profile = pb::Profile::decode(plain.as_slice())
        .map_err(|error| invalid(format!("parsing profile: {error}")))?;
    if profile.sample_type.is_empty() {
        return Err(invalid("profile has no sample type".into()));
    }
    if profile.string_table.first().is_none_or(|text| !text.is_empty()) {
        return Err(invalid("string 0 must be empty string".into()));
    }
    if profile.sample.iter().any(|sample| sample.value.len() != profile.sample_type.len()) {
        return Err(invalid("sample values and sample types differ in number".into()));
    }
    Ok((profile, plain.len()))
}

/// Checks a profile against the limits, and truncates stacks and strings as the server does.
pub fn check_profile(
    limits: &Limits,
    labels: &[Pair],
    profile: &mut pb::Profile,
    bytes: usize,
    now: i64,
) -> Result<(), ConnectError> {
    let name = format_labels(labels);
    let time = profile.time_nanos;
    if time > 0 && !(now - limits.older_ns..now + limits.newer_ns).contains(&time) {
        return Err(invalid(format!(
            "profile with labels '{name}' is outside of ingestion window (profile timestamp: \
             {time}, the ingestion window starts at {} and ends at {})",
            now - limits.older_ns,
            now + limits.newer_ns
        )));
    }
    let check_limit = |what: &str, key: &str, actual: usize, limit: usize| {
        let text = format!(
            "the profile with labels '{name}' exceeds the {what} limit ({key}, actual: {actual}, \
             limit: {limit})"
        );
        if actual > limit { Err(invalid(text)) } else { Ok(()) }
    };
    check_limit("size", "max_profile_size_byte", bytes, limits.profile_bytes)?;
    let samples = profile.sample.len();
    check_limit(
        "samples count",
        "max_profile_stacktrace_samples",
        samples,
        limits.profile_samples,
    )?;
    for sample in &mut profile.sample {
        let excess = sample.location_id.len().saturating_sub(limits.stack_frames);
        sample.location_id.drain(..excess); // drops the innermost frames
        let count = sample.label.len();
        let key = "max_profile_stacktrace_sample_labels";
        check_limit("sample labels", key, count, limits.sample_labels)?;
    }
    for text in &mut profile.string_table {
        let cut = text.len().saturating_sub(limits.text_bytes);
        *text = String::from_utf8_lossy(&text.as_bytes()[cut..]).into_owned();
    }
    check_ids(profile)
}

fn check_ids(profile: &pb::Profile) -> Result<(), ConnectError> {
    if profile.location.iter().any(|location| location.id == 0) {
        return Err(invalid("location id is 0".into()));
    }
    if profile.function.iter().any(|function| function.id == 0) {
        return Err(invalid("function id is 0".into()));
    }
    let name = |index: i64| profile.string_table[index as usize].as_str();
    if profile.sample_type.iter().any(|sample_type| name(sample_type.r#type).contains('-')) {
        return Err(invalid("sample type contains -".into()));
    }
    Ok(())
}

/// Checks the labels of a stored series.
pub fn check_labels(limits: &Limits, labels: &[Pair]) -> Result<(), ConnectError> {
    let name = format_labels(labels);
    if labels.len() > limits.labels {
        let count = labels.len();
        let text =
            format!("profile series '{name}' has {count} label names; limit {}", limits.labels);
        return Err(invalid(text));
    }
    let value = |name: &str| labels.iter().find(|label| label.name == name);
    if value("__name__").is_none_or(|label| !is_metric_name(&label.value)) {
        return Err(invalid(format!("invalid labels '{name}' with error: invalid metric name")));
    }
    if value("service_name").is_none_or(|label| label.value.is_empty()) {
        return Err(invalid(format!(
            "invalid labels '{name}' with error: service name is not provided"
        )));
    }
    let mut names = BTreeSet::new();
    for label in labels {
        if label.name.is_empty() || label.name.len() > limits.label_name_bytes {
            return Err(invalid(format!("profile with labels '{name}' has label name too long")));
        }
        if label.value.len() > limits.label_value_bytes {
            return Err(invalid(format!("profile with labels '{name}' has label value too long")));
        }
        if !names.insert(&label.name) {
            return Err(invalid(format!("profile with labels '{name}' has duplicate label name")));
        }
    }
    Ok(())
}

fn is_metric_name(text: &str) -> bool {
    let is_in = |letter: char| letter.is_ascii_alphanumeric() || "_:".contains(letter);
    !text.is_empty() && !text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(is_in)
}

/// Groups the samples of a profile by their string labels, as the server derives series. Drops
/// samples whose values are all 0.
pub fn split(profile: &pb::Profile) -> BTreeMap<Vec<(String, String)>, Vec<pb::Sample>> {
    let text = |index: i64| profile.string_table[index as usize].clone();
    let mut series: BTreeMap<_, Vec<pb::Sample>> = BTreeMap::new();
    for sample in &profile.sample {
        let has_value = sample.value.iter().all(|v| *v >= 0) && sample.value.iter().any(|v| *v > 0);
        if !has_value {
            continue;
        }
        let texts = sample.label.iter().filter(|label| label.str != 0);
        let mut key: Vec<_> = texts.map(|label| (text(label.key), text(label.str))).collect();
        key.sort();
        series.entry(key).or_default().push(sample.clone());
    }
    series
}

fn format_labels(labels: &[Pair]) -> String {
    let pairs: Vec<String> =
        labels.iter().map(|label| format!("{}={:?}", label.name, label.value)).collect();
    format!("{{{}}}", pairs.join(", "))
}
