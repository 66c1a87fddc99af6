//! The wire messages of pprof. Names are those of `profile.proto`.

/// A profile. Strings are stored once, in `string_table`; other fields are indices into it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Profile {
    /// Types of the values of each sample.
    #[prost(message, repeated, tag = "1")]
    pub sample_type: Vec<ValueType>,
    /// The samples.
    #[prost(message, repeated, tag = "2")]
    pub sample: Vec<Sample>,
    /// Executables.
    #[prost(message, repeated, tag = "3")]
    pub mapping: Vec<Mapping>,
    /// Distinct frames.
    #[prost(message, repeated, tag = "4")]
    pub location: Vec<Location>,
    /// Distinct functions.
    #[prost(message, repeated, tag = "5")]
    pub function: Vec<Function>,
    /// All strings; the first is empty.
    #[prost(string, repeated, tag = "6")]
    pub string_table: Vec<String>,
    /// Start, nanoseconds since 1970.
    #[prost(int64, tag = "9")]
    pub time_nanos: i64,
    /// Nanoseconds that the profile covers.
    #[prost(int64, tag = "10")]
    pub duration_nanos: i64,
    /// Type of `period`.
    #[prost(message, optional, tag = "11")]
    pub period_type: Option<ValueType>,
    /// Distance between two samples.
    #[prost(int64, tag = "12")]
    pub period: i64,
    /// Free text, one line each.
    #[prost(int64, repeated, tag = "13")]
    pub comment: Vec<i64>,
    /// The sample type that readers show by default.
    #[prost(int64, tag = "14")]
    pub default_sample_type: i64,
}

/// A quantity and its unit.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct ValueType {
    /// The quantity.
    #[prost(int64, tag = "1")]
    pub r#type: i64,
    /// The unit.
    #[prost(int64, tag = "2")]
    pub unit: i64,
}

/// Samples with equal stack and labels.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sample {
    /// Ids of locations, innermost first.
    #[prost(uint64, repeated, tag = "1")]
    pub location_id: Vec<u64>,
    /// A value for each sample type.
    #[prost(int64, repeated, tag = "2")]
    pub value: Vec<i64>,
    /// Labels.
    #[prost(message, repeated, tag = "3")]
    pub label: Vec<Label>,
}

/// A key with a string or a number.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Label {
    /// The key.
    #[prost(int64, tag = "1")]
    pub key: i64,
    /// The string, or 0.
    #[prost(int64, tag = "2")]
    pub str: i64,
    /// The number, if there is no string.
    #[prost(int64, tag = "3")]
    pub num: i64,
    /// The unit of the number, or 0.
    #[prost(int64, tag = "4")]
    pub num_unit: i64,
}

/// An executable.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Mapping {
    /// From 1, in the order of the table.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// First address.
    #[prost(uint64, tag = "2")]
    pub memory_start: u64,
    /// Address after the last.
    #[prost(uint64, tag = "3")]
    pub memory_limit: u64,
    /// Offset in the file of the first address.
    #[prost(uint64, tag = "4")]
    pub file_offset: u64,
    /// The file.
    #[prost(int64, tag = "5")]
    pub filename: i64,
    /// The build ID in hexadecimal.
    #[prost(int64, tag = "6")]
    pub build_id: i64,
    /// Whether all locations have a function.
    #[prost(bool, tag = "7")]
    pub has_functions: bool,
    /// Whether all locations have a source file.
    #[prost(bool, tag = "8")]
    pub has_filenames: bool,
    /// Whether all locations have a source line.
    #[prost(bool, tag = "9")]
    pub has_line_numbers: bool,
    /// Whether inlined functions were looked up.
    #[prost(bool, tag = "10")]
    pub has_inline_frames: bool,
}

/// A frame.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Location {
    /// From 1, in the order of the table.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The mapping, or 0.
    #[prost(uint64, tag = "2")]
    pub mapping_id: u64,
    /// The address.
    #[prost(uint64, tag = "3")]
    pub address: u64,
    /// Functions at the address, the innermost inlined one first.
    #[prost(message, repeated, tag = "4")]
    pub line: Vec<Line>,
}

/// A line of a function.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Line {
    /// The function.
    #[prost(uint64, tag = "1")]
    pub function_id: u64,
    /// The source line.
    #[prost(int64, tag = "2")]
    pub line: i64,
}

/// A function.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Function {
    /// From 1, in the order of the table.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Demangled name.
    #[prost(int64, tag = "2")]
    pub name: i64,
    /// Name in the symbol table.
    #[prost(int64, tag = "3")]
    pub system_name: i64,
    /// Source file.
    #[prost(int64, tag = "4")]
    pub filename: i64,
    /// Line of the source file on which it starts.
    #[prost(int64, tag = "5")]
    pub start_line: i64,
}
