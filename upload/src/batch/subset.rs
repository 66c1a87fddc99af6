//! Extracts a part of a pprof message as a message of its own, for example for one series.

use std::collections::HashMap;

use profile::pprof::proto as pb;

use super::{is_series_label, text_at};

/// Extracts a message with these samples only.
///
/// `samples`: indexes into `profile.sample`. `values`: indexes into `profile.sample_type` of the
/// types to retain, in that order. Indexes that do not exist are skipped.
///
/// The tables contain what these samples use and nothing else, in the order of their old IDs,
/// renumbered from 1. Series labels are removed. Other labels, times, period and comments are
/// retained, and so is the default sample type if it is among `values`. Samples keep the order
/// of `samples`.
pub fn subset(profile: &pb::Profile, samples: &[usize], values: &[usize]) -> pb::Profile {
    let chosen: Vec<&pb::Sample> =
        samples.iter().filter_map(|index| profile.sample.get(*index)).collect();
    let location_ids = chosen.iter().flat_map(|sample| sample.location_id.iter().copied());
    let locations = TableSubset::new(&profile.location, |location| location.id, location_ids);
    let lines = locations.entries.iter().flat_map(|location| &location.line);
    let function_ids = lines.map(|line| line.function_id);
    let functions = TableSubset::new(&profile.function, |function| function.id, function_ids);
    let mapping_ids = locations.entries.iter().map(|location| location.mapping_id);
    let mappings = TableSubset::new(&profile.mapping, |mapping| mapping.id, mapping_ids);

    let mut strings = StringTable::new(profile);
    let mut part = pb::Profile {
        sample_type: sample_types(profile, values, &mut strings),
        time_nanos: profile.time_nanos,
        duration_nanos: profile.duration_nanos,
        period_type: profile.period_type.map(|t| strings.value_type(t)),
        period: profile.period,
        default_sample_type: default_sample_type(profile, values, &mut strings),
        ..pb::Profile::default()
    };
    part.mapping = mappings.renumber(|mapping, id| strings.mapping(*mapping, id));
    part.location = locations.renumber(|location, id| pb::Location {
        id,
        mapping_id: mappings.new_id(location.mapping_id),
        address: location.address,
        line: location
            .line
            .iter()
            .map(|line| pb::Line { function_id: functions.new_id(line.function_id), ..*line })
            .collect(),
    });
    part.function = functions.renumber(|function, id| strings.function(*function, id));
    part.sample = chosen
        .iter()
        .map(|sample| pb::Sample {
            location_id: sample.location_id.iter().map(|id| locations.new_id(*id)).collect(),
            value: values.iter().filter_map(|index| sample.value.get(*index).copied()).collect(),
            label: strings.labels(sample),
        })
        .collect();
    part.comment = profile.comment.iter().map(|comment| strings.index(*comment)).collect();
    part.string_table = strings.table;
    part
}

fn sample_types(
    profile: &pb::Profile,
    values: &[usize],
    strings: &mut StringTable,
) -> Vec<pb::ValueType> {
    let types = values.iter().filter_map(|index| profile.sample_type.get(*index));
    types.map(|t| strings.value_type(*t)).collect()
}

fn default_sample_type(profile: &pb::Profile, values: &[usize], strings: &mut StringTable) -> i64 {
    let mut types = values.iter().filter_map(|index| profile.sample_type.get(*index));
    let is_retained = types.any(|t| t.r#type == profile.default_sample_type);
    if is_retained { strings.index(profile.default_sample_type) } else { 0 }
}

/// The used entries of a table, ascending by old ID. The new ID of an entry is its index plus 1.
struct TableSubset<'a, T> {
    old_ids: Vec<u64>,
    entries: Vec<&'a T>,
}

impl<'a, T> TableSubset<'a, T> {
    fn new(table: &'a [T], id_of: fn(&T) -> u64, used: impl Iterator<Item = u64>) -> Self {
        let mut used: Vec<u64> = used.filter(|id| *id != 0).collect();
        used.sort_unstable();
        used.dedup();
        // Everytick's tables are numbered by index. Others are indexed first.
        let at_index = |id: u64| table.get(id as usize - 1).filter(|entry| id_of(entry) == id);
        let by_id: HashMap<u64, &T> = match used.iter().all(|id| at_index(*id).is_some()) {
            true => HashMap::new(),
            false => table.iter().rev().map(|entry| (id_of(entry), entry)).collect(),
        };
        let find = |id: u64| Some((id, at_index(id).or_else(|| by_id.get(&id).copied())?));
        let (old_ids, entries) = used.into_iter().filter_map(find).unzip();
        Self { old_ids, entries }
    }

    /// Returns the new ID of an entry; 0, which means none, if the table lacks it.
    fn new_id(&self, old: u64) -> u64 {
        self.old_ids.binary_search(&old).map_or(0, |index| index as u64 + 1)
    }

    fn renumber<U>(&self, mut convert: impl FnMut(&T, u64) -> U) -> Vec<U> {
        self.entries.iter().zip(1..).map(|(entry, id)| convert(entry, id)).collect()
    }
}

/// The new string table: each string in use, once.
struct StringTable<'a> {
    profile: &'a pb::Profile,
    table: Vec<String>,
    indexes: HashMap<&'a str, i64>,
}

impl<'a> StringTable<'a> {
    fn new(profile: &'a pb::Profile) -> Self {
        Self { profile, table: vec![String::new()], indexes: HashMap::from([("", 0)]) }
    }

    /// Returns the new index of a string, given its old one.
    fn index(&mut self, old: i64) -> i64 {
        let text = text_at(self.profile, old);
        *self.indexes.entry(text).or_insert_with(|| {
            self.table.push(text.to_owned());
            self.table.len() as i64 - 1
        })
    }

    fn value_type(&mut self, old: pb::ValueType) -> pb::ValueType {
        pb::ValueType { r#type: self.index(old.r#type), unit: self.index(old.unit) }
    }

    fn mapping(&mut self, old: pb::Mapping, id: u64) -> pb::Mapping {
        let (filename, build_id) = (self.index(old.filename), self.index(old.build_id));
        pb::Mapping { id, filename, build_id, ..old }
    }

    fn function(&mut self, old: pb::Function, id: u64) -> pb::Function {
        pb::Function {
            id,
            name: self.index(old.name),
            system_name: self.index(old.system_name),
            filename: self.index(old.filename),
            start_line: old.start_line,
        }
    }

    /// Returns the labels of a sample, except those of its series.
    fn labels(&mut self, sample: &pb::Sample) -> Vec<pb::Label> {
        let retained = sample.label.iter().filter(|label| !is_series_label(self.profile, label));
        let retained: Vec<&pb::Label> = retained.collect();
        let reindex = |label: &pb::Label| pb::Label {
            key: self.index(label.key),
            str: self.index(label.str),
            num: label.num,
            num_unit: self.index(label.num_unit),
        };
        retained.into_iter().map(reindex).collect()
    }
}
