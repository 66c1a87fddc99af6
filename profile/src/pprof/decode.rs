//! pprof bytes to messages.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use prost::Message;

use super::proto;

/// Why bytes are no pprof profile.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Larger than the caller allows once decompressed.
    #[error("the profile is larger than {0} bytes")]
    TooLarge(usize),
    /// Not gzip, although it starts so.
    #[error("the profile is damaged: {0}")]
    Gzip(#[from] std::io::Error),
    /// Not the message.
    #[error("the profile is damaged: {0}")]
    Message(#[from] prost::DecodeError),
    /// A table names something that is not there.
    #[error("the profile is damaged: a {0} points outside its table")]
    Dangling(&'static str),
    /// A sample has more or fewer values than there are sample types.
    #[error("the profile is damaged: a sample lacks a value or has one too many")]
    Values,
}

/// Reads a pprof profile, compressed or not.
///
/// Every place in the result lies inside its table, every id exists, and every sample has a value of each
/// type. Takes memory in proportion to `bytes_max`, which bounds the decompressed size.
///
/// # Errors
/// [`DecodeError`] for anything that is not such a profile.
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

/// Checks that every place lies inside its table, every id exists, and every sample has all its values.
pub(super) fn check(profile: &proto::Profile) -> Result<(), DecodeError> {
    check_texts(profile)?;
    check_ids(profile)?;
    let types = profile.sample_type.len();
    if profile.sample.iter().all(|sample| sample.value.len() == types) {
        Ok(())
    } else {
        Err(DecodeError::Values)
    }
}

fn check_texts(profile: &proto::Profile) -> Result<(), DecodeError> {
    let texts = profile.string_table.len().max(1);
    let mut places = vec![profile.default_sample_type];
    places.extend(&profile.comment);
    places.extend(
        profile.sample_type.iter().chain(&profile.period_type).flat_map(|t| [t.r#type, t.unit]),
    );
    places.extend(profile.mapping.iter().flat_map(|m| [m.filename, m.build_id]));
    places.extend(profile.function.iter().flat_map(|f| [f.name, f.system_name, f.filename]));
    let labels = profile.sample.iter().flat_map(|s| &s.label);
    places.extend(labels.flat_map(|l| [l.key, l.str, l.num_unit]));
    let inside = |place: &i64| usize::try_from(*place).is_ok_and(|place| place < texts);
    if places.iter().all(inside) { Ok(()) } else { Err(DecodeError::Dangling("text")) }
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
