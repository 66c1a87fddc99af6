//! The sink `file`: a directory with one gzip-compressed pprof file for each window.
//!
//! ```text
//! /var/lib/everytick/store/20261125T014400.123Z.pb.gz
//! ```
//!
//! The name tells when the window began, in UTC. The directory is bounded by size and by
//! age; the oldest windows go first, and for their age only a few with each new one. A window appears whole or not at all, and is on the
//! disk, name and content, when it is called delivered. One that comes again takes the
//! place of its earlier copy. `go tool pprof` opens each file; [`windows_in`] finds those of
//! a range of time. Other files in the directory are left alone.

mod config;
mod header;
mod kept;
mod read;
mod stamp;

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flate2::{Compression, GzBuilder};
use prost::Message;

use crate::batch::{self, Answer, Batch, Failure};
use crate::disk;
use kept::Kept;
use stamp::Stamp;

pub use config::{Config, Retention};
pub use read::{Listing, ReadError, StoredWindow, read, windows_in};

/// Permissions of the directory and of its files, less the umask: what runs on a machine
/// is not for everybody's eyes.
const DIRECTORY_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o640;

/// Half of the time that the default level takes, for files that are a twentieth larger.
const COMPRESSION: Compression = Compression::new(4);

/// Windows after which the directory is listed anew, in case somebody else removed or
/// added files: an hour of windows of 10 s.
const LIST_EACH: u32 = 360;

/// The sink.
pub(crate) struct Sink {
    config: Config,
    /// What lies in the directory; `None` when it is to be listed.
    kept: Option<Kept>,
    /// Windows since it was listed.
    since_listed: u32,
}

/// Why a window is not in the directory.
enum NotStored {
    /// It is larger than the directory may be.
    TooLarge,
    /// As the system answers.
    Disk(io::Error),
}

impl From<io::Error> for NotStored {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl Sink {
    /// Makes the sink. The directory may appear later.
    pub fn new(config: &Config) -> Self {
        Self { config: config.clone(), kept: None, since_listed: 0 }
    }

    /// Writes a window. Blocks while it is written.
    pub async fn send(&mut self, batch: &Batch) -> Answer {
        let stored = self.store(batch);
        let directory = self.config.directory.display();
        match stored {
            Ok(bytes) => Answer::Delivered { bytes },
            Err(NotStored::TooLarge) => Answer::Refused {
                reason: Failure::TooLarge,
                text: format!("the window is larger than {directory} may be; raise max_bytes"),
            },
            Err(NotStored::Disk(error)) => Answer::Later {
                reason: Failure::of_disk(&error),
                after: None,
                text: format!("cannot write to {directory}: {error}"),
            },
        }
    }

    /// Writes a window and gives its bytes, after room was made for it.
    fn store(&mut self, batch: &Batch) -> Result<u64, NotStored> {
        let bytes = compressed(batch)?;
        if kept::on_disk(bytes.len() as u64) > self.config.retention.max_bytes {
            return Err(NotStored::TooLarge);
        }
        let directory = self.config.directory.clone();
        disk::create_directory(&directory, DIRECTORY_MODE)?;
        let mut kept = match self.kept.take() {
            Some(kept) if self.since_listed < LIST_EACH => kept,
            _ => self.list()?,
        };
        let stored = self.replace(&mut kept, batch, &bytes);
        self.kept = stored.is_ok().then_some(kept);
        stored?;
        self.since_listed += 1;
        Ok(bytes.len() as u64)
    }

    fn list(&mut self) -> io::Result<Kept> {
        self.since_listed = 0;
        disk::remove_temporaries(&self.config.directory);
        Kept::list(&self.config.directory)
    }

    fn replace(&self, kept: &mut Kept, batch: &Batch, bytes: &[u8]) -> io::Result<()> {
        let directory = &self.config.directory;
        let stamp = free_stamp(directory, kept, batch)?;
        kept.insert(stamp, bytes.len() as u64);
        for old in kept.beyond(self.config.retention.max_bytes, self.oldest_unix_ms(kept), stamp) {
            disk::remove(&directory.join(old.file_name()))?;
            kept.remove(old);
        }
        let file = disk::write_temporary(directory, FILE_MODE, bytes)?;
        file.persist(directory.join(stamp.file_name())).map_err(|error| error.error)?;
        disk::sync_directory(directory)
    }

    /// What began before this is too old. As of the newest window or of now, whichever is
    /// earlier: a clock that leaps ahead removes nothing before a window bears its time.
    fn oldest_unix_ms(&self, kept: &Kept) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let newest = Duration::from_millis(kept.newest_unix_ms());
        now.min(newest).saturating_sub(self.config.retention.max_age).as_millis() as u64
    }
}

/// Finds the name for a window: that of its earlier copy, or one that is free.
fn free_stamp(directory: &Path, kept: &Kept, batch: &Batch) -> io::Result<Stamp> {
    let mut stamp = Stamp::of(batch.start_unix_ns());
    while kept.has(stamp) {
        let there = read::window_at(&directory.join(stamp.file_name()), stamp);
        if there.is_none_or(|there| there.start_unix_ns == batch.start_unix_ns()) {
            break; // its own, or damaged
        }
        let none = || io::Error::other("too many windows began in one millisecond");
        stamp = stamp.next().ok_or_else(none)?;
    }
    Ok(stamp)
}

fn compressed(batch: &Batch) -> Result<Vec<u8>, NotStored> {
    if batch.profile.encoded_len() > batch::BYTES_MAX {
        return Err(NotStored::TooLarge);
    }
    let comment = header::comment(batch.start_unix_ns(), batch.duration_ns());
    let mut gzip = GzBuilder::new().comment(comment).write(Vec::new(), COMPRESSION);
    gzip.write_all(&batch.profile.encode_to_vec())?;
    Ok(gzip.finish()?)
}
