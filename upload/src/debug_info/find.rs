//! Finds the best debug info for a build ID: the executable, or the separate file that a
//! distribution installs.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use profile::BuildId;
use tokio::sync::{Semaphore, oneshot};

use super::debug_file::{DebugFile, UnfitReason};
use super::source::DebugInfoSource;
use crate::cpu_allowance::ThreadCpu;

/// Time to find and open files: a large file is hashed, and a file system may never respond.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Result of a search.
pub enum SearchResult {
    /// The best debug info.
    Found(DebugFile),
    /// Files without debug info.
    NoDebugInfo,
    /// No file, or none in time.
    NoFile,
}

/// Searches on a thread of its own. A thread that hangs on a file system is abandoned, and keeps
/// its permit of `threads` until it returns.
pub async fn find(
    source: Arc<dyn DebugInfoSource>,
    build_id: String,
    threads: &Arc<Semaphore>,
) -> SearchResult {
    let Ok(permit) = threads.clone().try_acquire_owned() else { return SearchResult::NoFile };
    let (sender, result) = oneshot::channel();
    let search = move || {
        let _permit = permit;
        let mut cpu = ThreadCpu::start();
        let result = search(&*source, &build_id);
        cpu.charge(&*source.cpu_allowance());
        let _ = sender.send(result);
    };
    if std::thread::Builder::new().name("debuginfo".into()).spawn(search).is_err() {
        return SearchResult::NoFile;
    }
    match tokio::time::timeout(TIMEOUT, result).await {
        Ok(Ok(result)) => result,
        _ => SearchResult::NoFile,
    }
}

fn search(source: &dyn DebugInfoSource, build_id: &str) -> SearchResult {
    let executable = source.open(build_id);
    let separate =
        BuildId::from_hex(build_id).and_then(|build_id| File::open(build_id.debug_file()).ok());
    let has_executable = executable.is_some();
    let read = |file| match DebugFile::read(file) {
        Ok(debug_file) => Some(debug_file),
        Err(UnfitReason::Nothing) => None,
        Err(error) => {
            tracing::debug!("no debug info for {build_id}: {error}");
            None
        }
    };
    let files = [executable, separate].into_iter().flatten();
    match files.filter_map(read).max_by_key(DebugFile::quality) {
        Some(best) => SearchResult::Found(best),
        None if has_executable => SearchResult::NoDebugInfo,
        None => SearchResult::NoFile,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    /// A file system that does not respond until the sender is dropped.
    struct HangingSource(Mutex<mpsc::Receiver<()>>);

    impl DebugInfoSource for HangingSource {
        fn open(&self, _: &str) -> Option<File> {
            let _ = self.0.lock().map(|never| never.recv());
            None
        }
    }

    #[tokio::test(start_paused = true)]
    async fn hanging_searches_time_out_and_their_threads_are_bounded() {
        let (end, never) = mpsc::channel();
        let source: Arc<dyn DebugInfoSource> = Arc::new(HangingSource(Mutex::new(never)));
        let threads = Arc::new(Semaphore::new(2));
        for available in [1, 0, 0] {
            let result = find(source.clone(), "abcd".into(), &threads);
            let result = tokio::time::timeout(2 * TIMEOUT, result).await;
            assert!(matches!(result, Ok(SearchResult::NoFile)), "it is retried later");
            assert_eq!(threads.available_permits(), available);
        }
        drop(end);
    }
}
