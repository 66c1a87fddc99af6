//! Messages between the agent and the worker.

use prost::Message;

/// Asks for the symbols of addresses in one file, or in the kernel.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// The file; empty for the running kernel.
    #[prost(string, tag = "1")]
    pub path: String,
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
}

/// Answers a request.
#[derive(Clone, PartialEq, Message)]
pub struct Response {
    /// One for each address, in their order; none when there is an error.
    #[prost(message, repeated, tag = "1")]
    pub symbols: Vec<Symbol>,
    /// Why there are no symbols at all; empty on success.
    #[prost(string, tag = "2")]
    pub error: String,
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
}
