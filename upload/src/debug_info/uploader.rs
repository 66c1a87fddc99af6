//! Uploads the debug info of the executables in batches, for one server.
//!
//! Only files with debug info, symbols or Go's function table are offered: a server keeps the first
//! file that it receives, however little it contains, and searches nowhere else afterwards.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::find::{SearchResult, find};
use super::protocol::{RETRY_AFTER, UploadOutcome, UploadProtocol};
use super::source::DebugInfoSource;
use super::upload_states::UploadStates;
use crate::batch::{Batch, text_at};
use crate::cpu_allowance::CpuAllowance;

/// Concurrent uploads of one server, each with a connection of its own.
pub(crate) const PARALLEL: usize = 2;
/// Most build IDs queued. Those beyond are offered again by a later batch.
const QUEUE_MAX: usize = 1024;
/// Pause of a task between two files, so that a new agent does not flood its server.
const PAUSE: Duration = Duration::from_millis(200);
/// Most threads that search for the files of one server, abandoned ones included.
const SEARCH_THREADS_MAX: usize = 8;

/// Uploads in the background. Dropping it aborts them.
pub(crate) struct Uploader {
    states: Arc<Mutex<UploadStates>>,
    queue: mpsc::Sender<String>,
    tasks: Vec<AbortHandle>,
}

impl Uploader {
    /// Starts a task for each protocol client, on the current tokio runtime.
    pub fn start(
        protocols: impl IntoIterator<Item = impl UploadProtocol>,
        source: &Arc<dyn DebugInfoSource>,
    ) -> Self {
        let (queue, receiver) = mpsc::channel(QUEUE_MAX);
        let receiver = Arc::new(AsyncMutex::new(receiver));
        let states = Arc::new(Mutex::new(UploadStates::default()));
        let search_threads = Arc::new(Semaphore::new(SEARCH_THREADS_MAX));
        let start = |protocol| {
            let (source, states) = (source.clone(), states.clone());
            let task =
                UploadTask { protocol, source, states, search_threads: search_threads.clone() };
            tokio::spawn(task.run(receiver.clone())).abort_handle()
        };
        let tasks = protocols.into_iter().map(start).collect();
        Self { states, queue, tasks }
    }

    /// Queues the build IDs of a batch that are new or due, as far as they fit.
    pub fn offer(&self, batch: &Batch) {
        let profile = &batch.profile;
        let files =
            profile.mapping.iter().filter(|m| !text_at(profile, m.filename).starts_with('['));
        let build_ids = files.map(|mapping| text_at(profile, mapping.build_id));
        let mut states = lock(&self.states);
        for build_id in build_ids.filter(|build_id| is_build_id(build_id)) {
            let Ok(permit) = self.queue.try_reserve() else { return };
            if states.begin(build_id, Instant::now()) {
                permit.send(build_id.to_owned());
            }
        }
    }
}

impl Drop for Uploader {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Waits until CPU time may be used.
async fn wait_for_credit(allowance: &dyn CpuAllowance) {
    loop {
        let wait = allowance.until_credit();
        if wait.is_zero() {
            return;
        }
        tokio::time::sleep(wait).await;
    }
}

/// Returns whether a text is a build ID: servers take more than two digits, and the text becomes
/// part of a path.
fn is_build_id(text: &str) -> bool {
    text.len() > 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn lock(states: &Mutex<UploadStates>) -> MutexGuard<'_, UploadStates> {
    states.lock().unwrap_or_else(PoisonError::into_inner)
}

struct UploadTask<P> {
    protocol: P,
    source: Arc<dyn DebugInfoSource>,
    states: Arc<Mutex<UploadStates>>,
    search_threads: Arc<Semaphore>,
}

impl<P: UploadProtocol> UploadTask<P> {
    async fn run(mut self, queue: Arc<AsyncMutex<mpsc::Receiver<String>>>) {
        loop {
            let next = queue.lock().await.recv().await;
            let Some(build_id) = next else { return };
            wait_for_credit(&*self.source.cpu_allowance()).await;
            let outcome = self.upload(&build_id).await;
            lock(&self.states).finish(&build_id, outcome);
            self.source.on_upload(outcome.status());
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn upload(&mut self, build_id: &str) -> UploadOutcome {
        let uploaded = lock(&self.states).uploaded(build_id);
        let result = find(self.source.clone(), build_id.to_owned(), &self.search_threads).await;
        let file = match result {
            SearchResult::Found(file) => file.paced_by(self.source.cpu_allowance()),
            SearchResult::NoDebugInfo => return UploadOutcome::NoDebugInfo,
            // The executable may be in another window.
            SearchResult::NoFile => return UploadOutcome::Postponed(RETRY_AFTER),
        };
        if uploaded.is_some_and(|uploaded| file.quality() <= uploaded) {
            return UploadOutcome::NoDebugInfo;
        }
        self.protocol.offer(build_id, file, uploaded.is_some()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu_allowance::tests::FakeAllowance;

    #[tokio::test(start_paused = true)]
    async fn a_file_waits_for_cpu_time() {
        let allowance = FakeAllowance::default();
        wait_for_credit(&allowance).await;
        allowance.set_until_credit(Duration::from_secs(10));
        let waiting = wait_for_credit(&allowance);
        let timeout = Duration::from_secs(3_600);
        assert!(tokio::time::timeout(timeout, waiting).await.is_err(), "there is none");
        let later = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            allowance.set_until_credit(Duration::ZERO);
        };
        tokio::join!(wait_for_credit(&allowance), later);
    }

    #[test]
    fn build_ids_are_hexadecimal_and_no_path() {
        assert!(is_build_id("0123abcdef"));
        for text in ["", "ab", "../../etc", "0x12", "abc/d"] {
            assert!(!is_build_id(text), "{text}");
        }
    }
}
