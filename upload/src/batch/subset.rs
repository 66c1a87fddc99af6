//! A part of a pprof message as a message of its own: what one series of a store is sent.

use std::collections::HashMap;

use profile::pprof::proto as pb;

use crate::batch::{is_of_series, text_at};

/// Makes a message of some samples only.
///
/// `samples`: places in `profile.sample`. `values`: places in `profile.sample_type` of the
/// types to keep, in that order. Its tables hold what these samples use and nothing
/// else, in the order of their ids, numbered anew from 1 in that order. Labels of series are left out; the
/// others stay, and so do times, period and comments. The type that readers show first
/// is kept if it is one of those. Places that do not exist are passed over.
///
/// Samples keep the order in which they are asked for.
pub fn subset(profile: &pb::Profile, samples: &[usize], values: &[usize]) -> pb::Profile {
    let chosen: Vec<&pb::Sample> =
        samples.iter().filter_map(|place| profile.sample.get(*place)).collect();
    let location_ids = chosen.iter().flat_map(|sample| sample.location_id.iter().copied());
    let locations = Part::of(&profile.location, |location| location.id, location_ids);
    let lines = locations.items.iter().flat_map(|location| &location.line);
    let functions =
        Part::of(&profile.function, |function| function.id, lines.map(|line| line.function_id));
    let mapping_ids = locations.items.iter().map(|location| location.mapping_id);
    let mappings = Part::of(&profile.mapping, |mapping| mapping.id, mapping_ids);

    let mut texts = Texts::new(profile);
    let mut part = pb::Profile {
        sample_type: types(profile, values, &mut texts),
        time_nanos: profile.time_nanos,
        duration_nanos: profile.duration_nanos,
        period_type: profile.period_type.map(|t| texts.value_type(t)),
        period: profile.period,
        default_sample_type: default_type(profile, values, &mut texts),
        ..pb::Profile::default()
    };
    part.mapping = mappings.numbered(|mapping, id| texts.mapping(*mapping, id));
    part.location = locations.numbered(|location, id| pb::Location {
        id,
        mapping_id: mappings.new_id(location.mapping_id),
        address: location.address,
        line: location
            .line
            .iter()
            .map(|line| pb::Line { function_id: functions.new_id(line.function_id), ..*line })
            .collect(),
    });
    part.function = functions.numbered(|function, id| texts.function(*function, id));
    part.sample = chosen
        .iter()
        .map(|sample| pb::Sample {
            location_id: sample.location_id.iter().map(|id| locations.new_id(*id)).collect(),
            value: values.iter().filter_map(|place| sample.value.get(*place).copied()).collect(),
            label: texts.labels(sample),
        })
        .collect();
    part.comment = profile.comment.iter().map(|comment| texts.place(*comment)).collect();
    part.string_table = texts.table;
    part
}

fn types(profile: &pb::Profile, values: &[usize], texts: &mut Texts) -> Vec<pb::ValueType> {
    let types = values.iter().filter_map(|place| profile.sample_type.get(*place));
    types.map(|t| texts.value_type(*t)).collect()
}

fn default_type(profile: &pb::Profile, values: &[usize], texts: &mut Texts) -> i64 {
    let mut types = values.iter().filter_map(|place| profile.sample_type.get(*place));
    let is_kept = types.any(|t| t.r#type == profile.default_sample_type);
    if is_kept { texts.place(profile.default_sample_type) } else { 0 }
}

/// The entries of a table that are used, by their old ids, ascending. The place of each
/// is its new id less one.
struct Part<'a, T> {
    old_ids: Vec<u64>,
    items: Vec<&'a T>,
}

impl<'a, T> Part<'a, T> {
    fn of(table: &'a [T], id_of: fn(&T) -> u64, used: impl Iterator<Item = u64>) -> Self {
        let mut used: Vec<u64> = used.filter(|id| *id != 0).collect();
        used.sort_unstable();
        used.dedup();
        // Our own tables are numbered by place; others are looked through once.
        let at_place = |id: u64| table.get(id as usize - 1).filter(|item| id_of(item) == id);
        let by_id: HashMap<u64, &T> = match used.iter().all(|id| at_place(*id).is_some()) {
            true => HashMap::new(),
            false => table.iter().rev().map(|item| (id_of(item), item)).collect(),
        };
        let find = |id: u64| Some((id, at_place(id).or_else(|| by_id.get(&id).copied())?));
        let (old_ids, items) = used.into_iter().filter_map(find).unzip();
        Self { old_ids, items }
    }

    /// The new id of an old one; 0, which means none, for one that is not in the table.
    fn new_id(&self, old: u64) -> u64 {
        self.old_ids.binary_search(&old).map_or(0, |place| place as u64 + 1)
    }

    fn numbered<U>(&self, mut make: impl FnMut(&T, u64) -> U) -> Vec<U> {
        self.items.iter().zip(1..).map(|(item, id)| make(item, id)).collect()
    }
}

/// The new table of texts while it is made: each text of the old one that is used, once.
struct Texts<'a> {
    profile: &'a pb::Profile,
    table: Vec<String>,
    places: HashMap<&'a str, i64>,
}

impl<'a> Texts<'a> {
    fn new(profile: &'a pb::Profile) -> Self {
        Self { profile, table: vec![String::new()], places: HashMap::from([("", 0)]) }
    }

    fn place(&mut self, old: i64) -> i64 {
        let text = text_at(self.profile, old);
        *self.places.entry(text).or_insert_with(|| {
            self.table.push(text.to_owned());
            self.table.len() as i64 - 1
        })
    }

    fn value_type(&mut self, old: pb::ValueType) -> pb::ValueType {
        pb::ValueType { r#type: self.place(old.r#type), unit: self.place(old.unit) }
    }

    fn mapping(&mut self, old: pb::Mapping, id: u64) -> pb::Mapping {
        let (filename, build_id) = (self.place(old.filename), self.place(old.build_id));
        pb::Mapping { id, filename, build_id, ..old }
    }

    fn function(&mut self, old: pb::Function, id: u64) -> pb::Function {
        pb::Function {
            id,
            name: self.place(old.name),
            system_name: self.place(old.system_name),
            filename: self.place(old.filename),
        }
    }

    /// The labels of a sample but those of its series.
    fn labels(&mut self, sample: &pb::Sample) -> Vec<pb::Label> {
        let of_series = |l: &pb::Label| l.str != 0 && is_of_series(text_at(self.profile, l.key));
        let kept: Vec<_> = sample.label.iter().filter(|label| !of_series(label)).collect();
        let renamed = |label: &pb::Label| pb::Label {
            key: self.place(label.key),
            str: self.place(label.str),
            num: label.num,
            num_unit: self.place(label.num_unit),
        };
        kept.into_iter().map(renamed).collect()
    }
}
