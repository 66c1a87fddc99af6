//! The messages of the server, defined independently of the sink: a wrong field number in the sink
//! must fail the tests.
//!
//! Source: `push.v1/push.proto`, `types.v1/types.proto`, `debuginfo.v1alpha1/debuginfo.proto` of
//! Pyroscope 2.2.

use std::io::Read;

use flate2::read::GzDecoder;

#[derive(Clone, PartialEq, prost::Message)]
pub struct Push {
    #[prost(message, repeated, tag = "1")]
    pub series: Vec<Series>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Series {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Pair>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Pair {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Sample {
    #[prost(bytes = "vec", tag = "1")]
    pub raw_profile: Vec<u8>,
    #[prost(string, tag = "2")]
    pub id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ShouldInitiateUpload {
    #[prost(message, optional, tag = "1")]
    pub file: Option<File>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct File {
    #[prost(string, tag = "1")]
    pub gnu_build_id: String,
    #[prost(string, tag = "2")]
    pub go_build_id: String,
    #[prost(string, tag = "3")]
    pub otel_file_id: String,
    #[prost(string, tag = "4")]
    pub name: String,
    #[prost(int32, tag = "5")]
    pub kind: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Decision {
    #[prost(bool, tag = "1")]
    pub should_initiate_upload: bool,
    #[prost(string, tag = "2")]
    pub reason: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct UploadFinished {
    #[prost(string, tag = "1")]
    pub gnu_build_id: String,
}

/// Decompresses up to `max` bytes; `None` if the data is damaged or larger.
pub fn gunzip(bytes: &[u8], max: usize) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    GzDecoder::new(bytes).take(max as u64 + 1).read_to_end(&mut plain).ok()?;
    (plain.len() <= max).then_some(plain)
}
