//! Messages between the agent and the file helper; an open file travels beside the response.

use prost::Message;

use crate::processes::elf::Segment;

/// Asks for the file of a mapping.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct OpenRequest {
    /// A thread of the process that maps it.
    #[prost(uint32, tag = "1")]
    pub tid: u32,
    /// First address of the mapping.
    #[prost(uint64, tag = "2")]
    pub start: u64,
    /// Address after the last.
    #[prost(uint64, tag = "3")]
    pub end: u64,
    /// Major number of the file's device.
    #[prost(uint32, tag = "4")]
    pub major: u32,
    /// Minor number of the file's device.
    #[prost(uint32, tag = "5")]
    pub minor: u32,
    /// Its inode on the device.
    #[prost(uint64, tag = "6")]
    pub inode: u64,
    /// Its path in the root of the process.
    #[prost(string, tag = "7")]
    pub path: String,
}

/// Describes the open file, or why there is none.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct OpenResponse {
    /// Error number (errno(3)); 0 when the file is open.
    #[prost(int32, tag = "1")]
    pub errno: i32,
    /// Build ID of the file; empty when it has none.
    #[prost(bytes = "vec", tag = "2")]
    pub build_id: Vec<u8>,
    /// Its load segments.
    #[prost(message, repeated, tag = "3")]
    pub segments: Vec<Segment>,
    /// Hash of its content; empty when the build ID identifies it or it is too large.
    #[prost(bytes = "vec", tag = "4")]
    pub hash: Vec<u8>,
}
