//! Messages between the agent and the file helper; open files travel beside the response.

use prost::{Message, Oneof};
use symbolizer::proto::FileRole;

use crate::processes::elf::Segment;
use crate::processes::perf_maps::MapEntry;
use crate::procfs::MapsEntry;
use crate::runtimes::proto::RecognitionMessage;

/// Asks for one thing.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Request {
    #[prost(oneof = "Question", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9")]
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
    /// The next part of the jitdump or perf map of a process.
    #[prost(message, tag = "8")]
    PerfMap(PerfMapRequest),
    /// The files with the debug info of a file.
    #[prost(message, tag = "9")]
    DebugFiles(DebugFilesRequest),
}

/// Asks for the files with the debug info of a file.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct DebugFilesRequest {
    /// A running thread of the process that maps the file.
    #[prost(uint32, tag = "1")]
    pub tid: u32,
    /// Path of the file, which the agent holds open.
    #[prost(string, tag = "2")]
    pub held: String,
    /// Path at which the file was mapped.
    #[prost(string, tag = "3")]
    pub path: String,
}

/// Asks for the next part of the jitdump or perf map of a process.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct PerfMapRequest {
    #[prost(uint32, tag = "1")]
    pub pid: u32,
    /// A running thread of it.
    #[prost(uint32, tag = "2")]
    pub tid: u32,
    /// Path of the map that the agent holds; empty if it holds none.
    #[prost(string, tag = "3")]
    pub held: String,
    /// Bytes of it that were read.
    #[prost(uint64, tag = "4")]
    pub offset: u64,
    /// The last of them.
    #[prost(bytes = "vec", tag = "5")]
    pub tail: Vec<u8>,
    /// Nothing is read later: a line or a record without an end counts as well.
    #[prost(bool, tag = "6")]
    pub is_last: bool,
    /// If a jitdump is held: the number in its name.
    #[prost(uint32, optional, tag = "7")]
    pub held_jit_dump: Option<u32>,
    /// The jitdump that the process has mapped, unless it is the one held.
    #[prost(message, optional, tag = "8")]
    pub jit_dump: Option<JitDumpRequest>,
}

/// Names the jitdump of a process.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct JitDumpRequest {
    /// Its mapping.
    #[prost(message, required, tag = "1")]
    pub mapping: LocateRequest,
    /// The number in its name.
    #[prost(uint32, tag = "2")]
    pub pid: u32,
}

/// A part of a jitdump or perf map; the file itself travels beside it, if it is not the one that is
/// held.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct PerfMapMessage {
    /// Why there is none: one more than the number of a `CodeNameGap`; 0 if there is one.
    #[prost(uint32, tag = "1")]
    pub gap: u32,
    /// It begins at the start of the file.
    #[prost(bool, tag = "2")]
    pub is_new: bool,
    #[prost(message, repeated, tag = "3")]
    pub entries: Vec<MapEntry>,
    /// Offset of the next part.
    #[prost(uint64, tag = "4")]
    pub offset: u64,
    /// The last bytes before that.
    #[prost(bytes = "vec", tag = "5")]
    pub tail: Vec<u8>,
    /// Lines or records that are no entries.
    #[prost(uint64, tag = "6")]
    pub malformed: u64,
    #[prost(bool, tag = "7")]
    pub has_more: bool,
    /// Bytes that were parsed.
    #[prost(uint64, tag = "8")]
    pub parsed: u64,
    /// The part is of a jitdump.
    #[prost(bool, tag = "9")]
    pub is_jit_dump: bool,
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
    /// Of a process: a part of its perf map.
    #[prost(message, optional, tag = "12")]
    pub perf_map: Option<PerfMapMessage>,
    /// Of the debug files of a file: what each of the open files is.
    #[prost(enumeration = "FileRole", repeated, tag = "13")]
    pub roles: Vec<i32>,
    /// Of an open file: the runtime or the C library that it contains.
    #[prost(message, optional, tag = "14")]
    pub recognition: Option<RecognitionMessage>,
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
