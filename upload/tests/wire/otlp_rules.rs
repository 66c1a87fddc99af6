//! A strict reader of OTLP profiles, with the messages of crate `opentelemetry-proto`. Anything
//! that the protocol forbids or that breaks receivers fails the test.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;

use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::profiles::v1development::{Profile, ProfilesDictionary};
use prost::Message;

/// Path of the gRPC method.
pub const EXPORT: &str =
    "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export";
/// Path of HTTP requests.
pub const PATH: &str = "/v1development/profiles";

/// A profile with the attributes of its resource.
#[derive(Clone, Debug)]
pub struct ReceivedProfile {
    pub resource: BTreeMap<String, String>,
    pub samples: Vec<Stack>,
    pub id: Vec<u8>,
}

/// A sample with its dictionary references resolved.
#[derive(Clone, Debug)]
pub struct Stack {
    pub attributes: BTreeMap<String, String>,
    pub frames: Vec<Frame>,
    pub value: i64,
}

/// A frame with its dictionary references resolved.
#[derive(Clone, Debug)]
pub struct Frame {
    pub file: String,
    pub build_id: Option<String>,
    pub kind: Option<String>,
    pub address: u64,
    /// Innermost function first.
    pub functions: Vec<String>,
}

impl ReceivedProfile {
    /// Sums the samples by the name of the innermost function.
    pub fn by_leaf(&self) -> BTreeMap<String, i64> {
        let mut sums = BTreeMap::new();
        for stack in &self.samples {
            *sums.entry(stack.frames[0].functions[0].clone()).or_default() += stack.value;
        }
        sums
    }

    pub fn samples(&self) -> i64 {
        self.samples.iter().map(|stack| stack.value).sum()
    }
}

/// Decodes a request and checks it, including that it has no unknown fields.
pub fn read(body: &[u8]) -> Vec<ReceivedProfile> {
    let request = ExportProfilesServiceRequest::decode(body).expect("a request");
    assert_eq!(request.encode_to_vec(), body, "unknown fields, or fields out of order");
    let dictionary = request.dictionary.expect("a dictionary");
    check(&dictionary);
    let mut resources = HashSet::new();
    let mut received = Vec::new();
    assert!(!request.resource_profiles.is_empty());
    for resource_profiles in &request.resource_profiles {
        let resource = resource_profiles.resource.as_ref().expect("a resource, else Parca crashes");
        let attributes = attributes(&resource.attributes);
        assert!(attributes.contains_key("service.name"));
        assert!(resources.insert(attributes.clone()), "duplicate resource: {attributes:?}");
        let [scope_profiles] = resource_profiles.scope_profiles.as_slice() else {
            panic!("one scope")
        };
        let scope = scope_profiles.scope.as_ref().expect("a scope, else Parca crashes");
        assert_eq!(scope.name, "everytick");
        let [profile] = scope_profiles.profiles.as_slice() else {
            panic!("one profile for a resource")
        };
        received.push(read_profile(profile, &dictionary, attributes));
    }
    let ids: HashSet<_> = received.iter().map(|received| &received.id).collect();
    assert_eq!(ids.len(), received.len(), "duplicate profile ID");
    received
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for pair in pairs {
        assert!(!pair.key.is_empty() && pair.key_strindex == 0);
        let before = out.insert(pair.key.clone(), text(pair.value.as_ref()).to_owned());
        assert!(before.is_none(), "duplicate attribute {}", pair.key);
    }
    out
}

fn text(value: Option<&AnyValue>) -> &str {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) if !text.trim().is_empty() => text,
        other => panic!("Parca accepts only strings, not {other:?}"),
    }
}

/// Checks that entry 0 of each table is empty and that no table has duplicates.
fn check(dictionary: &ProfilesDictionary) {
    fn table<T: Default + PartialEq + Debug>(rows: &[T]) {
        assert_eq!(rows.first(), Some(&T::default()), "the first entry must be empty");
        let texts: HashSet<String> = rows.iter().map(|row| format!("{row:?}")).collect();
        assert_eq!(texts.len(), rows.len(), "duplicate table entry");
    }
    table(&dictionary.mapping_table);
    table(&dictionary.location_table);
    table(&dictionary.function_table);
    table(&dictionary.link_table);
    table(&dictionary.string_table);
    table(&dictionary.attribute_table);
    table(&dictionary.stack_table);
    assert_eq!(dictionary.link_table.len(), 1);
    assert!(dictionary.link_table[0].trace_id.is_empty(), "Parca accepts only an empty link");
}

fn read_profile(
    profile: &Profile,
    dictionary: &ProfilesDictionary,
    resource: BTreeMap<String, String>,
) -> ReceivedProfile {
    let text = |index: i32| dictionary.string_table[index as usize].as_str();
    let sample_type = profile.sample_type.as_ref().expect("a sample type");
    assert_eq!(
        (text(sample_type.type_strindex), text(sample_type.unit_strindex)),
        ("samples", "count")
    );
    let period_type = profile.period_type.as_ref().expect("a period type");
    assert_eq!(
        (text(period_type.type_strindex), text(period_type.unit_strindex)),
        ("cpu", "nanoseconds")
    );
    assert!(profile.period > 0 && profile.time_unix_nano > 0 && profile.duration_nano > 0);
    assert_eq!(profile.profile_id.len(), 16);
    assert!(profile.profile_id.iter().any(|byte| *byte != 0));
    assert!(!profile.samples.is_empty(), "Parca rejects a request with an empty profile");
    let mut identities = HashSet::new();
    let mut samples = Vec::new();
    for sample in &profile.samples {
        assert!(sample.timestamps_unix_nano.is_empty());
        let [value] = sample.values.as_slice() else {
            panic!("one value, else Pyroscope rejects it")
        };
        assert!(*value > 0);
        let identity = (sample.stack_index, sample.attribute_indices.clone(), sample.link_index);
        assert!(identities.insert(identity), "duplicate sample");
        let stack = &dictionary.stack_table[sample.stack_index as usize];
        samples.push(Stack {
            attributes: table_attributes(&sample.attribute_indices, dictionary),
            frames: stack.location_indices.iter().map(|index| frame(*index, dictionary)).collect(),
            value: *value,
        });
    }
    ReceivedProfile { resource, samples, id: profile.profile_id.clone() }
}

fn table_attributes(indexes: &[i32], dictionary: &ProfilesDictionary) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for index in indexes {
        assert_ne!(*index, 0, "the empty attribute");
        let row = &dictionary.attribute_table[*index as usize];
        let key = dictionary.string_table[row.key_strindex as usize].clone();
        let before = out.insert(key.clone(), text(row.value.as_ref()).to_owned());
        assert!(before.is_none() && !key.is_empty(), "duplicate attribute {key:?}");
    }
    out
}

fn frame(index: i32, dictionary: &ProfilesDictionary) -> Frame {
    let text = |index: i32| dictionary.string_table[index as usize].clone();
    let location = &dictionary.location_table[index as usize];
    let mapping = &dictionary.mapping_table[location.mapping_index as usize];
    assert_eq!((mapping.memory_start, mapping.memory_limit, mapping.file_offset), (0, 0, 0));
    let mut mapping_attributes = table_attributes(&mapping.attribute_indices, dictionary);
    let mut location_attributes = table_attributes(&location.attribute_indices, dictionary);
    let functions = location.lines.iter().map(|line| {
        assert_ne!(line.function_index, 0, "the empty function");
        text(dictionary.function_table[line.function_index as usize].name_strindex)
    });
    Frame {
        file: text(mapping.filename_strindex),
        build_id: mapping_attributes.remove("process.executable.build_id.gnu"),
        kind: location_attributes.remove("profile.frame.type"),
        address: location.address,
        functions: functions.collect(),
    }
}
