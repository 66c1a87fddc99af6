//! A batch as OTLP: a resource for each container and executable, one profile in each, and one
//! dictionary.
//!
//! | label of a series | becomes |
//! |---|---|
//! | node | resource: `host.name`; in a pod also `k8s.node.name` |
//! | container_id | resource: `container.id` |
//! | pod_uid | resource: `k8s.pod.uid` |
//! | executable | resource: `process.executable.name`; `service.name` unless a static label is |
//! | merged, static labels | resource: under their own names |
//! | comm | sample: `process.title` |
//! | cgroup | sample: `process.linux.cgroup` |
//! | cut, guessed (no series) | sample: `everytick.stack.cut`, `everytick.stack.guessed` |
//!
//! `service.name` is always set: without an executable to the process's name, else to
//! `unknown_service`.
//!
//! Sources: OTLP 1.11, comments of `profiles.proto`; semantic conventions 1.44.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use indexmap::IndexSet;
use profile::labels::{CGROUP, COMM, CONTAINER_ID, CUT, EXECUTABLE, GUESSED, NODE, POD_UID};
use profile::pprof::proto as pb;
use profile::{InterpretedLanguage, Labels};
use sha2::{Digest, Sha256};

use super::proto::any_value::Value;
use super::proto::{
    AnyValue, ExportProfilesServiceRequest, Function, InstrumentationScope, KeyValue,
    KeyValueAndUnit, Line, Link, Location, Mapping, Profile, ProfilesDictionary, Resource,
    ResourceProfiles, Sample, ScopeProfiles, Stack, ValueType,
};
use crate::batch::{Batch, text_at};
use crate::sinks::send_plan::Piece;

/// The service of samples without known process. Source: semantic conventions, `service.name`.
const UNKNOWN_SERVICE: &str = "unknown_service";

/// Returns the request with these pieces. `counts`: index of `samples/count`.
pub(super) fn request(
    batch: &Batch,
    pieces: &[Piece],
    counts: usize,
) -> ExportProfilesServiceRequest {
    let mut by_resource: BTreeMap<Labels, Vec<&Piece>> = BTreeMap::new();
    for piece in pieces {
        by_resource.entry(resource_of(&piece.labels)).or_default().push(piece);
    }
    let mut dictionary = DictionaryBuilder::new(&batch.profile, counts);
    let resource_profiles = by_resource
        .into_iter()
        .map(|(attributes, pieces)| ResourceProfiles {
            scope_profiles: vec![ScopeProfiles {
                scope: Some(scope()),
                profiles: vec![dictionary.profile(batch, &attributes, &pieces)],
            }],
            resource: Some(Resource { attributes: attributes.iter().map(key_value).collect() }),
        })
        .collect();
    ExportProfilesServiceRequest { resource_profiles, dictionary: Some(dictionary.build()) }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope { name: "everytick".into(), version: env!("CARGO_PKG_VERSION").into() }
}

fn key_value((key, value): (&str, &str)) -> KeyValue {
    KeyValue { key: key.to_owned(), value: any_value(value) }
}

/// Returns a text. Numbers and indices of texts exist too, but Parca drops both.
fn any_value(text: &str) -> Option<AnyValue> {
    Some(AnyValue { value: Some(Value::StringValue(text.to_owned())) })
}

/// Returns the attributes of the resource that a series belongs to.
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
    // Last, so that labels of the user take precedence.
    series.iter().filter(|(name, _)| is_own(name)).for_each(|(name, value)| set(name, Some(value)));
    resource
}

/// Returns the name of the attribute that a label of samples becomes.
fn sample_attribute(label: &str) -> Option<&'static str> {
    Some(match label {
        COMM => "process.title",
        CGROUP => "process.linux.cgroup",
        CUT => "everytick.stack.cut",
        GUESSED => "everytick.stack.guessed",
        _ => return None,
    })
}

/// Rows of one table without duplicates, the empty row first.
struct Table<T>(IndexSet<T>);

impl<T: Default + Eq + Hash> Table<T> {
    fn new() -> Self {
        Self(IndexSet::from([T::default()]))
    }

    /// Returns the index of a row, which is added if missing.
    fn index(&mut self, row: T) -> i32 {
        i32::try_from(self.0.insert_full(row).0).unwrap_or(0)
    }

    fn into_rows(self) -> Vec<T> {
        self.0.into_iter().collect()
    }
}

/// Builds the dictionary, whose tables the profiles refer to by index.
struct DictionaryBuilder<'a> {
    source: &'a pb::Profile,
    counts: usize,
    locations_by_id: HashMap<u64, &'a pb::Location>,
    mappings_by_id: HashMap<u64, &'a pb::Mapping>,
    functions_by_id: HashMap<u64, &'a pb::Function>,
    /// Indices in the dictionary by ID of the source's locations.
    location_indices: HashMap<u64, i32>,
    texts: Table<String>,
    mappings: Table<Mapping>,
    locations: Table<Location>,
    functions: Table<Function>,
    attributes: Table<KeyValueAndUnit>,
    stacks: Table<Stack>,
}

impl<'a> DictionaryBuilder<'a> {
    fn new(source: &'a pb::Profile, counts: usize) -> Self {
        Self {
            source,
            counts,
            locations_by_id: source.location.iter().map(|l| (l.id, l)).collect(),
            mappings_by_id: source.mapping.iter().map(|m| (m.id, m)).collect(),
            functions_by_id: source.function.iter().map(|f| (f.id, f)).collect(),
            location_indices: HashMap::new(),
            texts: Table::new(),
            mappings: Table::new(),
            locations: Table::new(),
            functions: Table::new(),
            attributes: Table::new(),
            stacks: Table::new(),
        }
    }

    fn build(self) -> ProfilesDictionary {
        ProfilesDictionary {
            mapping_table: self.mappings.into_rows(),
            location_table: self.locations.into_rows(),
            function_table: self.functions.into_rows(),
            // Parca accepts the empty link alone, not 16 and 8 bytes of 0.
            link_table: vec![Link {}],
            string_table: self.texts.into_rows(),
            attribute_table: self.attributes.into_rows(),
            stack_table: self.stacks.into_rows(),
        }
    }

    /// Returns the profile of a resource: equal stacks with equal attributes are one sample.
    fn profile(&mut self, batch: &Batch, resource: &Labels, pieces: &[&Piece]) -> Profile {
        let mut values: BTreeMap<(i32, Vec<i32>), i64> = BTreeMap::new();
        for index in pieces.iter().flat_map(|piece| piece.samples()) {
            let Some(sample) = self.source.sample.get(*index) else { continue };
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
            Some(index) => i32::try_from(index).unwrap_or(0),
            None => self.texts.index(text.to_owned()),
        }
    }

    /// Returns the index of a text of the source's string table.
    fn source_text(&mut self, index: i64) -> i32 {
        let source = self.source;
        self.text(text_at(source, index))
    }

    fn attribute(&mut self, name: &str, value: &str) -> i32 {
        let key_strindex = self.text(name);
        self.attributes.index(KeyValueAndUnit { key_strindex, value: any_value(value) })
    }

    fn sample_attributes(&mut self, sample: &pb::Sample) -> Vec<i32> {
        let source = self.source;
        let mut indices = Vec::new();
        for label in sample.label.iter().filter(|label| label.str != 0) {
            if let Some(name) = sample_attribute(text_at(source, label.key)) {
                indices.push(self.attribute(name, text_at(source, label.str)));
            }
        }
        indices.sort_unstable();
        indices.dedup();
        indices
    }

    fn stack(&mut self, sample: &pb::Sample) -> i32 {
        let location_indices = sample.location_id.iter().map(|id| self.location(*id)).collect();
        self.stacks.index(Stack { location_indices })
    }

    fn location(&mut self, id: u64) -> i32 {
        if let Some(index) = self.location_indices.get(&id) {
            return *index;
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
        let index = self.locations.index(row);
        self.location_indices.insert(id, index);
        index
    }

    fn mapping(&mut self, mapping: &pb::Mapping) -> i32 {
        let build_id = text_at(self.source, mapping.build_id);
        let attribute_indices = match build_id {
            "" => Vec::new(),
            id => vec![self.attribute("process.executable.build_id.gnu", id)],
        };
        let filename_strindex = self.source_text(mapping.filename);
        self.mappings.index(Mapping { filename_strindex, attribute_indices })
    }

    fn line(&mut self, line: &pb::Line) -> Line {
        let function = self.functions_by_id.get(&line.function_id).copied();
        Line { function_index: function.map_or(0, |f| self.function(f)), line: line.line }
    }

    fn function(&mut self, function: &pb::Function) -> i32 {
        let row = Function {
            name_strindex: self.source_text(function.name),
            system_name_strindex: self.source_text(function.system_name),
            filename_strindex: self.source_text(function.filename),
            start_line: function.start_line,
        };
        self.functions.index(row)
    }
}

/// Returns the type of a frame; `None` for JIT-compiled code, whose type is unknown.
fn frame_type(profile: &pb::Profile, mapping: &pb::Mapping) -> Option<&'static str> {
    let name = text_at(profile, mapping.filename);
    if let Some(language) = InterpretedLanguage::of_mapping(name) {
        return Some(language.frame_type());
    }
    match name {
        name if name.starts_with("[kernel") => Some("kernel"),
        "[vdso]" => Some("native"),
        name if name.starts_with('[') || name.is_empty() => None,
        _ => Some("native"),
    }
}

/// Returns 16 bytes that identify a profile and are the same whenever it is sent.
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
    for index in pieces.iter().flat_map(|piece| piece.samples()) {
        hash.update((*index as u64).to_le_bytes());
    }
    // All zeros would mean no ID; no known hash begins so.
    hash.finalize()[..16].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_become_resource_attributes() {
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
    fn frames_have_the_type_of_their_mapping() {
        let type_of = |name: &str| {
            let string_table = vec![String::new(), name.to_owned()];
            let profile = pb::Profile { string_table, ..pb::Profile::default() };
            frame_type(&profile, &pb::Mapping { filename: 1, ..pb::Mapping::default() })
        };
        assert_eq!(type_of("[python]"), Some("cpython"));
        assert_eq!(type_of("/usr/bin/python3 [interpreter]"), Some("native"));
        assert_eq!(type_of("[kernel.kallsyms]"), Some("kernel"));
        assert_eq!(type_of("[jit]"), None);
    }

    #[test]
    fn service_name_is_always_set() {
        let service = |labels: Labels| resource_of(&labels).0["service.name"].clone();
        assert_eq!(service(Labels::default()), "unknown_service");
        assert_eq!(service(Labels::from([("comm", "kworker/0:1")])), "kworker/0:1");
        let own = Labels::from([("executable", "app"), ("service.name", "shop")]);
        assert_eq!(service(own), "shop");
    }
}
