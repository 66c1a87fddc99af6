//! What agent and worker say to each other: protobuf messages, each behind its length.

use std::io::{self, Read, Write};

use prost::Message;

/// Longest message taken, in bytes.
const MESSAGE_MAX: usize = 256 << 20;

/// Asks for the names of addresses in one file, or in the kernel.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Request {
    /// The file; empty for the running kernel.
    #[prost(string, tag = "1")]
    pub path: String,
    /// ELF virtual addresses, or kernel addresses.
    #[prost(fixed64, repeated, tag = "2")]
    pub addresses: Vec<u64>,
    /// Take symbols alone, and read no DWARF.
    #[prost(bool, tag = "3")]
    pub symbols_only: bool,
    /// By what the file is known between requests.
    #[prost(uint64, tag = "4")]
    pub file: u64,
    /// Files that nobody will ask about again.
    #[prost(uint64, repeated, tag = "5")]
    pub forget: Vec<u64>,
    /// Build id of the file; empty when it has none.
    #[prost(bytes = "vec", tag = "6")]
    pub build_id: Vec<u8>,
}

/// Answers a request.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Response {
    /// One for each address, in their order; none when `error` says why.
    #[prost(message, repeated, tag = "1")]
    pub symbols: Vec<Symbol>,
    /// Why there are no names at all.
    #[prost(string, tag = "2")]
    pub error: String,
    /// Nanoseconds of CPU time that the worker has used so far.
    #[prost(uint64, tag = "3")]
    pub cpu_ns: u64,
    /// The most memory that the worker has had so far, in KiB.
    #[prost(uint64, tag = "4")]
    pub peak_rss_kib: u64,
}

/// The names at one address.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Symbol {
    /// Innermost first.
    #[prost(message, repeated, tag = "1")]
    pub lines: Vec<Line>,
    /// First address of those that are called the same, and the one after the last; equal when only this one is.
    #[prost(fixed64, tag = "2")]
    pub start: u64,
    #[prost(fixed64, tag = "3")]
    pub end: u64,
}

/// One name.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Line {
    #[prost(string, tag = "1")]
    pub function: String,
    #[prost(string, tag = "2")]
    pub system_name: String,
    #[prost(string, tag = "3")]
    pub file: String,
    #[prost(uint32, tag = "4")]
    pub line: u32,
}

/// Writes a message.
pub(crate) fn send(to: &mut impl Write, message: &impl Message) -> io::Result<()> {
    let bytes = message.encode_to_vec();
    to.write_all(&(bytes.len() as u64).to_le_bytes())?;
    to.write_all(&bytes)?;
    to.flush()
}

/// Reads a message; `None` at a clean end.
pub(crate) fn receive<M: Message + Default>(from: &mut impl Read) -> io::Result<Option<M>> {
    let mut len = [0; 8];
    match from.read_exact(&mut len) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let len = u64::from_le_bytes(len);
    if len > MESSAGE_MAX as u64 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too long"));
    }
    let mut bytes = Vec::new();
    from.take(len).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    M::decode(bytes.as_slice()).map(Some).map_err(io::Error::other)
}
