//! The handle by which debug info is asked for.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use profile::BuildId;
use symbolizer::proto::FileRole;
use tokio::sync::oneshot;
use upload::config::ConfigError;
use upload::transport::DownloadLimits;

use super::fetcher::{Fetcher, THREAD};
use super::lookups::LookupState;
use super::outcome::DownloadCounts;
use super::quota::HourlyQuota;
use super::server::DebuginfodServer;
use super::server_list::ServerList;
use super::shared::{Lookup, SharedLookups};
use super::storage::{FILE_MAX, KIND, name_of, open_checked, supplementary_of};
use crate::disk_cache::{CacheError, Directory};
use crate::limits::Owner;

/// What one download may take. A server may unpack a package before it answers, as that of elfutils
/// does.
const LIMITS: DownloadLimits = DownloadLimits {
    connect: Duration::from_secs(5),
    answer: Duration::from_secs(60),
    pause: Duration::from_secs(20),
    total: Duration::from_secs(300),
    bytes: FILE_MAX,
};
/// Lookups within an hour: the programs of a machine that are new to a starting agent take a few
/// hundred.
const LOOKUPS_PER_HOUR: u64 = 1200;
/// Bytes received within an hour.
const BYTES_PER_HOUR: u64 = 2 << 30;
/// How long the thread may take to end and to remove incomplete files.
const STOP_MAX: Duration = Duration::from_millis(300);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Why debug info cannot be downloaded.
#[derive(Debug, thiserror::Error)]
pub enum DownloadsError {
    /// The directory for files cannot be used.
    #[error(transparent)]
    Directory(#[from] CacheError),
    /// A server cannot be used.
    #[error("cannot use the debuginfod server: {0}")]
    Server(#[from] ConfigError),
    /// The thread cannot be started.
    #[error("cannot start the thread for downloads: {0}")]
    Thread(#[from] io::Error),
}

/// Debug info by build ID: from disk at once, from servers later.
#[derive(Debug)]
pub struct Downloads {
    shared: Arc<SharedLookups>,
    files: Directory,
    /// Taken when it is dropped.
    thread: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Downloads {
    /// Starts the thread. Connects to nothing yet. `directory`: where files are kept.
    ///
    /// # Errors
    /// [`DownloadsError`] when the directory or a server cannot be used.
    pub fn start(servers: &ServerList, directory: &Path) -> Result<Self, DownloadsError> {
        Self::start_within(servers, directory, LIMITS)
    }

    pub(super) fn start_within(
        servers: &ServerList,
        directory: &Path,
        limits: DownloadLimits,
    ) -> Result<Self, DownloadsError> {
        let servers = servers.addresses().iter().map(|url| DebuginfodServer::new(url, limits));
        let servers = servers.collect::<Result<Vec<_>, _>>()?;
        let quota = HourlyQuota::new(LOOKUPS_PER_HOUR, BYTES_PER_HOUR, Instant::now());
        let shared = Arc::new(SharedLookups::new(quota));
        let files = Mutex::new(Directory::open(directory, KIND)?);
        let fetcher = Fetcher { servers, shared: Arc::clone(&shared), files };
        let (stop, is_stopped) = oneshot::channel();
        let run = move || fetcher.run(is_stopped);
        let thread = thread::Builder::new().name(THREAD.into()).spawn(run)?;
        let files = Directory::open(directory, KIND)?;
        Ok(Self { shared, files, thread: Some((stop, thread)) })
    }

    /// Opens the debug file of a build ID if it is on disk, and its supplementary file.
    pub fn find(&self, build_id: &BuildId) -> Vec<(FileRole, File)> {
        let Some(debug) = self.find_file(build_id) else { return Vec::new() };
        let supplementary = debug.try_clone().ok().and_then(supplementary_of);
        let supplementary = supplementary.and_then(|build_id| self.find_file(&build_id));
        let supplementary = supplementary.map(|file| (FileRole::Supplementary, file));
        [(FileRole::Debug, debug)].into_iter().chain(supplementary).collect()
    }

    fn find_file(&self, build_id: &BuildId) -> Option<File> {
        let file = match self.shared.state_of(build_id) {
            Some(LookupState::Stored) => self.files.open_file(&name_of(build_id)).ok().flatten(),
            _ => open_checked(&self.files, build_id),
        };
        self.shared.found_on_disk(build_id, file.is_some());
        file
    }

    /// Looks up a build ID in the background, unless that was done. Returns whether its debug info
    /// is on disk. `owner`: who is accountable for the lookup. `samples`: those in the executable.
    pub fn request(&self, build_id: &BuildId, owner: Owner, samples: u64) -> bool {
        match self.shared.state_of(build_id) {
            Some(LookupState::Stored) => true,
            Some(LookupState::Pending | LookupState::Failed { .. }) => false,
            None => {
                self.shared.begin(Lookup::new(build_id, owner, samples));
                false
            }
        }
    }

    /// Returns how a server failed last, for people.
    pub fn failure(&self) -> Option<String> {
        self.shared.failure()
    }

    /// Returns the outcomes so far.
    pub fn counts(&self) -> DownloadCounts {
        self.shared.counts()
    }
}

/// Stops the thread, which removes incomplete files.
impl Drop for Downloads {
    fn drop(&mut self) {
        let Some((stop, thread)) = self.thread.take() else { return };
        drop(stop);
        let deadline = Instant::now() + STOP_MAX;
        while !thread.is_finished() && Instant::now() < deadline {
            thread::sleep(POLL_INTERVAL);
        }
    }
}
