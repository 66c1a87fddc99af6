//! The messages of OTLP profiles with their field numbers, as far as they are sent.
//!
//! Source: opentelemetry-proto 1.11, `profiles/v1development`, `common/v1`, `resource/v1`.

/// A request to take profiles.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct ExportRequest {
    /// The profiles by resource.
    #[prost(message, repeated, tag = "1")]
    pub resource_profiles: Vec<ResourceProfiles>,
    /// What they refer to.
    #[prost(message, optional, tag = "2")]
    pub dictionary: Option<Dictionary>,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct ExportResponse {
    /// What was not taken.
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<PartialSuccess>,
}

/// What was not taken.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct PartialSuccess {
    /// How many profiles.
    #[prost(int64, tag = "1")]
    pub rejected_profiles: i64,
    /// Why; without rejected profiles a warning.
    #[prost(string, tag = "2")]
    pub error_message: String,
}

/// What profiles refer to, each table with an empty entry first.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Dictionary {
    /// Executables.
    #[prost(message, repeated, tag = "1")]
    pub mapping_table: Vec<Mapping>,
    /// Frames.
    #[prost(message, repeated, tag = "2")]
    pub location_table: Vec<Location>,
    /// Functions.
    #[prost(message, repeated, tag = "3")]
    pub function_table: Vec<Function>,
    /// Spans; the empty one alone.
    #[prost(message, repeated, tag = "4")]
    pub link_table: Vec<Link>,
    /// Text.
    #[prost(string, repeated, tag = "5")]
    pub string_table: Vec<String>,
    /// Attributes of mappings, frames and samples.
    #[prost(message, repeated, tag = "6")]
    pub attribute_table: Vec<KeyValueAndUnit>,
    /// Stacks.
    #[prost(message, repeated, tag = "7")]
    pub stack_table: Vec<Stack>,
}

/// Profiles of one resource.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct ResourceProfiles {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// Its profiles.
    #[prost(message, repeated, tag = "2")]
    pub scope_profiles: Vec<ScopeProfiles>,
}

/// A resource.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Resource {
    /// What tells it from others.
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

/// Profiles of one program that makes profiles.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct ScopeProfiles {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<Scope>,
    /// Its profiles.
    #[prost(message, repeated, tag = "2")]
    pub profiles: Vec<Profile>,
}

/// A program that makes profiles.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Scope {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its version.
    #[prost(string, tag = "2")]
    pub version: String,
}

/// A profile.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Profile {
    /// What is counted.
    #[prost(message, optional, tag = "1")]
    pub sample_type: Option<ValueType>,
    /// The samples.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    /// Nanoseconds since 1970 when it began.
    #[prost(fixed64, tag = "3")]
    pub time_unix_nano: u64,
    /// Nanoseconds it covers.
    #[prost(uint64, tag = "4")]
    pub duration_nano: u64,
    /// What `period` counts.
    #[prost(message, optional, tag = "5")]
    pub period_type: Option<ValueType>,
    /// Distance between samples.
    #[prost(int64, tag = "6")]
    pub period: i64,
    /// 16 bytes, not all 0.
    #[prost(bytes = "vec", tag = "7")]
    pub profile_id: Vec<u8>,
}

/// A quantity and its unit.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct ValueType {
    /// The quantity.
    #[prost(int32, tag = "1")]
    pub type_strindex: i32,
    /// Its unit.
    #[prost(int32, tag = "2")]
    pub unit_strindex: i32,
}

/// Samples that are alike.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Sample {
    /// Their stack.
    #[prost(int32, tag = "1")]
    pub stack_index: i32,
    /// Their attributes.
    #[prost(int32, repeated, tag = "2")]
    pub attribute_indices: Vec<i32>,
    /// How many.
    #[prost(int64, repeated, tag = "4")]
    pub values: Vec<i64>,
}

/// An executable.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub(super) struct Mapping {
    /// The file.
    #[prost(int32, tag = "4")]
    pub filename_strindex: i32,
    /// Its build id.
    #[prost(int32, repeated, tag = "5")]
    pub attribute_indices: Vec<i32>,
}

/// A stack.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub(super) struct Stack {
    /// Frames, innermost first.
    #[prost(int32, repeated, tag = "1")]
    pub location_indices: Vec<i32>,
}

/// A frame.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub(super) struct Location {
    /// Where it lies.
    #[prost(int32, tag = "1")]
    pub mapping_index: i32,
    /// Its address.
    #[prost(uint64, tag = "2")]
    pub address: u64,
    /// Functions there, the innermost inlined one first.
    #[prost(message, repeated, tag = "3")]
    pub lines: Vec<Line>,
    /// Its type.
    #[prost(int32, repeated, tag = "4")]
    pub attribute_indices: Vec<i32>,
}

/// A place in a function.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub(super) struct Line {
    /// The function.
    #[prost(int32, tag = "1")]
    pub function_index: i32,
    /// The source line.
    #[prost(int64, tag = "2")]
    pub line: i64,
}

/// A function.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub(super) struct Function {
    /// Name for people.
    #[prost(int32, tag = "1")]
    pub name_strindex: i32,
    /// Name for the linker.
    #[prost(int32, tag = "2")]
    pub system_name_strindex: i32,
    /// Source file.
    #[prost(int32, tag = "3")]
    pub filename_strindex: i32,
}

/// A span: none of ours. Parca takes the empty one alone, not 16 and 8 bytes of 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub(super) struct Link {}

/// An attribute in the dictionary.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub(super) struct KeyValueAndUnit {
    /// Its name.
    #[prost(int32, tag = "1")]
    pub key_strindex: i32,
    /// Its value.
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// An attribute of a resource.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub(super) struct KeyValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// A text. Numbers and places in the table of texts exist too, but Parca drops both.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub(super) struct AnyValue {
    /// The text.
    #[prost(string, optional, tag = "1")]
    pub string_value: Option<String>,
}

impl AnyValue {
    /// Some text.
    pub fn text(text: &str) -> Option<Self> {
        Some(Self { string_value: Some(text.to_owned()) })
    }
}
