//! A batch as OTLP: a resource for each container and executable, one profile in each, one dictionary.
//!
//! | label of a series | becomes |
//! |---|---|
//! | node | resource: `host.name`; in a pod also `k8s.node.name` |
//! | container_id | resource: `container.id` |
//! | pod_uid | resource: `k8s.pod.uid` |
//! | executable | resource: `process.executable.name`, and `service.name` unless a static label has that name |
//! | merged, static labels | resource: under their own names |
//! | comm | sample: `process.title` |
//! | cgroup | sample: `process.linux.cgroup` |
//! | cut, guessed (no series) | sample: `everytick.stack.cut`, `everytick.stack.guessed` |
//!
//! `service.name` is always there: without an executable it is the process's name, else `unknown_service`.
//!
//! Sources: OTLP 1.11, comments of `profiles.proto`; semantic conventions 1.44.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use indexmap::IndexSet;
use profile::Labels;
use profile::labels::{CGROUP, COMM, CONTAINER_ID, CUT, EXECUTABLE, GUESSED, NODE, POD_UID};
use profile::pprof::proto as pb;
use sha2::{Digest, Sha256};

use super::proto::{
    AnyValue, Dictionary, ExportRequest, Function, KeyValue, KeyValueAndUnit, Line, Link, Location,
    Mapping, Profile, Resource, ResourceProfiles, Sample, Scope, ScopeProfiles, Stack, ValueType,
};
use crate::batch::{Batch, text_at};
use crate::sinks::parts::Piece;

/// The service of samples of which nothing is known. Source: semantic conventions, `service.name`.
const UNKNOWN_SERVICE: &str = "unknown_service";

/// Makes the request for some series. `counts`: the place of `samples/count`.
pub(super) fn request(batch: &Batch, part: &[Piece], counts: usize) -> ExportRequest {
    let mut by_resource: BTreeMap<Labels, Vec<&Piece>> = BTreeMap::new();
    for piece in part {
        by_resource.entry(resource_of(&piece.labels)).or_default().push(piece);
    }
    let mut tables = Tables::new(&batch.profile, counts);
    let resource_profiles = by_resource
        .into_iter()
        .map(|(attributes, pieces)| ResourceProfiles {
            scope_profiles: vec![ScopeProfiles {
                scope: Some(scope()),
                profiles: vec![tables.profile(batch, &attributes, &pieces)],
            }],
            resource: Some(Resource { attributes: attributes.iter().map(key_value).collect() }),
        })
        .collect();
    ExportRequest { resource_profiles, dictionary: Some(tables.into_dictionary()) }
}

fn scope() -> Scope {
    Scope { name: "everytick".into(), version: env!("CARGO_PKG_VERSION").into() }
}

fn key_value((key, value): (&str, &str)) -> KeyValue {
    KeyValue { key: key.to_owned(), value: AnyValue::text(value) }
}

/// The attributes of the resource that a series belongs to.
fn resource_of(series: &Labels) -> Labels {
    let mut resource = Labels::default();
    let mut set = |name: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            resource.0.insert(name.to_owned(), value.to_owned());
        }
    };
    set("service.name", Some(UNKNOWN_SERVICE));
    set("service.name", series.get(COMM));
    set("service.name", series.get(EXECUTABLE));
    set("process.executable.name", series.get(EXECUTABLE));
    set("container.id", series.get(CONTAINER_ID));
    set("k8s.pod.uid", series.get(POD_UID));
    set("host.name", series.get(NODE));
    set("k8s.node.name", series.get(NODE).filter(|_| series.get(POD_UID).is_some()));
    let is_own =
        |name: &str| ![NODE, COMM, EXECUTABLE, CGROUP, POD_UID, CONTAINER_ID].contains(&name);
    // Last, so that what the user says counts.
    series.iter().filter(|(name, _)| is_own(name)).for_each(|(name, value)| set(name, Some(value)));
    resource
}

/// The name of the attribute that a label of samples becomes.
fn sample_attribute(label: &str) -> Option<&'static str> {
    Some(match label {
        COMM => "process.title",
        CGROUP => "process.linux.cgroup",
        CUT => "everytick.stack.cut",
        GUESSED => "everytick.stack.guessed",
        _ => return None,
    })
}

/// Rows of one table, each once, the empty one first.
struct Table<T>(IndexSet<T>);

impl<T: Default + Eq + Hash> Table<T> {
    fn new() -> Self {
        Self(IndexSet::from([T::default()]))
    }

    fn place(&mut self, row: T) -> i32 {
        i32::try_from(self.0.insert_full(row).0).unwrap_or(0)
    }

    fn into_rows(self) -> Vec<T> {
        self.0.into_iter().collect()
    }
}

/// The dictionary while it is made.
struct Tables<'a> {
    source: &'a pb::Profile,
    counts: usize,
    locations_by_id: HashMap<u64, &'a pb::Location>,
    mappings_by_id: HashMap<u64, &'a pb::Mapping>,
    functions_by_id: HashMap<u64, &'a pb::Function>,
    /// Where locations of the source lie in the dictionary.
    placed: HashMap<u64, i32>,
    texts: Table<String>,
    mappings: Table<Mapping>,
    locations: Table<Location>,
    functions: Table<Function>,
    attributes: Table<KeyValueAndUnit>,
    stacks: Table<Stack>,
}

impl<'a> Tables<'a> {
    fn new(source: &'a pb::Profile, counts: usize) -> Self {
        Self {
            source,
            counts,
            locations_by_id: source.location.iter().map(|l| (l.id, l)).collect(),
            mappings_by_id: source.mapping.iter().map(|m| (m.id, m)).collect(),
            functions_by_id: source.function.iter().map(|f| (f.id, f)).collect(),
            placed: HashMap::new(),
            texts: Table::new(),
            mappings: Table::new(),
            locations: Table::new(),
            functions: Table::new(),
            attributes: Table::new(),
            stacks: Table::new(),
        }
    }

    fn into_dictionary(self) -> Dictionary {
        Dictionary {
            mapping_table: self.mappings.into_rows(),
            location_table: self.locations.into_rows(),
            function_table: self.functions.into_rows(),
            link_table: vec![Link {}],
            string_table: self.texts.into_rows(),
            attribute_table: self.attributes.into_rows(),
            stack_table: self.stacks.into_rows(),
        }
    }

    /// The one profile of a resource: equal stacks with equal attributes are one sample.
    fn profile(&mut self, batch: &Batch, resource: &Labels, pieces: &[&Piece]) -> Profile {
        let mut values: BTreeMap<(i32, Vec<i32>), i64> = BTreeMap::new();
        for place in pieces.iter().flat_map(|piece| &piece.samples) {
            let Some(sample) = self.source.sample.get(*place) else { continue };
            let count = sample.value.get(self.counts).copied().unwrap_or(0);
            if count > 0 {
                let key = (self.stack(sample), self.sample_attributes(sample));
                let value = values.entry(key).or_default();
                *value = value.saturating_add(count);
            }
        }
        let sample = |((stack_index, attribute_indices), value)| Sample {
            stack_index,
            attribute_indices,
            values: vec![value],
        };
        let mut value_type = |r#type: &str, unit: &str| {
            let (type_strindex, unit_strindex) = (self.text(r#type), self.text(unit));
            Some(ValueType { type_strindex, unit_strindex })
        };
        Profile {
            sample_type: value_type("samples", "count"),
            period_type: value_type("cpu", "nanoseconds"),
            period: self.source.period,
            samples: values.into_iter().map(sample).collect(),
            time_unix_nano: batch.start_unix_ns(),
            duration_nano: batch.duration_ns(),
            profile_id: profile_id(batch, resource, pieces),
        }
    }

    fn text(&mut self, text: &str) -> i32 {
        match self.texts.0.get_index_of(text) {
            Some(place) => i32::try_from(place).unwrap_or(0),
            None => self.texts.place(text.to_owned()),
        }
    }

    fn text_of(&mut self, place: i64) -> i32 {
        let source = self.source;
        self.text(text_at(source, place))
    }

    fn attribute(&mut self, name: &str, value: &str) -> i32 {
        let key_strindex = self.text(name);
        self.attributes.place(KeyValueAndUnit { key_strindex, value: AnyValue::text(value) })
    }

    fn sample_attributes(&mut self, sample: &pb::Sample) -> Vec<i32> {
        let source = self.source;
        let mut places = Vec::new();
        for label in sample.label.iter().filter(|label| label.str != 0) {
            if let Some(name) = sample_attribute(text_at(source, label.key)) {
                places.push(self.attribute(name, text_at(source, label.str)));
            }
        }
        places.sort_unstable();
        places.dedup();
        places
    }

    fn stack(&mut self, sample: &pb::Sample) -> i32 {
        let location_indices = sample.location_id.iter().map(|id| self.location(*id)).collect();
        self.stacks.place(Stack { location_indices })
    }

    fn location(&mut self, id: u64) -> i32 {
        if let Some(place) = self.placed.get(&id) {
            return *place;
        }
        let Some(location) = self.locations_by_id.get(&id).copied() else { return 0 };
        let mapping = self.mappings_by_id.get(&location.mapping_id).copied();
        let frame_type = mapping.and_then(|mapping| frame_type(self.source, mapping));
        let row = Location {
            mapping_index: mapping.map_or(0, |mapping| self.mapping(mapping)),
            address: location.address,
            lines: location.line.iter().map(|line| self.line(line)).collect(),
            attribute_indices: frame_type
                .map(|frame_type| self.attribute("profile.frame.type", frame_type))
                .into_iter()
                .collect(),
        };
        let place = self.locations.place(row);
        self.placed.insert(id, place);
        place
    }

    fn mapping(&mut self, mapping: &pb::Mapping) -> i32 {
        let build_id = text_at(self.source, mapping.build_id);
        let attribute_indices = match build_id {
            "" => Vec::new(),
            id => vec![self.attribute("process.executable.build_id.gnu", id)],
        };
        let filename_strindex = self.text_of(mapping.filename);
        self.mappings.place(Mapping { filename_strindex, attribute_indices })
    }

    fn line(&mut self, line: &pb::Line) -> Line {
        let function = self.functions_by_id.get(&line.function_id).copied();
        Line { function_index: function.map_or(0, |f| self.function(f)), line: line.line }
    }

    fn function(&mut self, function: &pb::Function) -> i32 {
        let row = Function {
            name_strindex: self.text_of(function.name),
            system_name_strindex: self.text_of(function.system_name),
            filename_strindex: self.text_of(function.filename),
        };
        self.functions.place(row)
    }
}

/// What kind of code a frame is; not known for code that a JIT compiler made.
fn frame_type(profile: &pb::Profile, mapping: &pb::Mapping) -> Option<&'static str> {
    match text_at(profile, mapping.filename) {
        name if name.starts_with("[kernel") => Some("kernel"),
        "[vdso]" => Some("native"),
        name if name.starts_with('[') || name.is_empty() => None,
        _ => Some("native"),
    }
}

/// 16 bytes that are the same each time this is sent, and in no other profile.
fn profile_id(batch: &Batch, resource: &Labels, pieces: &[&Piece]) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update(batch.start_unix_ns().to_le_bytes());
    hash.update(batch.duration_ns().to_le_bytes());
    for (name, value) in resource.iter() {
        for text in [name, value] {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
    }
    for place in pieces.iter().flat_map(|piece| &piece.samples) {
        hash.update((*place as u64).to_le_bytes());
    }
    // All zeros would mean none; no hash that anybody has seen begins so.
    hash.finalize()[..16].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_become_attributes_of_the_resource() {
        let series = Labels::from([
            ("node", "n1"),
            ("comm", "worker"),
            ("executable", "app"),
            ("cgroup", "/kubepods/x"),
            ("pod_uid", "p"),
            ("container_id", "c"),
            ("team", "blue"),
        ]);
        let expected = Labels::from([
            ("service.name", "app"),
            ("process.executable.name", "app"),
            ("host.name", "n1"),
            ("k8s.node.name", "n1"),
            ("k8s.pod.uid", "p"),
            ("container.id", "c"),
            ("team", "blue"),
        ]);
        assert_eq!(resource_of(&series), expected);
    }

    #[test]
    fn a_service_always_has_a_name() {
        let service = |labels: Labels| resource_of(&labels).0["service.name"].clone();
        assert_eq!(service(Labels::default()), "unknown_service");
        assert_eq!(service(Labels::from([("comm", "kworker/0:1")])), "kworker/0:1");
        let own = Labels::from([("executable", "app"), ("service.name", "shop")]);
        assert_eq!(service(own), "shop");
    }
}
