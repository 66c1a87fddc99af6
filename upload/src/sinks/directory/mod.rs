//! The sink `file`: a directory with one gzip-compressed pprof file for each window.
//!
//! ```text
//! /var/lib/everytick/store/20261125T014400.123Z.pb.gz
//! ```
//!
//! The name is the start of the window, in UTC. The directory is bounded by size and by age: the
//! oldest windows are removed first, and for their age only a few with each new one. A window
//! appears whole or not at all, and its name and content are synced before it counts as delivered.
//! A window that is sent again replaces its earlier copy. `go tool pprof` opens each file;
//! [`windows_in`] finds those of a time range. Other files in the directory are left alone.

mod config;
mod header;
mod index;
mod read;
mod stamp;

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flate2::{Compression, GzBuilder};
use prost::Message;

use crate::batch::{self, Answer, Batch, Failure};
use crate::config::ConfigError;
use crate::debug_info::DebugInfoSource;
use crate::disk;
use crate::transport::ResponseCounts;
use index::StoreIndex;
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

/// Writes windows into one directory.
pub(crate) struct Sink {
    config: Config,
    /// The windows in the directory; `None` when it has to be listed.
    index: Option<StoreIndex>,
    /// Windows written since then.
    since_listed: u32,
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
        Ok(Self { config: config.clone(), index: None, since_listed: 0 })
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
        let directory = self.config.directory.clone();
        disk::create_directory(&directory, DIRECTORY_MODE)?;
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
        disk::remove_temporaries(&self.config.directory);
        StoreIndex::list(&self.config.directory)
    }

    fn replace(&self, index: &mut StoreIndex, batch: &Batch, bytes: &[u8]) -> io::Result<()> {
        let directory = &self.config.directory;
        let stamp = free_stamp(directory, index, batch)?;
        index.insert(stamp, bytes.len() as u64);
        for old in index.surplus(self.config.retention.max_bytes, self.oldest_unix_ms(index), stamp)
        {
            disk::remove(&directory.join(old.file_name()))?;
            index.remove(old);
        }
        let file = disk::write_temporary(directory, FILE_MODE, bytes)?;
        file.persist(directory.join(stamp.file_name())).map_err(|error| error.error)?;
        disk::sync_directory(directory)
    }

    /// Returns the start before which windows are too old, as of now or of the newest window,
    /// whichever is earlier: a clock that leaps ahead removes nothing before a window has its time.
    fn oldest_unix_ms(&self, index: &StoreIndex) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let newest = Duration::from_millis(index.newest_unix_ms());
        now.min(newest).saturating_sub(self.config.retention.max_age).as_millis() as u64
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
    let comment = header::comment(batch.start_unix_ns(), batch.duration_ns());
    let mut gzip = GzBuilder::new().comment(comment).write(Vec::new(), COMPRESSION);
    gzip.write_all(&batch.profile.encode_to_vec())?;
    Ok(gzip.finish()?)
}
