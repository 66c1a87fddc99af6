//! Bytes of a message for a file.

use prost::bytes::BufMut;
use prost::encoding::{int64, message, string};

use super::proto;

/// Encodes a message for a file, which readers find as symbolized as it can be.
///
/// A mapping without `has_functions` makes `go tool pprof` open the executable at that path and
/// load all of its debug info, however large, also for a single frame. Everytick has symbolized
/// what it could, so each mapping in a file claims functions. `pprof -symbolize=force` searches on.
///
/// Messages for servers keep the flags: Parca and Pyroscope search by build ID.
///
/// Source: `doLocalSymbolize` in pprof's `internal/symbolizer`.
pub fn encode_for_file(profile: &proto::Profile) -> Vec<u8> {
    let claim = |mapping: &proto::Mapping| proto::Mapping { has_functions: true, ..*mapping };
    let mappings: Vec<proto::Mapping> = profile.mapping.iter().map(claim).collect();
    let mut out = Vec::new();
    message::encode_repeated(1, &profile.sample_type, &mut out);
    message::encode_repeated(2, &profile.sample, &mut out);
    message::encode_repeated(3, &mappings, &mut out);
    message::encode_repeated(4, &profile.location, &mut out);
    message::encode_repeated(5, &profile.function, &mut out);
    string::encode_repeated(6, &profile.string_table, &mut out);
    number(9, profile.time_nanos, &mut out);
    number(10, profile.duration_nanos, &mut out);
    if let Some(period_type) = &profile.period_type {
        message::encode(11, period_type, &mut out);
    }
    number(12, profile.period, &mut out);
    int64::encode_packed(13, &profile.comment, &mut out);
    number(14, profile.default_sample_type, &mut out);
    out
}

/// Encodes a number unless it is 0, as proto3 does.
fn number(tag: u32, value: i64, out: &mut impl BufMut) {
    if value != 0 {
        int64::encode(tag, &value, out);
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn message(has_functions: [bool; 2]) -> proto::Profile {
        let mapping = |id: u64| proto::Mapping {
            id,
            filename: 5,
            build_id: 6,
            has_functions: has_functions[id as usize - 1],
            has_line_numbers: id == 1,
            ..proto::Mapping::default()
        };
        proto::Profile {
            sample_type: vec![proto::ValueType { r#type: 1, unit: 2 }],
            sample: vec![proto::Sample {
                location_id: vec![1, 2],
                value: vec![3],
                label: vec![proto::Label { key: 1, str: 2, ..proto::Label::default() }],
            }],
            mapping: vec![mapping(1), mapping(2)],
            location: vec![proto::Location { id: 1, mapping_id: 2, address: 7, line: vec![] }],
            function: vec![proto::Function { id: 1, name: 3, ..proto::Function::default() }],
            string_table: ["", "a", "b", "c", "d", "e", "f"].map(String::from).into(),
            time_nanos: 1,
            duration_nanos: 2,
            period_type: Some(proto::ValueType { r#type: 3, unit: 4 }),
            period: 4,
            comment: vec![5, 6],
            default_sample_type: 1,
        }
    }

    #[test]
    fn only_the_flags_of_mappings_differ() {
        let claimed = message([true, true]);
        assert_eq!(encode_for_file(&message([false, true])), claimed.encode_to_vec());
        assert_eq!(encode_for_file(&claimed), claimed.encode_to_vec());
        assert!(encode_for_file(&proto::Profile::default()).is_empty());
    }
}
