//! Messages added up: several windows become one profile, which equals the sum of its parts.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use indexmap::{IndexMap, IndexSet};

use super::decode::{DecodeError, check};
use super::proto;
use super::read::split_ledger;
use super::string_table::StringTable;
use crate::CaptureLedger;

/// Comments of the sum.
const COMMENTS_MAX: usize = 32;
/// Comments that are looked out for to come again.
const COMMENTS_SEEN_MAX: usize = 1024;
/// Periods that are named when there are several.
const PERIODS_MAX: usize = 8;

/// Why a message cannot be added.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// It makes no sense.
    #[error(transparent)]
    Damaged(#[from] DecodeError),
    /// It counts something else than those before.
    #[error("the profile counts {found}, others count {expected}")]
    SampleTypes {
        /// What it counts.
        found: String,
        /// What those before count.
        expected: String,
    },
}

/// Adds messages up.
///
/// Samples with equal stacks and labels become one, each of their values the sum. Time is the earliest, duration what is
/// covered: the sum of durations, or the whole span where windows overlap. The period is that of all; where they
/// differ it is 0, and a comment says so. Ledgers in comments are added up. Of other comments up to 32 are kept that several
/// messages have; what one window says of itself is not true of the sum.
///
/// Takes memory for what is distinct.
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
    /// Comments, and how many messages have them.
    comments: IndexMap<String, u64>,
}

/// Adds messages up, as a [`Merger`] does.
///
/// # Errors
/// [`MergeError`] of the first that cannot be added.
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
    /// [`MergeError`]; then nothing of it is in the sum.
    pub fn add(&mut self, message: &proto::Profile) -> Result<(), MergeError> {
        check(message)?;
        let types = Types::of(message);
        match &self.types {
            Some(known) if *known != types => {
                let (found, expected) = (types.text(), known.text());
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

    /// How many messages were added.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Gives the sum.
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
        let text_of: Vec<i64> =
            message.string_table.iter().map(|text| self.tables.strings.intern(text)).collect();
        // A message without texts has nothing but the empty one.
        let text_of = move |place: i64| text_of.get(place as usize).copied().unwrap_or(0);
        let location_of = self.tables.add(message, &text_of);
        for sample in &message.sample {
            let mut labels: Box<[Label]> =
                sample.label.iter().map(|label| label_key(label, &text_of)).collect();
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
        let text = |place: &i64| message.string_table.get(*place as usize).map(String::as_str);
        let strings: Vec<&str> = message.comment.iter().filter_map(text).collect();
        let (ledger, others) = split_ledger(&strings);
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
        let is_kept = |(_, messages): &(&String, &u64)| self.messages == 1 || **messages > 1;
        let kept = self.comments.iter().filter(is_kept).take(COMMENTS_MAX);
        let mut out: Vec<String> = kept.map(|(comment, _)| comment.clone()).collect();
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

/// What a message counts, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Types {
    sample: Vec<(String, String)>,
    period: Option<(String, String)>,
    default: String,
}

impl Types {
    fn of(message: &proto::Profile) -> Self {
        let text = |place: i64| message.string_table.get(place as usize).cloned();
        let text = |place: i64| text(place).unwrap_or_default();
        let words = |of: &proto::ValueType| (text(of.r#type), text(of.unit));
        Self {
            sample: message.sample_type.iter().map(words).collect(),
            period: message.period_type.as_ref().map(words),
            default: text(message.default_sample_type),
        }
    }

    fn text(&self) -> String {
        let one = |(name, unit): &(String, String)| format!("{name}/{unit}");
        self.sample.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// Text by place in the table of the sum.
type Label = (i64, i64, i64, i64);
/// Ids of locations, innermost first, and labels in order.
type SampleKey = (Box<[u64]>, Box<[Label]>);
/// Start, limit, offset, file, build id, and whether frames in it have names: half of a mapping stays half.
type MappingKey = (u64, u64, u64, i64, i64, bool);
/// Name, name for the linker, file.
type FunctionKey = (i64, i64, i64);
/// Mapping, address, and for each line function and number.
type LocationKey = (u64, u64, Box<[(u64, i64)]>);

/// What samples speak of, each once; ids are places, from 1.
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
    /// Takes in the tables of a message; tells which of its locations is which here.
    fn add(
        &mut self,
        message: &proto::Profile,
        text_of: &impl Fn(i64) -> i64,
    ) -> HashMap<u64, u64> {
        let mut mapping_of = HashMap::from([(0, 0)]);
        for mapping in &message.mapping {
            mapping_of.insert(mapping.id, self.add_mapping(mapping, text_of));
        }
        let mut function_of = HashMap::new();
        for f in &message.function {
            let key = (text_of(f.name), text_of(f.system_name), text_of(f.filename));
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

    fn add_mapping(&mut self, mapping: &proto::Mapping, text_of: &impl Fn(i64) -> i64) -> u64 {
        let (filename, build_id) = (text_of(mapping.filename), text_of(mapping.build_id));
        let proto::Mapping { memory_start, memory_limit, file_offset, has_functions, .. } =
            *mapping;
        let key = (memory_start, memory_limit, file_offset, filename, build_id, has_functions);
        let entry = self.mappings.entry(key);
        let id = entry.index() as u64 + 1;
        // What is said of all locations must be true of those of all messages.
        let ours = entry.or_insert(proto::Mapping { id, filename, build_id, ..*mapping });
        ours.has_filenames &= mapping.has_filenames;
        ours.has_line_numbers &= mapping.has_line_numbers;
        ours.has_inline_frames &= mapping.has_inline_frames;
        id
    }
}

fn label_key(label: &proto::Label, text_of: &impl Fn(i64) -> i64) -> Label {
    (text_of(label.key), text_of(label.str), label.num, text_of(label.num_unit))
}

fn function(((name, system_name, filename), id): (FunctionKey, u64)) -> proto::Function {
    proto::Function { id, name, system_name, filename }
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

/// Puts mappings into the order that readers expect: those with most samples at their leaf first, the kernel last.
fn sort_mappings(profile: &mut proto::Profile, strings: &StringTable) {
    let mut samples = vec![0i64; profile.mapping.len() + 1];
    for sample in &profile.sample {
        let Some(leaf) = sample.location_id.first() else { continue };
        let mapping = profile.location[*leaf as usize - 1].mapping_id as usize;
        let count = sample.value.first().copied().unwrap_or(0);
        samples[mapping] = samples[mapping].saturating_add(count);
    }
    profile.mapping.sort_by_key(|mapping| {
        let is_kernel = strings.at(mapping.filename) == "[kernel.kallsyms]";
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
