//! Reads at an offset of bytes in memory, as `unwind` reads files.

/// Returns a function that fills its buffer from an offset, and returns false beyond the end.
pub fn read_at(file: &[u8]) -> impl Fn(u64, &mut [u8]) -> bool + '_ {
    |offset, bytes| {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let source = from.checked_add(bytes.len()).and_then(|end| file.get(from..end));
        source.map(|source| bytes.copy_from_slice(source)).is_some()
    }
}
