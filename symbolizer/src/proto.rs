//! Messages between the agent and the worker.

use prost::Message;

/// Asks for the symbols of addresses in one file, or in the kernel.
///
/// Open files come along, in the order of `files`: those of an executable, or the kernel's list of
/// symbols. Those of a file that is known from an earlier request are not used.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// Whether the addresses are the running kernel's.
    #[prost(bool, tag = "1")]
    pub is_kernel: bool,
    /// ELF virtual addresses, or kernel addresses.
    #[prost(fixed64, repeated, tag = "2")]
    pub addresses: Vec<u64>,
    /// Use symbol tables alone and read no DWARF.
    #[prost(bool, tag = "3")]
    pub symbols_only: bool,
    /// Identifies the file between requests.
    #[prost(uint64, tag = "4")]
    pub file: u64,
    /// Files that no later request will be about.
    #[prost(uint64, repeated, tag = "5")]
    pub forget: Vec<u64>,
    /// Build ID of the file; empty when it has none.
    #[prost(bytes = "vec", tag = "6")]
    pub build_id: Vec<u8>,
    /// Seconds of CPU time after which the kernel ends the worker; 0 for no limit.
    #[prost(uint32, tag = "7")]
    pub cpu_seconds_max: u32,
    /// Bytes of memory that the request may add to the worker's; 0 for no limit.
    #[prost(uint64, tag = "8")]
    pub memory_max: u64,
    /// Bytes that the functions of the response may take, see [`SourceFunction::bytes`]; 0 for no
    /// limit.
    #[prost(uint64, tag = "9")]
    pub names_max: u64,
    /// What each of the open files is.
    #[prost(enumeration = "FileRole", repeated, tag = "10")]
    pub files: Vec<i32>,
}

/// What an open file is to the executable that a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum FileRole {
    /// The executable itself, or the kernel's list of symbols.
    Own = 0,
    /// Its debug info and symbols, in a file of their own.
    Debug = 1,
    /// What dwz has moved out of the debug info of several files (`.gnu_debugaltlink`).
    Supplementary = 2,
    /// Debug info of split units, packed by dwp.
    Package = 3,
}

/// Answers a request.
#[derive(Clone, PartialEq, Message)]
pub struct Response {
    /// One for each address, in their order; none when there is an error. The last addresses have
    /// none when the functions before them take all bytes that the response may have.
    #[prost(message, repeated, tag = "1")]
    pub symbols: Vec<Symbol>,
    /// Why there are no symbols at all; empty on success.
    #[prost(string, tag = "2")]
    pub error: String,
    /// Names and paths that were cut because they are too long, and functions left out because too
    /// many are inlined in each other.
    #[prost(uint64, tag = "3")]
    pub cut: u64,
    /// Why debug info was not read, although the file has some; empty when it was.
    #[prost(string, tag = "4")]
    pub debug_info_error: String,
    /// Neither the file nor its debug file has debug info.
    #[prost(bool, tag = "5")]
    pub no_debug_info: bool,
}

/// What is known about one address.
#[derive(Clone, PartialEq, Message)]
pub struct Symbol {
    /// The innermost inlined function first, the function that the address belongs to last. Empty
    /// when nothing is known.
    #[prost(message, repeated, tag = "1")]
    pub functions: Vec<SourceFunction>,
    /// First address of those with the same symbol: all of a function without line information.
    /// Not less than `end` when the symbol is valid for the one address only.
    #[prost(fixed64, tag = "2")]
    pub start: u64,
    /// Address after the last.
    #[prost(fixed64, tag = "3")]
    pub end: u64,
}

/// A function and the source line in it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SourceFunction {
    /// Name for people.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Name for the linker.
    #[prost(string, tag = "2")]
    pub system_name: String,
    /// Source file; empty when unknown.
    #[prost(string, tag = "3")]
    pub file: String,
    /// Source line from 1; 0 when unknown.
    #[prost(uint32, tag = "4")]
    pub line: u32,
    /// Line on which it starts, in the same file; 0 when unknown.
    #[prost(uint32, tag = "5")]
    pub start_line: u32,
}

/// Bytes that a function takes besides its texts.
const FUNCTION_BYTES: usize = 96;

impl SourceFunction {
    /// Returns the bytes of memory that it takes.
    pub fn bytes(&self) -> usize {
        FUNCTION_BYTES + self.name.len() + self.system_name.len() + self.file.len()
    }
}
