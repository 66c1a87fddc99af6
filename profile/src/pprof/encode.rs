//! Profile to pprof bytes.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use indexmap::IndexSet;
use prost::Message;

use super::message as pb;
use crate::{NamedFrame, NamedSample, Profile, StackEnd};

/// Longest text written, in bytes: Pyroscope's limit.
const TEXT_MAX: usize = 65_535;

/// Writes a profile as gzip-compressed pprof.
///
/// Sample types are `samples/count` and `cpu/nanoseconds`, the latter shown first.
/// Ids run from 1 in table order. A mapping whose frames have names only in part
/// becomes two, so that its flags are true of all its locations.
///
/// Sources: `proto/profile.proto` of pprof; Parca's `pkg/normalizer`, which wants ids in
/// order; Pyroscope's `pkg/pprof`, which drops addresses of a mapping with `has_functions`.
pub fn encode(profile: &Profile) -> Vec<u8> {
    let message = message_of(profile);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    let bytes = message.encode_to_vec();
    gzip.write_all(&bytes).and_then(|()| gzip.finish()).expect("memory takes every write")
}

fn message_of(profile: &Profile) -> pb::Profile {
    let mut texts = Texts::new();
    let halves = mapping_halves(profile);
    let mut message = pb::Profile {
        sample_type: vec![
            texts.value_type("samples", "count"),
            texts.value_type("cpu", "nanoseconds"),
        ],
        time_nanos: profile.start_unix_ns as i64,
        duration_nanos: profile.duration_ns as i64,
        period_type: Some(texts.value_type("cpu", "nanoseconds")),
        period: profile.period_ns as i64,
        default_sample_type: texts.place("cpu"),
        ..pb::Profile::default()
    };
    message.mapping = mappings(profile, &halves, &mut texts);
    message.location = locations(profile, &halves);
    message.function = functions(profile, &mut texts);
    message.sample = samples(profile, &mut texts);
    message.comment = profile.comments.iter().map(|c| texts.place(c)).collect();
    message.comment.extend(profile.ledger.to_string().lines().map(|line| texts.place(line)));
    message.string_table = texts.into_table();
    message
}

/// Text kept once; the empty one is at 0.
struct Texts(IndexSet<String>);

impl Texts {
    fn new() -> Self {
        Self(IndexSet::from([String::new()]))
    }

    fn place(&mut self, text: &str) -> i64 {
        let text = &text[..text.floor_char_boundary(TEXT_MAX)];
        match self.0.get_index_of(text) {
            Some(place) => place as i64,
            None => self.0.insert_full(text.to_owned()).0 as i64,
        }
    }

    fn value_type(&mut self, r#type: &str, unit: &str) -> pb::ValueType {
        pb::ValueType { r#type: self.place(r#type), unit: self.place(unit) }
    }

    fn into_table(self) -> Vec<String> {
        self.0.into_iter().collect()
    }
}

/// Tells for each mapping where its half with names and its half without lie in the
/// message: ids from 1, `None` for an empty half.
fn mapping_halves(profile: &Profile) -> Vec<[Option<u64>; 2]> {
    let mut halves = vec![[None; 2]; profile.mappings.len()];
    for frame in &profile.frames {
        halves[frame.mapping as usize][usize::from(is_named(frame))] = Some(0);
    }
    for (index, half) in halves.iter_mut().flatten().flatten().enumerate() {
        *half = index as u64 + 1;
    }
    halves
}

fn is_named(frame: &NamedFrame) -> bool {
    !frame.lines.is_empty()
}

fn mappings(profile: &Profile, halves: &[[Option<u64>; 2]], texts: &mut Texts) -> Vec<pb::Mapping> {
    let mut out = Vec::new();
    for (index, mapping) in profile.mappings.iter().enumerate() {
        let build_id = mapping.build_id.as_ref().map(ToString::to_string);
        for (has_functions, half) in [false, true].into_iter().zip(halves[index]) {
            let Some(id) = half else { continue };
            let lines = || {
                let of_half = move |f: &&NamedFrame| f.mapping as usize == index && is_named(f);
                profile.frames.iter().filter(of_half).flat_map(|f| &f.lines)
            };
            let has_file =
                |l: &crate::Line| !profile.functions[l.function as usize].file.is_empty();
            out.push(pb::Mapping {
                id,
                filename: texts.place(&mapping.name),
                build_id: texts.place(build_id.as_deref().unwrap_or_default()),
                has_functions,
                has_filenames: has_functions && lines().all(has_file),
                has_line_numbers: has_functions && lines().all(|l| l.line > 0),
                has_inline_frames: has_functions && lines().all(|l| l.line > 0),
                ..pb::Mapping::default()
            });
        }
    }
    out
}

fn locations(profile: &Profile, halves: &[[Option<u64>; 2]]) -> Vec<pb::Location> {
    let one = |(index, frame): (usize, &NamedFrame)| pb::Location {
        id: index as u64 + 1,
        mapping_id: halves[frame.mapping as usize][usize::from(is_named(frame))]
            .expect("the half of each frame was made"),
        address: frame.address.0,
        line: frame
            .lines
            .iter()
            .map(|l| pb::Line { function_id: u64::from(l.function) + 1, line: i64::from(l.line) })
            .collect(),
    };
    profile.frames.iter().enumerate().map(one).collect()
}

fn functions(profile: &Profile, texts: &mut Texts) -> Vec<pb::Function> {
    let mut out = Vec::with_capacity(profile.functions.len());
    for (index, function) in profile.functions.iter().enumerate() {
        out.push(pb::Function {
            id: index as u64 + 1,
            name: texts.place(&function.name),
            system_name: texts.place(&function.system_name),
            filename: texts.place(&function.file),
        });
    }
    out
}

fn samples(profile: &Profile, texts: &mut Texts) -> Vec<pb::Sample> {
    let mut out = Vec::with_capacity(profile.samples.len());
    for sample in &profile.samples {
        let stack = &profile.stacks[sample.key.stack.0 as usize];
        out.push(pb::Sample {
            location_id: stack.iter().map(|frame| u64::from(*frame) + 1).collect(),
            value: vec![sample.count as i64, sample.count.saturating_mul(profile.period_ns) as i64],
            label: labels(profile, sample, texts),
        });
    }
    out
}

fn labels(profile: &Profile, sample: &NamedSample, texts: &mut Texts) -> Vec<pb::Label> {
    let task = profile.task_of(sample);
    let mut out = Vec::new();
    let mut number = |texts: &mut Texts, key: &str, num: u64| {
        out.push(pb::Label { key: texts.place(key), num: num as i64, ..pb::Label::default() });
    };
    number(texts, "pid", task.pid.0.into());
    number(texts, "tid", task.tid.0.into());
    number(texts, "cgroup_id", task.cgroup_id);
    let mut text = |key: &str, value: &str| {
        out.push(pb::Label {
            key: texts.place(key),
            str: texts.place(value),
            ..pb::Label::default()
        });
    };
    text("comm", &task.comm);
    text("thread", &task.thread);
    if let Some(cut) = cut_text(sample.key.kernel_end, sample.key.user_end) {
        text("cut", &cut);
    }
    if sample.key.guessed {
        text("guessed", "frame pointers");
    }
    out
}

/// Says what of a stack is missing; `None` when nothing is.
fn cut_text(kernel_end: StackEnd, user_end: StackEnd) -> Option<String> {
    let parts: Vec<String> = [("kernel", kernel_end), ("user", user_end)]
        .into_iter()
        .filter(|(_, end)| end.is_cut())
        .map(|(part, end)| format!("{part}: {}", end.text()))
        .collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}
