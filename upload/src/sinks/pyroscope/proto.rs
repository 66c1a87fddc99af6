//! The messages of Pyroscope's push and debug info services, with their field numbers.
//!
//! Source: `push.v1`, `types.v1` and `debuginfo.v1alpha1` of Pyroscope 2.2.

/// A request to take profiles of some series.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PushRequest {
    /// The series.
    #[prost(message, repeated, tag = "1")]
    pub series: Vec<RawProfileSeries>,
}

/// Profiles of one label set.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RawProfileSeries {
    /// Its labels, sorted by name.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<LabelPair>,
    /// Its profiles.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<RawSample>,
}

/// One label.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct LabelPair {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// One profile.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct RawSample {
    /// pprof, compressed or not.
    #[prost(bytes = "vec", tag = "1")]
    pub raw_profile: Vec<u8>,
    /// A UUID.
    #[prost(string, tag = "2")]
    pub id: String,
}

/// Asks whether a file's debug info is wanted.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct ShouldInitiateUploadRequest {
    /// The file.
    #[prost(message, optional, tag = "1")]
    pub file: Option<FileMetadata>,
}

/// A file that could be uploaded.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct FileMetadata {
    /// Its GNU build id in hexadecimal.
    #[prost(string, tag = "1")]
    pub gnu_build_id: String,
    /// Its name.
    #[prost(string, tag = "4")]
    pub name: String,
    /// What of it would be sent: [`EXECUTABLE_NO_TEXT`].
    #[prost(int32, tag = "5")]
    pub r#type: i32,
}

/// The file without its code.
pub(super) const EXECUTABLE_NO_TEXT: i32 = 2;

/// Whether it is wanted.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct ShouldInitiateUploadResponse {
    /// It is.
    #[prost(bool, tag = "1")]
    pub should_initiate_upload: bool,
    /// Why, or why not.
    #[prost(string, tag = "2")]
    pub reason: String,
}

/// Says that a file is there.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct UploadFinishedRequest {
    /// Its GNU build id in hexadecimal.
    #[prost(string, tag = "1")]
    pub gnu_build_id: String,
}
