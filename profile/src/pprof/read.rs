//! From a pprof message to a profile, so that every output format of profiles works for it too.

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexSet;

use super::decode::{DecodeError, check};
use super::proto;
use super::samples::read_cut;
use super::viewer::comment_text;
use crate::labels::{COMM, CUT, GUESSED, MERGED, THREAD, is_series};
use crate::{
    BuildId, CaptureLedger, FileAddr, Function, Labels, Line, Mapping, MappingKind, Origin, Pid,
    Profile, SampleCount, SampleKey, StackEnd, StackId, SymbolizedFrame, Task, TaskId, Tid,
};

/// The unit in which the samples of a profile are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleUnit {
    /// Samples. With one period for all, they are proportional to CPU time.
    Samples,
    /// Microseconds of CPU time. Comparable also in the sum of profiles with different periods.
    Microseconds,
}

impl SampleUnit {
    /// Returns the unit in which the stacks of a message are comparable.
    pub fn of(message: &proto::Profile) -> Self {
        if message.period > 0 { Self::Samples } else { Self::Microseconds }
    }

    /// Returns the name of the unit.
    pub fn name(self) -> &'static str {
        match self {
            Self::Samples => "samples",
            Self::Microseconds => "microseconds of CPU time",
        }
    }
}

/// Converts a message to a profile: the inverse of [`to_message`](super::to_message).
///
/// In messages of other profilers, the first value of a sample is its count and the last its time.
/// Unknown numeric labels are omitted.
///
/// # Errors
/// [`DecodeError`] if an index or id is out of range.
pub fn from_message(message: &proto::Profile, unit: SampleUnit) -> Result<Profile, DecodeError> {
    check(message)?;
    let reader = Reader { message };
    let (comments, ledger) = reader.comments();
    let (mappings, mapping_of) = reader.mappings();
    let (frames, frame_of) = reader.frames(&mapping_of);
    let mut profile = Profile {
        start_unix_ns: message.time_nanos.max(0) as u64,
        duration_ns: message.duration_nanos.max(0) as u64,
        period_ns: match unit {
            SampleUnit::Samples => message.period.max(0) as u64,
            SampleUnit::Microseconds => 1000,
        },
        mappings,
        functions: reader.functions(),
        frames,
        ledger,
        comments,
        ..Profile::default()
    };
    reader.samples(&mut profile, &frame_of, unit);
    Ok(profile)
}

/// Reads a message whose indices and ids are checked.
struct Reader<'a> {
    message: &'a proto::Profile,
}

impl Reader<'_> {
    fn text(&self, index: i64) -> &str {
        self.message.string_table.get(index as usize).map_or("", String::as_str)
    }

    /// Returns the comments without the ledger, and the ledger.
    fn comments(&self) -> (Vec<String>, CaptureLedger) {
        let comments: Vec<&str> =
            self.message.comment.iter().map(|index| comment_text(self.text(*index))).collect();
        let (ledger, others) = split_ledger(&comments);
        (others.into_iter().map(str::to_owned).collect(), ledger.unwrap_or_default())
    }

    /// Returns the distinct mappings, with the two halves of each joined, and their indices by id.
    fn mappings(&self) -> (Vec<Mapping>, HashMap<u64, u32>) {
        let mut distinct: IndexSet<(&str, &str)> = IndexSet::new();
        let mut index_of = HashMap::new();
        for mapping in &self.message.mapping {
            let key = (self.text(mapping.filename), self.text(mapping.build_id));
            index_of.insert(mapping.id, distinct.insert_full(key).0 as u32);
        }
        if self.message.location.iter().any(|location| location.mapping_id == 0) {
            index_of.insert(0, distinct.insert_full((MappingKind::UNKNOWN, "")).0 as u32);
        }
        (distinct.into_iter().map(mapping).collect(), index_of)
    }

    fn functions(&self) -> Vec<Function> {
        let one = |function: &proto::Function| Function {
            name: self.text(function.name).to_owned(),
            system_name: self.text(function.system_name).to_owned(),
            file: self.text(function.filename).to_owned(),
            start_line: u32::try_from(function.start_line).unwrap_or(0),
        };
        self.message.function.iter().map(one).collect()
    }

    /// Returns the frames, and their indices by the id of their location.
    fn frames(&self, mapping_of: &HashMap<u64, u32>) -> (Vec<SymbolizedFrame>, HashMap<u64, u32>) {
        let functions = self.message.function.iter().zip(0..);
        let functions: HashMap<u64, u32> = functions.map(|(f, index)| (f.id, index)).collect();
        let line = |line: &proto::Line| Line {
            function: functions[&line.function_id],
            line: u32::try_from(line.line).unwrap_or(0),
        };
        let frame = |location: &proto::Location| SymbolizedFrame {
            mapping: mapping_of[&location.mapping_id],
            address: FileAddr(location.address),
            lines: location.line.iter().map(line).collect(),
        };
        let locations = &self.message.location;
        let index_of = locations.iter().zip(0..).map(|(location, index)| (location.id, index));
        (locations.iter().map(frame).collect(), index_of.collect())
    }

    fn samples(&self, profile: &mut Profile, frame_of: &HashMap<u64, u32>, unit: SampleUnit) {
        let mut stacks: IndexSet<Box<[u32]>> = IndexSet::new();
        let mut tasks: IndexSet<Task> = IndexSet::new();
        for sample in &self.message.sample {
            let stack = sample.location_id.iter().map(|id| frame_of[id]).collect();
            let (task, (kernel_end, user_end), guessed) = self.labels(&sample.label);
            let key = SampleKey {
                task: TaskId(tasks.insert_full(task).0 as u32),
                stack: StackId(stacks.insert_full(stack).0 as u32),
                kernel_end,
                user_end,
                guessed,
            };
            profile.samples.push(SampleCount { key, count: count(&sample.value, unit) });
        }
        profile.stacks = stacks.into_iter().collect();
        profile.tasks = tasks.into_iter().collect();
    }

    /// Reads the task, the ends of both parts of the stack, and whether a frame is guessed.
    fn labels(&self, labels: &[proto::Label]) -> (Task, (StackEnd, StackEnd), bool) {
        let (mut series, mut thread) = (Labels::default(), "");
        let (mut ends, mut guessed) = ((StackEnd::Complete, StackEnd::Complete), false);
        let (mut pid, mut tid, mut cgroup_id) = (0, 0, 0);
        for label in labels {
            match (self.text(label.key), self.text(label.str)) {
                ("pid", "") => pid = label.num as u32,
                ("tid", "") => tid = label.num as u32,
                ("cgroup_id", "") => cgroup_id = label.num as u64,
                (THREAD, name) => thread = name,
                (CUT, reason) => ends = read_cut(reason),
                (GUESSED, _) => guessed = true,
                (key, text) if is_series(key) => series.set(key, text),
                _ => {}
            }
        }
        let comm = series.get(COMM).or(series.get(MERGED).map(|_| "[merged]")).unwrap_or_default();
        let (comm, labels) = (comm.into(), Arc::new(series));
        let (pid, tid, thread) = (Pid(pid), Tid(tid), thread.into());
        (Task { pid, tid, comm, thread, cgroup_id, labels }, ends, guessed)
    }
}

fn mapping((name, build_id): (&str, &str)) -> Mapping {
    Mapping {
        name: name.to_owned(),
        build_id: BuildId::from_hex(build_id),
        kind: MappingKind::of_name(name),
    }
}

/// Largest count of a sample. Sums of such counts do not overflow.
const COUNT_MAX: i64 = 1 << 48;

fn count(values: &[i64], unit: SampleUnit) -> u64 {
    let value = match unit {
        SampleUnit::Samples => values.first().copied(),
        SampleUnit::Microseconds => values.last().map(|nanoseconds| nanoseconds / 1000),
    };
    value.unwrap_or(0).clamp(0, COUNT_MAX) as u64
}

/// Returns the origin in the comments of a message, if there is one.
pub fn origin(message: &proto::Profile) -> Option<Origin> {
    let reader = Reader { message };
    let comments = message.comment.iter().map(|index| comment_text(reader.text(*index)));
    comments.into_iter().find_map(Origin::parse)
}

/// Returns the ledger in comments, if there is one, and the other comments in their order.
pub(super) fn split_ledger<'a>(comments: &[&'a str]) -> (Option<CaptureLedger>, Vec<&'a str>) {
    const LINES: usize = CaptureLedger::TEXT_LINES;
    for (index, lines) in comments.windows(LINES).enumerate() {
        let Ok(lines) = <[&str; LINES]>::try_from(lines) else { continue };
        if let Some(ledger) = CaptureLedger::parse(lines) {
            let others = comments[..index].iter().chain(&comments[index + LINES..]);
            return (Some(ledger), others.copied().collect());
        }
    }
    (None, comments.to_vec())
}
