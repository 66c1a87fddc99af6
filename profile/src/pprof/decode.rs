//! From pprof bytes to a message.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use prost::Message;

use super::proto;

/// Why bytes or a message are no valid pprof profile.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The decompressed profile is larger than the caller allows.
    #[error("the profile is larger than {0} bytes")]
    TooLarge(usize),
    /// The gzip data is malformed.
    #[error("the profile is damaged: {0}")]
    Gzip(#[from] std::io::Error),
    /// The protobuf message is malformed.
    #[error("the profile is damaged: {0}")]
    Message(#[from] prost::DecodeError),
    /// An index or id is out of range.
    #[error("the profile is damaged: a {0} points outside its table")]
    Dangling(&'static str),
    /// The number of a sample's values is not that of the sample types.
    #[error("the profile is damaged: a sample lacks a value or has one too many")]
    Values,
}

/// Reads a pprof profile, compressed or not.
///
/// In the result, every index is in range, every id exists, and every sample has a value of each
/// type. Memory is bounded by a multiple of `bytes_max`, the limit of the decompressed size.
///
/// ```
/// use profile::pprof::{DecodeError, decode, encode};
///
/// let bytes = encode(&profile::Profile::default());
/// assert!(decode(&bytes, 1 << 20).is_ok());
/// assert!(matches!(decode(&bytes, 10), Err(DecodeError::TooLarge(10))));
/// ```
///
/// # Errors
/// [`DecodeError`] if the bytes are no such profile.
pub fn decode(bytes: &[u8], bytes_max: usize) -> Result<proto::Profile, DecodeError> {
    let mut plain = Vec::new();
    let limit = bytes_max as u64 + 1;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        MultiGzDecoder::new(bytes).take(limit).read_to_end(&mut plain)?;
    } else {
        bytes.take(limit).read_to_end(&mut plain)?;
    }
    if plain.len() > bytes_max {
        return Err(DecodeError::TooLarge(bytes_max));
    }
    let profile = proto::Profile::decode(plain.as_slice())?;
    check(&profile)?;
    Ok(profile)
}

/// Checks that every index is in range, every id exists, and every sample has a value of each type.
pub(super) fn check(profile: &proto::Profile) -> Result<(), DecodeError> {
    check_strings(profile)?;
    check_ids(profile)?;
    let types = profile.sample_type.len();
    if profile.sample.iter().all(|sample| sample.value.len() == types) {
        Ok(())
    } else {
        Err(DecodeError::Values)
    }
}

fn check_strings(profile: &proto::Profile) -> Result<(), DecodeError> {
    let strings = profile.string_table.len().max(1);
    let mut indices = vec![profile.default_sample_type];
    indices.extend(&profile.comment);
    indices.extend(
        profile.sample_type.iter().chain(&profile.period_type).flat_map(|t| [t.r#type, t.unit]),
    );
    indices.extend(profile.mapping.iter().flat_map(|m| [m.filename, m.build_id]));
    indices.extend(profile.function.iter().flat_map(|f| [f.name, f.system_name, f.filename]));
    let labels = profile.sample.iter().flat_map(|s| &s.label);
    indices.extend(labels.flat_map(|l| [l.key, l.str, l.num_unit]));
    let is_in_range = |index: &i64| usize::try_from(*index).is_ok_and(|index| index < strings);
    if indices.iter().all(is_in_range) { Ok(()) } else { Err(DecodeError::Dangling("text")) }
}

fn check_ids(profile: &proto::Profile) -> Result<(), DecodeError> {
    use std::collections::HashSet;
    let mappings: HashSet<u64> = profile.mapping.iter().map(|m| m.id).collect();
    let functions: HashSet<u64> = profile.function.iter().map(|f| f.id).collect();
    let locations: HashSet<u64> = profile.location.iter().map(|l| l.id).collect();
    for location in &profile.location {
        if location.mapping_id != 0 && !mappings.contains(&location.mapping_id) {
            return Err(DecodeError::Dangling("location's mapping"));
        }
        if !location.line.iter().all(|line| functions.contains(&line.function_id)) {
            return Err(DecodeError::Dangling("line's function"));
        }
    }
    let mut used = profile.sample.iter().flat_map(|sample| &sample.location_id);
    if used.all(|id| locations.contains(id)) {
        Ok(())
    } else {
        Err(DecodeError::Dangling("sample's location"))
    }
}
