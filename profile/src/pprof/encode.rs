//! From a profile to a pprof message and bytes.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;

use super::file::encode_for_file;
use super::proto;
use super::samples::{SampleGrouping, samples};
use super::string_table::StringTable;
use super::viewer::for_viewers;
use crate::{Profile, SymbolizedFrame};

/// Encodes a profile as a gzip-compressed pprof file for viewers, with the samples of each thread
/// apart; see [`for_viewers`].
pub fn encode(profile: &Profile) -> Vec<u8> {
    compress_file(&for_viewers(&to_message(profile, SampleGrouping::ByThread)))
}

/// Encodes a message as gzip-compressed pprof.
pub fn compress(message: &proto::Profile) -> Vec<u8> {
    gzip(&message.encode_to_vec())
}

/// Encodes a message as a gzip-compressed pprof file; see [`encode_for_file`].
pub fn compress_file(message: &proto::Profile) -> Vec<u8> {
    gzip(&encode_for_file(message))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(bytes).and_then(|()| gzip.finish()).expect("writes to memory do not fail")
}

/// Converts a profile to a pprof message.
///
/// The sample types are `samples/count` and `cpu/nanoseconds`; the latter is the default. Ids are
/// consecutive from 1 in the order of each table. A mapping with both symbolized and unsymbolized
/// frames becomes two, so that its flags are true of all its locations.
///
/// Sources: `proto/profile.proto` of pprof; Parca's `pkg/normalizer`, which requires ids in order;
/// Pyroscope's `pkg/pprof`, which drops the addresses of a mapping with `has_functions`.
pub fn to_message(profile: &Profile, grouping: SampleGrouping) -> proto::Profile {
    let mut strings = StringTable::new();
    let halves = halves_of(profile);
    let mut message = proto::Profile {
        sample_type: vec![
            strings.value_type("samples", "count"),
            strings.value_type("cpu", "nanoseconds"),
        ],
        time_nanos: profile.start_unix_ns as i64,
        duration_nanos: profile.duration_ns as i64,
        period_type: Some(strings.value_type("cpu", "nanoseconds")),
        period: profile.period_ns as i64,
        default_sample_type: strings.intern("cpu"),
        ..proto::Profile::default()
    };
    message.mapping = mappings(profile, &halves, &mut strings);
    message.location = locations(profile, &halves);
    message.function = functions(profile, &mut strings);
    message.sample = samples(profile, grouping, &mut strings);
    message.comment = profile.comments.iter().map(|c| strings.intern(c)).collect();
    message.comment.extend(profile.ledger.to_string().lines().map(|line| strings.intern(line)));
    message.string_table = strings.into_table();
    message
}

/// A mapping of the message: the symbolized or the unsymbolized frames of one of the profile.
#[derive(Clone, Copy)]
struct Half {
    /// Id in the message.
    id: u64,
    /// Whether all lines have a source file.
    has_files: bool,
    /// Whether all lines have a number.
    has_lines: bool,
}

/// The unsymbolized half of a mapping and the symbolized one; `None` for an empty half.
type Halves = [Option<Half>; 2];

fn halves_of(profile: &Profile) -> Vec<Halves> {
    let mut halves = vec![[None; 2]; profile.mappings.len()];
    for frame in &profile.frames {
        let half = halves[frame.mapping as usize][usize::from(is_symbolized(frame))]
            .get_or_insert(Half { id: 0, has_files: true, has_lines: true });
        for line in &frame.lines {
            half.has_files &= !profile.functions[line.function as usize].file.is_empty();
            half.has_lines &= line.line > 0;
        }
    }
    for (index, half) in halves.iter_mut().flatten().flatten().enumerate() {
        half.id = index as u64 + 1;
    }
    halves
}

fn is_symbolized(frame: &SymbolizedFrame) -> bool {
    !frame.lines.is_empty()
}

fn mappings(
    profile: &Profile,
    halves: &[Halves],
    strings: &mut StringTable,
) -> Vec<proto::Mapping> {
    let mut out = Vec::new();
    for (mapping, halves) in profile.mappings.iter().zip(halves) {
        let build_id = mapping.build_id.as_ref().map(ToString::to_string);
        for (has_functions, half) in [false, true].into_iter().zip(halves) {
            let Some(half) = half else { continue };
            out.push(proto::Mapping {
                id: half.id,
                filename: strings.intern(&mapping.name),
                build_id: strings.intern(build_id.as_deref().unwrap_or_default()),
                has_functions,
                has_filenames: has_functions && half.has_files,
                has_line_numbers: has_functions && half.has_lines,
                has_inline_frames: has_functions && half.has_lines,
                ..proto::Mapping::default()
            });
        }
    }
    out
}

fn locations(profile: &Profile, halves: &[Halves]) -> Vec<proto::Location> {
    let one = |(index, frame): (usize, &SymbolizedFrame)| proto::Location {
        id: index as u64 + 1,
        mapping_id: halves[frame.mapping as usize][usize::from(is_symbolized(frame))]
            .expect("every frame has a half")
            .id,
        address: frame.address.0,
        line: frame
            .lines
            .iter()
            .map(|l| proto::Line {
                function_id: u64::from(l.function) + 1,
                line: i64::from(l.line),
            })
            .collect(),
    };
    profile.frames.iter().enumerate().map(one).collect()
}

fn functions(profile: &Profile, strings: &mut StringTable) -> Vec<proto::Function> {
    let mut out = Vec::with_capacity(profile.functions.len());
    for (index, function) in profile.functions.iter().enumerate() {
        out.push(proto::Function {
            id: index as u64 + 1,
            name: strings.intern(&function.name),
            system_name: strings.intern(&function.system_name),
            filename: strings.intern(&function.file),
            start_line: function.start_line.into(),
        });
    }
    out
}
