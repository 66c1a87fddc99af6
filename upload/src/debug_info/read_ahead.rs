//! Reading a debug file ahead of its upload.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::debug_file::DebugFile;
use crate::cpu_allowance::{CpuAllowance, ThreadCpu};

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
        let mut pacing = ChunkPacing::new(file.allowance());
        let send = |chunk| {
            let is_sent = sender.blocking_send(encode(chunk)).is_ok();
            thread::sleep(pacing.wait_after_chunk());
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

/// Waits between chunks, so that an upload stays within the CPU time allowed.
struct ChunkPacing {
    allowance: Arc<dyn CpuAllowance>,
    cpu: ThreadCpu,
    waited: Duration,
}

impl ChunkPacing {
    fn new(allowance: Arc<dyn CpuAllowance>) -> Self {
        Self { allowance, cpu: ThreadCpu::start(), waited: Duration::ZERO }
    }

    /// Charges a chunk, and returns the time to wait before the next.
    fn wait_after_chunk(&mut self) -> Duration {
        self.cpu.charge(&*self.allowance);
        let wait = self.allowance.until_credit().min(WAIT_MAX).min(WAITS_MAX - self.waited);
        self.waited += wait;
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu_allowance::tests::FakeAllowance;

    #[test]
    fn chunks_wait_for_cpu_time_for_a_minute_at_most() {
        let allowance = FakeAllowance::default();
        let mut pacing = ChunkPacing::new(Arc::new(allowance.clone()));
        assert_eq!(pacing.wait_after_chunk(), Duration::ZERO);
        allowance.set_until_credit(Duration::from_millis(10));
        assert_eq!(pacing.wait_after_chunk(), Duration::from_millis(10));
        allowance.set_until_credit(Duration::from_secs(3_600));
        let waits: Vec<Duration> = (0..1_000).map(|_| pacing.wait_after_chunk()).collect();
        assert!(waits.iter().all(|wait| *wait <= WAIT_MAX));
        assert_eq!(waits.iter().sum::<Duration>() + Duration::from_millis(10), WAITS_MAX);
    }
}
