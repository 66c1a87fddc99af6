//! The messages of Parca's profile store and debug info services, with their field numbers.
//!
//! Source: `parca/profilestore/v1alpha1` and `parca/debuginfo/v1alpha1` of Parca 0.28.

/// A request to take profiles of some series.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WriteRawRequest {
    /// The series.
    #[prost(message, repeated, tag = "2")]
    pub series: Vec<RawProfileSeries>,
    /// Addresses are those of the ELF file.
    #[prost(bool, tag = "3")]
    pub normalized: bool,
}

/// Profiles of one label set.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct RawProfileSeries {
    /// Its labels.
    #[prost(message, optional, tag = "1")]
    pub labels: Option<LabelSet>,
    /// Its profiles.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<RawSample>,
}

/// Labels of a series.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct LabelSet {
    /// Sorted by name.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
}

/// One label.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Label {
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
}

/// Nothing.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct WriteRawResponse {}

/// What an upload holds: symbols and lines.
pub(super) const DEBUGINFO: i32 = 0;
/// A build id that the linker wrote.
pub(super) const BUILD_ID_GNU: i32 = 1;

/// Asks whether debug info is wanted.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct ShouldInitiateUploadRequest {
    /// The build id in hexadecimal.
    #[prost(string, tag = "1")]
    pub build_id: String,
    /// What tells contents apart.
    #[prost(string, tag = "2")]
    pub hash: String,
    /// Replace what is there.
    #[prost(bool, tag = "3")]
    pub force: bool,
    /// [`DEBUGINFO`].
    #[prost(int32, tag = "4")]
    pub r#type: i32,
    /// [`BUILD_ID_GNU`].
    #[prost(int32, tag = "5")]
    pub build_id_type: i32,
}

/// Whether it is.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct ShouldInitiateUploadResponse {
    /// It is.
    #[prost(bool, tag = "1")]
    pub should_initiate_upload: bool,
    /// Why, or why not.
    #[prost(string, tag = "2")]
    pub reason: String,
}

/// Announces an upload.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct InitiateUploadRequest {
    /// The build id in hexadecimal.
    #[prost(string, tag = "1")]
    pub build_id: String,
    /// Bytes; not 0.
    #[prost(int64, tag = "2")]
    pub size: i64,
    /// What tells contents apart; not empty.
    #[prost(string, tag = "3")]
    pub hash: String,
    /// Replace what is there.
    #[prost(bool, tag = "4")]
    pub force: bool,
    /// [`DEBUGINFO`].
    #[prost(int32, tag = "5")]
    pub r#type: i32,
    /// [`BUILD_ID_GNU`].
    #[prost(int32, tag = "6")]
    pub build_id_type: i32,
}

/// How to upload.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct InitiateUploadResponse {
    /// That.
    #[prost(message, optional, tag = "1")]
    pub upload_instructions: Option<UploadInstructions>,
}

/// Upload by [`UploadRequest`] messages.
pub(super) const STRATEGY_GRPC: i32 = 1;
/// Upload by HTTP PUT to an address that bears its permission.
pub(super) const STRATEGY_SIGNED_URL: i32 = 2;

/// How to upload.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct UploadInstructions {
    /// The build id in hexadecimal.
    #[prost(string, tag = "1")]
    pub build_id: String,
    /// The server's name for this upload.
    #[prost(string, tag = "2")]
    pub upload_id: String,
    /// [`STRATEGY_GRPC`] or [`STRATEGY_SIGNED_URL`].
    #[prost(int32, tag = "3")]
    pub upload_strategy: i32,
    /// The address; a secret.
    #[prost(string, tag = "4")]
    pub signed_url: String,
    /// [`DEBUGINFO`].
    #[prost(int32, tag = "5")]
    pub r#type: i32,
}

/// One message of an upload: what it is first, then its bytes.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct UploadRequest {
    /// Either.
    #[prost(oneof = "UploadData", tags = "1, 2")]
    pub data: Option<UploadData>,
}

/// What it is, or some of its bytes.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub(super) enum UploadData {
    /// What it is.
    #[prost(message, tag = "1")]
    Info(UploadInfo),
    /// Some of its bytes.
    #[prost(bytes = "bytes", tag = "2")]
    ChunkData(bytes::Bytes),
}

/// What an upload is; also says that one is finished.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct UploadInfo {
    /// The build id in hexadecimal.
    #[prost(string, tag = "1")]
    pub build_id: String,
    /// The server's name for this upload.
    #[prost(string, tag = "2")]
    pub upload_id: String,
    /// [`DEBUGINFO`].
    #[prost(int32, tag = "3")]
    pub r#type: i32,
}

/// What has arrived.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct UploadResponse {
    /// The build id in hexadecimal.
    #[prost(string, tag = "1")]
    pub build_id: String,
    /// Bytes.
    #[prost(uint64, tag = "2")]
    pub size: u64,
}

/// Says that an upload is finished: the fields are those of [`UploadInfo`].
pub(super) type MarkUploadFinishedRequest = UploadInfo;

/// Nothing.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct MarkUploadFinishedResponse {}
