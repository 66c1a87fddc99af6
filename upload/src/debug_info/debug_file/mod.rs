//! The smallest ELF file with the debug info of another, as a server needs it to symbolize.
//!
//! Retained are the ELF header, all program headers, notes, symbols, Go's function table, and the
//! DWARF sections that lead from an address to functions and lines. Every other section stays in
//! the section table with its address, but without contents, as `objcopy --only-keep-debug` leaves
//! it. Addresses therefore mean the same as in the original file.
//!
//! The input is untrusted: every value is checked before use. Only headers are read into memory;
//! contents are copied in chunks.
//!
//! Source: System V ABI, chapter 4; 64-bit, little-endian.

mod elf;
mod part;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::cpu_allowance::{CpuAllowance, Unlimited};
use elf::Elf;
use part::Part;

pub(super) use part::{Quality, UnfitReason};

/// A debug file, assembled while it is read.
#[derive(Debug)]
pub(crate) struct DebugFile {
    original: File,
    parts: Vec<Part>,
    length: u64,
    hash: String,
    quality: Quality,
    allowance: Arc<dyn CpuAllowance>,
}

impl DebugFile {
    /// Reads the headers of an ELF file and lays out its debug file.
    ///
    /// # Errors
    /// [`UnfitReason`] if there is none.
    pub fn read(original: File) -> Result<Self, UnfitReason> {
        let elf = Elf::read(&original)?;
        let quality = elf.quality().ok_or(UnfitReason::Nothing)?;
        let (parts, length) = elf.lay_out()?;
        let mut hash = Sha256::new();
        hash.update(length.to_le_bytes());
        for part in &parts {
            if let Part::Bytes(bytes) = part {
                hash.update(bytes);
            }
        }
        let hash = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { original, parts, length, hash, quality, allowance: Arc::new(Unlimited) })
    }

    /// Reads the file within this CPU time from now on.
    pub fn paced_by(self, allowance: Arc<dyn CpuAllowance>) -> Self {
        Self { allowance, ..self }
    }

    /// Returns the CPU time within which the file is to be read.
    pub fn allowance(&self) -> Arc<dyn CpuAllowance> {
        self.allowance.clone()
    }

    /// Returns the length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns a hash of the headers, which distinguishes files with the same build ID.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    pub fn quality(&self) -> Quality {
        self.quality
    }

    /// Passes the contents to `take` in chunks of at most `chunk_bytes`, until `take` returns
    /// false.
    ///
    /// # Errors
    /// Any I/O error, also if the original file has become shorter.
    pub fn for_each_chunk(
        &self,
        chunk_bytes: usize,
        mut take: impl FnMut(Vec<u8>) -> bool,
    ) -> io::Result<()> {
        for part in &self.parts {
            let mut done = 0;
            while done < part.length() {
                let length = chunk_bytes.min((part.length() - done) as usize);
                let chunk = match part {
                    Part::Bytes(bytes) => bytes[done as usize..][..length].to_vec(),
                    Part::Copy { offset, .. } => {
                        let mut chunk = vec![0; length];
                        self.original.read_exact_at(&mut chunk, offset + done)?;
                        chunk
                    }
                };
                done += length as u64;
                if !take(chunk) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
