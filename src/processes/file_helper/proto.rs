//! Messages between the agent and the file helper; an open file travels beside the response.

use prost::{Message, Oneof};

use crate::processes::elf::Segment;
use crate::procfs::MapsEntry;

/// Asks for one thing.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Request {
    #[prost(oneof = "Question", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub question: Option<Question>,
}

#[derive(Clone, PartialEq, Eq, Oneof)]
pub(super) enum Question {
    /// Which device the file of a mapping is on. Asks the process that maps it.
    #[prost(message, tag = "1")]
    Locate(LocateRequest),
    /// The file that was located last. Asks its device.
    #[prost(message, tag = "2")]
    Open(()),
    /// The executable mappings of a process.
    #[prost(message, tag = "3")]
    Maps(MapsRequest),
    /// The command line of a process, by one of its threads.
    #[prost(uint32, tag = "4")]
    CommandLine(u32),
    /// Whether two files have the same bytes.
    #[prost(message, tag = "5")]
    Compare(CompareRequest),
    /// Whether memory of a process contains text of a file.
    #[prost(message, tag = "6")]
    Copy(CopyRequest),
    /// The headers of the file of a mapping, which the process that maps it has in memory.
    #[prost(message, tag = "7")]
    Headers(LocateRequest),
}

/// Asks to compare memory with a file that the agent holds open.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct CopyRequest {
    /// A running thread of the process.
    #[prost(uint32, tag = "1")]
    pub tid: u32,
    /// First address of the memory.
    #[prost(uint64, tag = "2")]
    pub start: u64,
    /// Its bytes.
    #[prost(uint64, tag = "3")]
    pub bytes: u64,
    #[prost(string, tag = "4")]
    pub path: String,
    /// Offset in the file.
    #[prost(uint64, tag = "5")]
    pub offset: u64,
}

/// Asks to compare two files that the agent holds open.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct CompareRequest {
    #[prost(string, tag = "1")]
    pub path: String,
    #[prost(string, tag = "2")]
    pub other: String,
}

/// Asks for the file of a mapping.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct LocateRequest {
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

/// Asks for the executable mappings of a process.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct MapsRequest {
    /// A running thread of it.
    #[prost(uint32, tag = "1")]
    pub tid: u32,
    /// Only mappings that contain one of these addresses, in ascending order; empty for all.
    #[prost(fixed64, repeated, tag = "2")]
    pub addresses: Vec<u64>,
}

/// The answer to any question.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Response {
    /// Error number (errno(3)); 0 when there is an answer.
    #[prost(int32, tag = "1")]
    pub errno: i32,
    /// Of an open file: its build ID; empty when it has none.
    #[prost(bytes = "vec", tag = "2")]
    pub build_id: Vec<u8>,
    /// Its load segments.
    #[prost(message, repeated, tag = "3")]
    pub segments: Vec<Segment>,
    /// Hash of its content; empty when the build ID identifies it or it is too large.
    #[prost(bytes = "vec", tag = "4")]
    pub hash: Vec<u8>,
    /// Of a located file: its device.
    #[prost(uint32, tag = "5")]
    pub major: u32,
    #[prost(uint32, tag = "6")]
    pub minor: u32,
    /// Of a process: its mappings.
    #[prost(message, repeated, tag = "7")]
    pub mappings: Vec<MappingMessage>,
    /// Their distinct paths.
    #[prost(string, repeated, tag = "8")]
    pub paths: Vec<String>,
    /// Mappings are missing because there are too many.
    #[prost(bool, tag = "9")]
    pub is_incomplete: bool,
    /// Its command line.
    #[prost(string, tag = "10")]
    pub command_line: String,
    /// Of two files, or of memory and a file: their bytes are equal.
    #[prost(bool, tag = "11")]
    pub is_same: bool,
}

/// One mapping of a process.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct MappingMessage {
    #[prost(fixed64, tag = "1")]
    start: u64,
    #[prost(fixed64, tag = "2")]
    end: u64,
    #[prost(uint64, tag = "3")]
    offset: u64,
    #[prost(uint32, tag = "4")]
    major: u32,
    #[prost(uint32, tag = "5")]
    minor: u32,
    #[prost(uint64, tag = "6")]
    inode: u64,
    /// Index in [`Response::paths`].
    #[prost(uint32, tag = "7")]
    path: u32,
    #[prost(bool, tag = "8")]
    is_executable: bool,
}

impl Response {
    /// Adds a mapping. Mappings of one file usually follow each other.
    pub fn push(&mut self, entry: &MapsEntry) {
        if self.paths.last().map(String::as_str) != Some(&*entry.path) {
            self.paths.push(entry.path.to_string());
        }
        let &MapsEntry { start, end, offset, major, minor, inode, is_executable, .. } = entry;
        let path = self.paths.len() as u32 - 1;
        self.mappings.push(MappingMessage {
            start,
            end,
            offset,
            major,
            minor,
            inode,
            path,
            is_executable,
        });
    }

    /// Returns the mappings.
    pub fn entries(&self) -> impl Iterator<Item = MapsEntry> {
        self.mappings.iter().map(|mapping| {
            let &MappingMessage { start, end, offset, major, minor, inode, path, is_executable } =
                mapping;
            let path = self.paths.get(path as usize).map_or("", String::as_str).into();
            MapsEntry { start, end, offset, major, minor, inode, path, is_executable }
        })
    }
}
