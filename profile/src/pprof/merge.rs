//! Adds messages up: several windows become one profile, whose totals are the sums of theirs.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use indexmap::{IndexMap, IndexSet};

use super::decode::{DecodeError, check};
use super::proto;
use super::read::split_ledger;
use super::string_table::StringTable;
use super::viewer::comment_text;
use crate::{CaptureContext, CaptureLedger, MappingKind};

/// Comments in the sum.
const COMMENTS_MAX: usize = 32;
/// Distinct comments that are counted.
const COMMENTS_SEEN_MAX: usize = 1024;
/// Periods listed if there are several.
const PERIODS_MAX: usize = 8;

/// Why a message cannot be added.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// The message is invalid.
    #[error(transparent)]
    Damaged(#[from] DecodeError),
    /// The sample types are not those of the messages before.
    #[error("the profile counts {found}, others count {expected}")]
    SampleTypes {
        /// Sample types of the message.
        found: String,
        /// Sample types of the messages before.
        expected: String,
    },
}

/// Adds messages up.
///
/// - Samples with equal stacks and labels become one; each value is the sum.
/// - The time is the earliest. The duration is the sum of durations, or the whole span if windows
///   overlap.
/// - The period is the common one. If periods differ it is 0, and a comment lists them.
/// - Ledgers in comments are added up. Of the other comments, up to 32 that several messages have
///   are retained: a comment of one window is not true of the sum. The context of each capture is.
///
/// Memory grows with the distinct stacks and labels, not with the number of messages.
///
/// ```
/// use profile::pprof::{Merger, SampleGrouping, to_message};
/// use profile::Profile;
///
/// let first = Profile { start_unix_ns: 1_000, duration_ns: 500, ..Profile::default() };
/// let second = Profile { start_unix_ns: 1_500, duration_ns: 500, ..Profile::default() };
/// let mut merger = Merger::default();
/// for window in [&first, &second] {
///     merger.add(&to_message(window, SampleGrouping::BySeries))?;
/// }
/// let sum = merger.finish();
/// assert_eq!((sum.time_nanos, sum.duration_nanos), (1_000, 1_000));
/// # Ok::<(), profile::pprof::MergeError>(())
/// ```
#[derive(Default)]
pub struct Merger {
    tables: Tables,
    samples: IndexMap<SampleKey, Vec<i64>>,
    types: Option<Types>,
    messages: u64,
    start: Option<i64>,
    end: i64,
    duration: i64,
    periods: BTreeSet<i64>,
    ledger: Option<CaptureLedger>,
    /// Comments, and the number of messages that have them.
    comments: IndexMap<String, u64>,
}

/// Returns the sum of messages; see [`Merger`].
///
/// # Errors
/// [`MergeError`] of the first message that cannot be added.
pub fn merge<'a>(
    messages: impl IntoIterator<Item = &'a proto::Profile>,
) -> Result<proto::Profile, MergeError> {
    let mut merger = Merger::default();
    messages.into_iter().try_for_each(|message| merger.add(message))?;
    Ok(merger.finish())
}

impl Merger {
    /// Adds a message.
    ///
    /// # Errors
    /// [`MergeError`] if it is invalid or has other sample types; then the sum is unchanged.
    pub fn add(&mut self, message: &proto::Profile) -> Result<(), MergeError> {
        check(message)?;
        let types = Types::of(message);
        match &self.types {
            Some(expected) if *expected != types => {
                let (found, expected) = (types.text(), expected.text());
                return Err(MergeError::SampleTypes { found, expected });
            }
            Some(_) => {}
            None => self.types = Some(types),
        }
        self.add_samples(message);
        self.add_time(message);
        self.add_comments(message);
        self.messages += 1;
        Ok(())
    }

    /// Returns the number of messages added.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Returns the sum.
    pub fn finish(self) -> proto::Profile {
        let comments = self.comments();
        let Self { tables, samples, types, start, end, duration, periods, .. } = self;
        let Types { sample, period, default } = types.unwrap_or_default();
        let Tables { mut strings, mappings, functions, locations } = tables;
        let mut out = proto::Profile {
            mapping: mappings.into_values().collect(),
            function: functions.into_iter().zip(1..).map(function).collect(),
            location: locations.into_iter().zip(1..).map(location).collect(),
            sample: samples.into_iter().map(sample_of).collect(),
            time_nanos: start.unwrap_or(0),
            duration_nanos: duration.min(end.saturating_sub(start.unwrap_or(0))),
            period: if periods.len() == 1 { periods.first().copied().unwrap_or(0) } else { 0 },
            ..proto::Profile::default()
        };
        sort_mappings(&mut out, &strings);
        let mut value_type = |(name, unit): &(String, String)| strings.value_type(name, unit);
        out.sample_type = sample.iter().map(&mut value_type).collect();
        out.period_type = period.as_ref().map(value_type);
        out.default_sample_type = strings.intern(&default);
        out.comment = comments.iter().map(|comment| strings.intern(comment)).collect();
        out.string_table = strings.into_table();
        out
    }

    fn add_samples(&mut self, message: &proto::Profile) {
        let string_of: Vec<i64> =
            message.string_table.iter().map(|text| self.tables.strings.intern(text)).collect();
        // A message without a string table has only the empty string.
        let string_of = move |index: i64| string_of.get(index as usize).copied().unwrap_or(0);
        let location_of = self.tables.add(message, &string_of);
        for sample in &message.sample {
            let mut labels: Box<[Label]> =
                sample.label.iter().map(|label| label_key(label, &string_of)).collect();
            labels.sort_unstable();
            let stack = sample.location_id.iter().map(|id| location_of[id]).collect();
            let sums = self.samples.entry((stack, labels)).or_default();
            sums.resize(sample.value.len(), 0);
            for (sum, value) in sums.iter_mut().zip(&sample.value) {
                *sum = sum.saturating_add(*value);
            }
        }
    }

    fn add_time(&mut self, message: &proto::Profile) {
        let (start, duration) = (message.time_nanos, message.duration_nanos.max(0));
        self.start = Some(self.start.map_or(start, |earliest| earliest.min(start)));
        self.end = self.end.max(start.saturating_add(duration));
        self.duration = self.duration.saturating_add(duration);
        if self.periods.len() < PERIODS_MAX {
            self.periods.insert(message.period);
        }
    }

    fn add_comments(&mut self, message: &proto::Profile) {
        let text = |index: &i64| message.string_table.get(*index as usize).map(String::as_str);
        let comments: Vec<&str> =
            message.comment.iter().filter_map(text).map(comment_text).collect();
        let (ledger, others) = split_ledger(&comments);
        if let Some(ledger) = ledger {
            self.ledger.get_or_insert_default().add(&ledger);
        }
        for comment in others {
            if self.comments.len() >= COMMENTS_SEEN_MAX {
                self.comments.retain(|_, messages| *messages > 1);
                self.comments.truncate(COMMENTS_SEEN_MAX / 2);
            }
            *self.comments.entry(comment.to_owned()).or_default() += 1;
        }
    }

    fn comments(&self) -> Vec<String> {
        let is_common = |(comment, messages): &(&String, &u64)| {
            self.messages == 1 || **messages > 1 || CaptureContext::parse(comment).is_some()
        };
        let common = self.comments.iter().filter(is_common).take(COMMENTS_MAX);
        let mut out: Vec<String> = common.map(|(comment, _)| comment.clone()).collect();
        if self.periods.len() > 1 {
            let periods: Vec<String> = self.periods.iter().map(ToString::to_string).collect();
            out.push(format!(
                "samples stand for different times (periods of {} ns): compare cpu, not samples",
                periods.join(", ")
            ));
        }
        if let Some(ledger) = &self.ledger {
            out.extend(ledger.to_string().lines().map(str::to_owned));
        }
        out
    }
}

/// The types of a message's values, as text: quantity and unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Types {
    sample: Vec<(String, String)>,
    period: Option<(String, String)>,
    default: String,
}

impl Types {
    fn of(message: &proto::Profile) -> Self {
        let text = |index: i64| message.string_table.get(index as usize).cloned();
        let text = |index: i64| text(index).unwrap_or_default();
        let texts = |of: &proto::ValueType| (text(of.r#type), text(of.unit));
        Self {
            sample: message.sample_type.iter().map(texts).collect(),
            period: message.period_type.as_ref().map(texts),
            default: text(message.default_sample_type),
        }
    }

    fn text(&self) -> String {
        let one = |(name, unit): &(String, String)| format!("{name}/{unit}");
        self.sample.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// Key, string, number and unit; strings are indices into the table of the sum.
type Label = (i64, i64, i64, i64);
/// Ids of locations, innermost first, and sorted labels.
type SampleKey = (Box<[u64]>, Box<[Label]>);
/// Start, limit, offset, file, build ID, and whether frames are symbolized: the two halves of a
/// mapping stay apart.
type MappingKey = (u64, u64, u64, i64, i64, bool);
/// Name, system name, file, line on which it starts.
type FunctionKey = (i64, i64, i64, i64);
/// Mapping, address, and for each line function and number.
type LocationKey = (u64, u64, Box<[(u64, i64)]>);

/// The tables of the sum. Ids are indices plus 1.
struct Tables {
    strings: StringTable,
    mappings: IndexMap<MappingKey, proto::Mapping>,
    functions: IndexSet<FunctionKey>,
    locations: IndexSet<LocationKey>,
}

impl Default for Tables {
    fn default() -> Self {
        Self {
            strings: StringTable::new(),
            mappings: IndexMap::new(),
            functions: IndexSet::new(),
            locations: IndexSet::new(),
        }
    }
}

impl Tables {
    /// Adds the tables of a message. Returns the ids of its locations in these tables.
    fn add(
        &mut self,
        message: &proto::Profile,
        string_of: &impl Fn(i64) -> i64,
    ) -> HashMap<u64, u64> {
        let mut mapping_of = HashMap::from([(0, 0)]);
        for mapping in &message.mapping {
            mapping_of.insert(mapping.id, self.add_mapping(mapping, string_of));
        }
        let mut function_of = HashMap::new();
        for f in &message.function {
            let texts = [f.name, f.system_name, f.filename].map(&string_of);
            let key = (texts[0], texts[1], texts[2], f.start_line);
            function_of.insert(f.id, self.functions.insert_full(key).0 as u64 + 1);
        }
        let mut location_of = HashMap::new();
        for location in &message.location {
            let lines = location.line.iter().map(|l| (function_of[&l.function_id], l.line));
            let key = (mapping_of[&location.mapping_id], location.address, lines.collect());
            location_of.insert(location.id, self.locations.insert_full(key).0 as u64 + 1);
        }
        location_of
    }

    fn add_mapping(&mut self, mapping: &proto::Mapping, string_of: &impl Fn(i64) -> i64) -> u64 {
        let (filename, build_id) = (string_of(mapping.filename), string_of(mapping.build_id));
        let proto::Mapping { memory_start, memory_limit, file_offset, has_functions, .. } =
            *mapping;
        let key = (memory_start, memory_limit, file_offset, filename, build_id, has_functions);
        let entry = self.mappings.entry(key);
        let id = entry.index() as u64 + 1;
        // A flag is true only if it is true in all messages.
        let sum = entry.or_insert(proto::Mapping { id, filename, build_id, ..*mapping });
        sum.has_filenames &= mapping.has_filenames;
        sum.has_line_numbers &= mapping.has_line_numbers;
        sum.has_inline_frames &= mapping.has_inline_frames;
        id
    }
}

fn label_key(label: &proto::Label, string_of: &impl Fn(i64) -> i64) -> Label {
    (string_of(label.key), string_of(label.str), label.num, string_of(label.num_unit))
}

fn function((key, id): (FunctionKey, u64)) -> proto::Function {
    let (name, system_name, filename, start_line) = key;
    proto::Function { id, name, system_name, filename, start_line }
}

fn location(((mapping_id, address, lines), id): (LocationKey, u64)) -> proto::Location {
    let line =
        |(function_id, line): &(u64, i64)| proto::Line { function_id: *function_id, line: *line };
    proto::Location { id, mapping_id, address, line: lines.iter().map(line).collect() }
}

fn sample_of(((stack, labels), value): (SampleKey, Vec<i64>)) -> proto::Sample {
    let label = |&(key, str, num, num_unit): &Label| proto::Label { key, str, num, num_unit };
    let label = labels.iter().map(label).collect();
    proto::Sample { location_id: stack.into_vec(), value, label }
}

/// Sorts mappings as readers expect: those with most samples in their leaf frames first, the kernel
/// last.
fn sort_mappings(profile: &mut proto::Profile, strings: &StringTable) {
    let mut samples = vec![0i64; profile.mapping.len() + 1];
    for sample in &profile.sample {
        let Some(leaf) = sample.location_id.first() else { continue };
        let mapping = profile.location[*leaf as usize - 1].mapping_id as usize;
        let count = sample.value.first().copied().unwrap_or(0);
        samples[mapping] = samples[mapping].saturating_add(count);
    }
    profile.mapping.sort_by_key(|mapping| {
        let is_kernel = strings.get(mapping.filename) == MappingKind::KERNEL;
        (is_kernel, Reverse(samples[mapping.id as usize]), mapping.id)
    });
    let mut id_of = vec![0; samples.len()];
    for (mapping, id) in profile.mapping.iter_mut().zip(1..) {
        id_of[mapping.id as usize] = id;
        mapping.id = id;
    }
    for location in &mut profile.location {
        location.mapping_id = id_of[location.mapping_id as usize];
    }
}
