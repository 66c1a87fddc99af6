//! The sink `file`: a directory with one gzip-compressed pprof file for each window.
//!
//! ```text
//! /var/lib/everytick/store/20261125T014400.123Z.pb.gz
//! ```
//!
//! The name is the start of the window, in UTC. The directory is bounded by size and by age: the
//! oldest windows are removed first, for their age only a few with each new one, and none while the
//! wall clock disagrees with the time since boot. One agent writes: it locks the directory.
//!
//! A window appears whole or not at all, and its name and content are synced before it counts as
//! delivered. A window that is sent again replaces its earlier copy. `go tool pprof` opens each
//! file; [`windows_in`] finds those of a time range. Other files in the directory are left alone.

mod agreed_time;
mod config;
mod header;
mod index;
mod read;
mod stamp;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flate2::{Compression, GzBuilder};
use profile::pprof;
use prost::Message;

use crate::batch::{self, Answer, Batch, Failure};
use crate::clock::{Clock, SystemClock};
use crate::config::ConfigError;
use crate::debug_info::DebugInfoSource;
use crate::disk::{self, DirectoryLock, InUse, LockError};
use crate::transport::ResponseCounts;
use agreed_time::{AgreedTime, Now};
use header::Header;
use index::{Bounds, StartOfBoot, StoreIndex};
use stamp::Stamp;

pub use config::{Config, Retention};
pub use read::{Listing, ReadError, StoredWindow, read, windows_in};

/// Permissions of the directory and of its files, less the umask: what runs on a machine is not
/// public.
const DIRECTORY_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o640;

/// Takes half of the time of the default level, for files that are 5% larger.
const COMPRESSION: Compression = Compression::new(4);

/// Windows after which the directory is listed again, in case others removed or added files: an
/// hour of windows of 10 s.
const LIST_INTERVAL: u32 = 360;

/// Milliseconds by which a window that was just closed is behind the wall clock at most.
const BEHIND_MS: u64 = 2 * 3_600_000;

/// Least time between two warnings that the clocks disagree.
const WARN_INTERVAL: Duration = Duration::from_secs(3_600);

/// Writes windows into one directory.
pub(crate) struct Sink {
    config: Config,
    /// The windows in the directory; `None` when it has to be listed.
    index: Option<StoreIndex>,
    /// Windows written since then.
    since_listed: u32,
    time: AgreedTime,
    /// When the log said last that the clocks disagree; `None` while they agree.
    warned_of_jump: Option<Instant>,
    /// Taken with the claim, or before the first window.
    lock: Option<DirectoryLock>,
}

/// Why a window was not stored.
enum StoreError {
    /// It is larger than the directory may be.
    TooLarge,
    /// The error of the system.
    Disk(io::Error),
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl Sink {
    /// Returns the sink. The directory need not exist yet. Debug info is not stored.
    ///
    /// # Errors
    /// None.
    pub fn new(
        config: &Config,
        _debug_info: Option<&Arc<dyn DebugInfoSource>>,
    ) -> Result<Self, ConfigError> {
        Ok(Self::with_clock(config, Arc::new(SystemClock::new())))
    }

    fn with_clock(config: &Config, clock: Arc<dyn Clock>) -> Self {
        let time = AgreedTime::new(clock);
        let config = config.clone();
        Self { config, index: None, since_listed: 0, time, warned_of_jump: None, lock: None }
    }

    /// Locks the directory. `wait`: how long to wait for another agent to release it.
    ///
    /// # Errors
    /// [`InUse`]. An error of the disk is none: the first window repeats the attempt.
    pub fn claim(&mut self, wait: Duration) -> Result<(), InUse> {
        match self.lock(wait) {
            Err(LockError::InUse) => Err(InUse(self.config.directory.clone())),
            Ok(()) | Err(LockError::Disk(_)) => Ok(()),
        }
    }

    /// Creates the directory if needed, and locks the one that is there now.
    fn lock(&mut self, wait: Duration) -> Result<(), LockError> {
        let directory = &self.config.directory;
        disk::create_directory(directory, DIRECTORY_MODE)?;
        if !self.lock.as_ref().is_some_and(|lock| lock.is_at(directory)) {
            (self.lock, self.index) = (None, None);
            self.lock = Some(DirectoryLock::acquire(directory, wait)?);
        }
        Ok(())
    }

    /// Returns nothing: no server responds.
    pub fn take_responses(&mut self) -> ResponseCounts {
        ResponseCounts::default()
    }

    /// Writes a window. Blocks while it is written.
    pub async fn send(&mut self, batch: &Batch) -> Answer {
        let stored = self.store(batch);
        let directory = self.config.directory.display();
        match stored {
            Ok(bytes) => Answer::Delivered { bytes },
            Err(StoreError::TooLarge) => Answer::Rejected {
                reason: Failure::TooLarge,
                text: format!("the batch is larger than {directory} may be; raise max_bytes"),
            },
            Err(StoreError::Disk(error)) => Answer::Later {
                reason: Failure::of_disk(&error),
                after: None,
                text: format!("cannot write to {directory}: {error}"),
            },
        }
    }

    /// Writes a window after evicting others, and returns its bytes.
    fn store(&mut self, batch: &Batch) -> Result<u64, StoreError> {
        let bytes = compress(batch)?;
        if disk::allocated_bytes(bytes.len() as u64) > self.config.retention.max_bytes {
            return Err(StoreError::TooLarge);
        }
        self.lock(Duration::ZERO).map_err(|error| match error {
            LockError::InUse => io::Error::other(error),
            LockError::Disk(error) => error,
        })?;
        let mut index = match self.index.take() {
            Some(index) if self.since_listed < LIST_INTERVAL => index,
            _ => self.list()?,
        };
        let stored = self.replace(&mut index, batch, &bytes);
        self.index = stored.is_ok().then_some(index);
        stored?;
        self.since_listed += 1;
        Ok(bytes.len() as u64)
    }

    fn list(&mut self) -> io::Result<StoreIndex> {
        self.since_listed = 0;
        let directory = &self.config.directory;
        disk::remove_temporaries(directory);
        let index = StoreIndex::list(directory)?;
        // The wall clock may have jumped since an earlier process of this boot wrote the last one.
        let last = index.stamps().last();
        let last = last.and_then(|last| read::header_of(&directory.join(last.file_name())));
        if let Some(Header { start_unix_ns, origin: Some(origin), .. }) = last {
            self.time.believe(start_unix_ns, origin.start);
        }
        Ok(index)
    }

    fn replace(&mut self, index: &mut StoreIndex, batch: &Batch, bytes: &[u8]) -> io::Result<()> {
        let now = self.now(index, batch);
        let Config { directory, retention } = &self.config;
        let stamp = free_stamp(directory, index, batch)?;
        index.insert(stamp, bytes.len() as u64, StartOfBoot::Read(batch.start()));
        let bounds =
            Bounds { bytes: retention.max_bytes, age_ms: retention.max_age.as_millis() as u64 };
        let read = |stamp: Stamp| {
            let header = read::header_of(&directory.join(stamp.file_name()))?;
            header.origin.map(|origin| origin.start)
        };
        for old in index.surplus(bounds, &now, stamp, read) {
            disk::remove(&directory.join(old.file_name()))?;
            index.remove(old);
        }
        let file = disk::write_temporary(directory, FILE_MODE, bytes)?;
        file.persist(directory.join(stamp.file_name())).map_err(|error| error.error)?;
        disk::sync_directory(directory)
    }

    /// Returns the time by which windows are too old: now, or the start of the newest window if
    /// that is earlier, so that a long pause of the agent removes nothing before it stores again.
    fn now(&mut self, index: &StoreIndex, batch: &Batch) -> Now {
        let now = self.time.now();
        self.log_agreement(now.is_agreed);
        let newest_ms = index.newest_unix_ms().max(Stamp::of(batch.start_unix_ns()).unix_ms);
        // Windows far behind the clock are compared with each other, whatever it says.
        let is_early = now.is_early && newest_ms.saturating_add(BEHIND_MS) >= now.unix_ms;
        Now { unix_ms: now.unix_ms.min(newest_ms), is_early, ..now }
    }
}

impl Sink {
    /// Logs that the clocks disagree, once an hour, and that they agree again.
    fn log_agreement(&mut self, is_agreed: bool) {
        let directory = self.config.directory.display();
        if is_agreed && self.warned_of_jump.take().is_some() {
            tracing::info!("the wall clock is believed again: old windows of {directory} expire");
        }
        if !is_agreed && self.warned_of_jump.is_none_or(|at| at.elapsed() >= WARN_INTERVAL) {
            self.warned_of_jump = Some(Instant::now());
            tracing::warn!(
                "the wall clock was set: no window of {directory} is removed for its age until it \
                 is set back, or has gone on for a day"
            );
        }
    }
}

/// Returns the name for a window: that of its earlier copy, or an unused one.
fn free_stamp(directory: &Path, index: &StoreIndex, batch: &Batch) -> io::Result<Stamp> {
    let mut stamp = Stamp::of(batch.start_unix_ns());
    while index.has(stamp) {
        let window = read::window_at(&directory.join(stamp.file_name()), stamp);
        if window.is_none_or(|window| window.start_unix_ns == batch.start_unix_ns()) {
            break; // its earlier copy, or damaged
        }
        let none = || io::Error::other("too many windows began in one millisecond");
        stamp = stamp.next().ok_or_else(none)?;
    }
    Ok(stamp)
}

fn compress(batch: &Batch) -> Result<Vec<u8>, StoreError> {
    if batch.profile.encoded_len() > batch::BYTES_MAX {
        return Err(StoreError::TooLarge);
    }
    let header = Header {
        start_unix_ns: batch.start_unix_ns(),
        duration_ns: batch.duration_ns(),
        origin: pprof::origin(&batch.profile),
    };
    let mut gzip = GzBuilder::new().comment(header.comment()).write(Vec::new(), COMPRESSION);
    gzip.write_all(&pprof::encode_for_file(&batch.profile))?;
    Ok(gzip.finish()?)
}
