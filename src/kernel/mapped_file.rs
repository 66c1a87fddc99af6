//! Files mapped into memory, for parsers in worker processes.

use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::Mmap;

/// Maps a whole file for reading.
///
/// Only a worker process may do so: where the file shrinks, reading what is gone kills the process,
/// and where it is written to meanwhile, the parser sees bytes of both.
///
/// # Errors
/// As `mmap`.
pub fn map_file(file: &File) -> io::Result<Box<dyn Deref<Target = [u8]>>> {
    // SAFETY: other processes can change the bytes at any time, which the language does not allow
    // for. So only a worker maps files: it holds nothing but names, is confined, and may die.
    let mapped = unsafe { Mmap::map(file) }?;
    Ok(Box::new(mapped))
}
