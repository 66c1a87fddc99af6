//! What a debug file consists of, how much it reveals, and why a file has none.

use std::io;

/// Largest debug file in bytes. Source: Parca's `--debuginfo-upload-max-size`.
pub const BYTES_MAX: u64 = 1_000_000_000;

/// Why a file yields no debug file.
#[derive(Debug, thiserror::Error)]
pub enum UnfitReason {
    /// It has no debug info.
    #[error("it has no debug info, symbols or function table")]
    Nothing,
    /// It is damaged, or not an ELF file of a supported kind.
    #[error("it is not a 64-bit ELF file, or damaged: {0}")]
    Malformed(&'static str),
    /// Its debug info is larger than servers accept.
    #[error("its debug info is larger than {BYTES_MAX} bytes")]
    TooLarge,
    /// An I/O error.
    #[error("cannot read it: {0}")]
    Read(#[from] io::Error),
}

/// How much a file reveals about an address. Greater is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quality {
    /// Functions.
    Functions,
    /// Functions, files and lines: of Go code only, or without inlined functions.
    Lines,
    /// DWARF.
    Dwarf,
}

/// A range of a debug file.
#[derive(Debug)]
pub enum Part {
    /// New bytes: headers and padding.
    Bytes(Vec<u8>),
    /// Bytes of the original file.
    Copy { offset: u64, length: u64 },
}

impl Part {
    pub fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Copy { length, .. } => *length,
        }
    }
}
