//! Reading a debug file ahead of its upload.

use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::debug_file::DebugFile;
use crate::cpu_allowance::ThreadCpu;

/// Bytes of one chunk.
const CHUNK_BYTES: usize = 1 << 20;
/// Chunks read ahead.
const CHUNKS_AHEAD: usize = 4;
/// Longest wait for CPU time between two chunks, and in all: servers limit the time of an upload,
/// and what it takes too much is missing before the next file.
const WAIT_MAX: Duration = Duration::from_secs(1);
const WAITS_MAX: Duration = Duration::from_secs(60);

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
        let (allowance, mut cpu, mut waited) =
            (file.allowance(), ThreadCpu::start(), Duration::ZERO);
        let send = |chunk| {
            let is_sent = sender.blocking_send(encode(chunk)).is_ok();
            cpu.charge(&*allowance);
            let wait = allowance.until_credit().min(WAIT_MAX).min(WAITS_MAX - waited);
            waited += wait;
            thread::sleep(wait);
            is_sent
        };
        if let Err(error) = file.for_each_chunk(CHUNK_BYTES, send) {
            tracing::debug!("cannot read debug info to its end: {error}");
        }
    };
    if let Err(error) = thread::Builder::new().name("debuginfo".into()).spawn(read) {
        tracing::debug!("cannot start a thread to read debug info: {error}");
    }
    chunks
}
