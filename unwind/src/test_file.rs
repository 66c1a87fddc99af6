//! Files in memory, for tests.

/// Returns what reads a file with these bytes, see [`ReadAt`](crate::ReadAt).
pub(crate) fn bytes_of(file: &[u8]) -> impl Fn(u64, &mut [u8]) -> bool {
    move |offset, bytes| {
        let from = file.get(offset as usize..).and_then(|rest| rest.get(..bytes.len()));
        from.map(|from| bytes.copy_from_slice(from)).is_some()
    }
}
