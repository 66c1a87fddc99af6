//! Reading a debug file ahead of its upload.

use bytes::Bytes;
use tokio::sync::mpsc;

use super::debug_file::DebugFile;

/// Bytes of one chunk.
const CHUNK_BYTES: usize = 1 << 20;
/// Chunks read ahead.
const CHUNKS_AHEAD: usize = 4;

/// Reads a file in chunks on a thread of its own, a few chunks ahead.
///
/// `first`: sent before the file. `encode`: wraps each chunk in a message. A file that cannot be
/// read to its end yields fewer bytes than its length, which the server's count reveals.
pub(crate) fn read_ahead(
    file: DebugFile,
    first: Option<Bytes>,
    encode: impl Fn(Vec<u8>) -> Bytes + Send + 'static,
) -> mpsc::Receiver<Bytes> {
    let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
    let read = move || {
        if first.is_some_and(|first| sender.blocking_send(first).is_err()) {
            return;
        }
        let send = |chunk| sender.blocking_send(encode(chunk)).is_ok();
        if let Err(error) = file.for_each_chunk(CHUNK_BYTES, send) {
            tracing::debug!("cannot read debug info to its end: {error}");
        }
    };
    if let Err(error) = std::thread::Builder::new().name("debuginfo".into()).spawn(read) {
        tracing::debug!("cannot start a thread to read debug info: {error}");
    }
    chunks
}
