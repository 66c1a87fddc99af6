//! What of an ELF file a store needs to name addresses, and nothing else: the smallest file with the same debug
//! info.
//!
//! Kept are the ELF header, all program headers, notes, symbols, Go's table of functions, and of DWARF what leads from
//! an address to functions and lines. Every other section stays in the list with its address, but without
//! contents, as `objcopy --only-keep-debug` leaves it. So addresses mean the same as in the whole file.
//!
//! The file is foreign: nothing in it is believed that is not checked. Only its headers are read into
//! memory; contents are copied piece by piece.
//!
//! Source: System V ABI, chapter 4; 64-bit, little-endian.

mod elf;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};

use elf::Elf;

/// Largest file made, in bytes. Source: Parca's `--debuginfo-upload-max-size`.
const BYTES_MAX: u64 = 1_000_000_000;

/// Why a file gives no debug info.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// It has none.
    #[error("it has no debug info, symbols or table of functions")]
    Nothing,
    /// It is no ELF file that we know, or damaged.
    #[error("it is no ELF file of 64 bits, or damaged: {0}")]
    Malformed(&'static str),
    /// Larger than a server takes.
    #[error("its debug info is larger than {BYTES_MAX} bytes")]
    TooLarge,
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
}

/// How much a file tells of an address. More is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Quality {
    /// Functions.
    Functions,
    /// Functions, files and lines, of Go alone or without inlined functions.
    Lines,
    /// DWARF.
    Dwarf,
}

/// A file that is put together while it is read.
#[derive(Debug)]
pub(crate) struct DebugFile {
    file: File,
    parts: Vec<Part>,
    length: u64,
    hash: String,
    quality: Quality,
}

#[derive(Debug)]
enum Part {
    Made(Vec<u8>),
    Copied { offset: u64, length: u64 },
}

impl DebugFile {
    /// Reads the headers of an ELF file and plans the smaller one.
    ///
    /// # Errors
    /// [`Unfit`] says why there is none.
    pub fn of(file: File) -> Result<Self, Unfit> {
        let elf = Elf::read(&file)?;
        let quality = elf.quality().ok_or(Unfit::Nothing)?;
        let (parts, length) = elf.plan()?;
        let mut hash = Sha256::new();
        hash.update(length.to_le_bytes());
        for part in &parts {
            if let Part::Made(bytes) = part {
                hash.update(bytes);
            }
        }
        let hash = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { file, parts, length, hash, quality })
    }

    /// Bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// What tells it from others with the same build id: a hash of the headers.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// How much it tells.
    pub fn quality(&self) -> Quality {
        self.quality
    }

    /// Gives the contents in pieces of at most `piece_bytes`, until `take` wants no more.
    ///
    /// # Errors
    /// What the system answers; also if the file has become shorter.
    pub fn copy(
        &self,
        piece_bytes: usize,
        mut take: impl FnMut(Vec<u8>) -> bool,
    ) -> io::Result<()> {
        for part in &self.parts {
            match part {
                Part::Made(bytes) => {
                    for piece in bytes.chunks(piece_bytes) {
                        if !take(piece.to_vec()) {
                            return Ok(());
                        }
                    }
                }
                Part::Copied { offset, length } => {
                    let mut done = 0;
                    while done < *length {
                        let mut piece = vec![0; piece_bytes.min((length - done) as usize)];
                        self.file.read_exact_at(&mut piece, offset + done)?;
                        done += piece.len() as u64;
                        if !take(piece) {
                            return Ok(());
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
