//! The thread that downloads: takes build IDs from the queue, a few at the same time.

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use profile::BuildId;
use symbolizer::DebugFileError;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use upload::transport::DownloadFailure;

use super::outcome::DownloadOutcome;
use super::server::DebuginfodServer;
use super::shared::{Lookup, SharedLookups};
use super::storage::{check, name_of, open_checked, supplementary_of};
use crate::disk_cache::{Directory, PartialFile};

/// Lookups at the same time.
const PARALLEL: usize = 4;
/// Threads that resolve names of hosts, abandoned ones included.
const RESOLVERS_MAX: usize = 8;
/// Nice value of the thread: the profiled programs come first.
const NICE: i32 = 10;
/// Name of the thread, and of those that resolve names of hosts.
pub(super) const THREAD: &str = "downloads";

/// Looks up build IDs until it is stopped.
pub(super) struct Fetcher {
    pub servers: Vec<DebuginfodServer>,
    pub shared: Arc<SharedLookups>,
    pub files: Mutex<Directory>,
}

impl Fetcher {
    /// Runs until `stop` is sent or dropped. Downloads in flight end then.
    pub fn run(self, stop: oneshot::Receiver<()>) {
        let _ = rustix::process::setpriority_process(None, NICE); // of this thread
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().thread_name(THREAD).max_blocking_threads(RESOLVERS_MAX);
        let runtime = match builder.build() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!("cannot download debug info: {error}"),
        };
        let this = Arc::new(self);
        runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for _ in 0..PARALLEL {
                tasks.spawn(Arc::clone(&this).work());
            }
            let _ = stop.await;
        });
        // A name of a host may still be being resolved.
        runtime.shutdown_background();
    }

    async fn work(self: Arc<Self>) {
        loop {
            let lookup = self.shared.next().await;
            let outcome = self.look_up(&lookup).await;
            self.shared.end(&lookup.build_id, outcome);
        }
    }

    /// Gets the file of a build ID, and its supplementary file, if it has one.
    async fn look_up(&self, lookup: &Lookup) -> DownloadOutcome {
        let outcome = self.find(lookup).await;
        let file = open_checked(&self.files(), &lookup.build_id);
        if let Some(build_id) = file.and_then(supplementary_of) {
            let supplementary = Lookup::new(&build_id, lookup.owner, lookup.samples);
            let outcome = self.find(&supplementary).await;
            self.shared.end(&build_id, outcome);
        }
        outcome
    }

    /// Gets the file of a build ID from the first server that has it.
    async fn find(&self, lookup: &Lookup) -> DownloadOutcome {
        if open_checked(&self.files(), &lookup.build_id).is_some() {
            return DownloadOutcome::Cached;
        }
        let mut outcome = DownloadOutcome::NotFound;
        for server in &self.servers {
            match self.fetch(server, lookup).await {
                DownloadOutcome::Fetched => return DownloadOutcome::Fetched,
                DownloadOutcome::NotFound => {}
                failure => outcome = failure,
            }
        }
        outcome
    }

    async fn fetch(&self, server: &DebuginfodServer, lookup: &Lookup) -> DownloadOutcome {
        if server.is_in_backoff(Instant::now()) {
            return DownloadOutcome::InBackoff;
        }
        let mut receiver = FileReceiver { fetcher: self, lookup, result: Ok(None) };
        let path = format!("/buildid/{}/debuginfo", lookup.build_id);
        let received = server.get(&path, &mut |piece| receiver.take(piece)).await;
        let outcome = match (received, receiver.result) {
            (Err(error), result) => {
                let outcome = result.err().unwrap_or_else(|| outcome_of(error.failure));
                if outcome == DownloadOutcome::NotFound {
                    tracing::debug!("debug info: {error}");
                } else {
                    tracing::warn!("debug info not downloaded: {error}");
                    self.shared.failed(error.to_string());
                }
                outcome
            }
            (Ok(_), Err(outcome)) => outcome,
            (Ok(_), Ok(None)) => DownloadOutcome::NotElf, // it is empty
            (Ok(_), Ok(Some(file))) => self.store(file, &lookup.build_id),
        };
        match outcome.is_of_server() {
            true => server.failed(Instant::now()),
            false => server.answered(),
        }
        outcome
    }

    /// Checks a file and moves it to where it is found.
    fn store(&self, file: PartialFile, build_id: &BuildId) -> DownloadOutcome {
        match check(&file.file, build_id) {
            Ok(()) => match self.files().store(file, &name_of(build_id)) {
                Ok(()) => DownloadOutcome::Fetched,
                Err(error) => {
                    tracing::warn!("cannot store downloaded debug info: {error}");
                    DownloadOutcome::NotStored
                }
            },
            Err(error) => {
                let outcome = match error {
                    DebugFileError::NotElf => DownloadOutcome::NotElf,
                    DebugFileError::OtherBuildId => DownloadOutcome::OtherBuildId,
                    DebugFileError::Empty => DownloadOutcome::NoDebugInfo,
                };
                let reason = outcome.text();
                tracing::warn!(reason, "downloaded debug info is not used");
                outcome
            }
        }
    }

    fn files(&self) -> MutexGuard<'_, Directory> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the pieces of one file.
struct FileReceiver<'a> {
    fetcher: &'a Fetcher,
    lookup: &'a Lookup,
    /// The file, from the first piece on, or why no more is taken.
    result: Result<Option<PartialFile>, DownloadOutcome>,
}

impl FileReceiver<'_> {
    /// Writes a piece; returns false if no more is taken.
    fn take(&mut self, piece: &[u8]) -> bool {
        if !self.fetcher.shared.receive(self.lookup.owner, piece.len() as u64) {
            self.result = Err(DownloadOutcome::RateLimited);
        }
        let Ok(file) = &mut self.result else { return false };
        let written = match file {
            Some(file) => file.file.write_all(piece),
            None => self.fetcher.files().create().and_then(|created| {
                let created = file.insert(created);
                created.file.write_all(piece)
            }),
        };
        if let Err(error) = written {
            tracing::warn!("cannot store downloaded debug info: {error}");
            self.result = Err(DownloadOutcome::NotStored);
        }
        self.result.is_ok()
    }
}

fn outcome_of(failure: DownloadFailure) -> DownloadOutcome {
    match failure {
        DownloadFailure::NotFound => DownloadOutcome::NotFound,
        DownloadFailure::Status(_) => DownloadOutcome::ErrorStatus,
        DownloadFailure::Redirects => DownloadOutcome::Redirects,
        DownloadFailure::TooLarge => DownloadOutcome::TooLarge,
        DownloadFailure::TimedOut => DownloadOutcome::TimedOut,
        DownloadFailure::EndedEarly => DownloadOutcome::EndedEarly,
        DownloadFailure::Tls => DownloadOutcome::Tls,
        DownloadFailure::Unreachable => DownloadOutcome::Unreachable,
        DownloadFailure::NotTaken => DownloadOutcome::NotStored,
    }
}
