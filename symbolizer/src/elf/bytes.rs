//! The bytes of a file, read by ranges: nothing is allocated for what the file does not have.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use object::pod::{Pod, slice_from_all_bytes};

/// The bytes of a file, on disk or decompressed.
#[derive(Debug)]
pub(crate) struct FileBytes {
    source: Source,
    length: u64,
}

#[derive(Debug)]
enum Source {
    File(File),
    Memory(Vec<u8>),
}

impl FileBytes {
    /// Reads a file on disk.
    ///
    /// # Errors
    /// If its length is unknown.
    pub fn of(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { source: Source::File(file), length })
    }

    /// Reads a file that is in memory.
    pub fn from_memory(bytes: Vec<u8>) -> Self {
        let length = bytes.len() as u64;
        Self { source: Source::Memory(bytes), length }
    }

    /// Returns the file; `None` for one in memory.
    pub fn file(&self) -> Option<&File> {
        match &self.source {
            Source::File(file) => Some(file),
            Source::Memory(_) => None,
        }
    }

    /// Reads bytes.
    ///
    /// # Errors
    /// If the file does not have all of them, or as reading does.
    pub fn read(&self, offset: u64, count: usize) -> io::Result<Vec<u8>> {
        let end = offset.checked_add(count as u64).filter(|end| *end <= self.length);
        let end = end.ok_or_else(|| invalid("a header lies outside of the file".into()))?;
        match &self.source {
            Source::File(file) => {
                let mut bytes = vec![0; count];
                file.read_exact_at(&mut bytes, offset)?;
                Ok(bytes)
            }
            Source::Memory(bytes) => Ok(bytes[offset as usize..end as usize].to_vec()),
        }
    }

    /// Reads at most so many bytes: fewer at the end of the file.
    pub fn read_up_to(&self, offset: u64, max: usize) -> Vec<u8> {
        let left = self.length.saturating_sub(offset);
        self.read(offset, left.min(max as u64) as usize).unwrap_or_default()
    }

    /// Reads a text that ends with a zero byte, at most so many bytes of it.
    pub fn read_text(&self, offset: u64, max: usize) -> Vec<u8> {
        /// Most names fit into the first piece.
        const PIECE: usize = 128;
        let mut text = Vec::new();
        let mut piece = PIECE;
        while text.len() < max {
            let count = piece.min(max - text.len());
            let bytes = self.read_up_to(offset.saturating_add(text.len() as u64), count);
            let end = memchr::memchr(0, &bytes);
            text.extend_from_slice(&bytes[..end.unwrap_or(bytes.len())]);
            if end.is_some() || bytes.len() < count {
                break;
            }
            piece *= 8;
        }
        text
    }
}

/// Returns bytes as the structures that they hold; a rest that is no whole one is left out.
pub(crate) fn structs<T: Pod>(bytes: &[u8]) -> &[T] {
    let whole = bytes.len() - bytes.len() % size_of::<T>();
    slice_from_all_bytes(&bytes[..whole]).unwrap_or_default()
}

/// Returns a little-endian number of up to 8 bytes; 0 outside of the bytes.
pub(crate) fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    let bytes = at.checked_add(size).and_then(|end| bytes.get(at..end)).unwrap_or_default();
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

pub(crate) fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_end_with_a_zero_or_the_file_or_the_bound() {
        let bytes = [b"main\0".to_vec(), vec![b'x'; 5000]].concat();
        let file = FileBytes::from_memory(bytes);
        assert_eq!(file.read_text(0, 100), b"main");
        assert_eq!(file.read_text(5, 4096), vec![b'x'; 4096]);
        assert_eq!(file.read_text(5, 1 << 20), vec![b'x'; 5000]);
        assert_eq!(file.read_text(u64::MAX, 100), b"");
    }

    #[test]
    fn bytes_outside_of_the_file_are_not_allocated() {
        let file = FileBytes::from_memory(vec![1; 10]);
        file.read(0, usize::MAX).expect_err("more than there are");
        file.read(u64::MAX, 2).expect_err("beyond");
        assert_eq!(file.read_up_to(8, 1 << 40), [1, 1]);
    }
}
