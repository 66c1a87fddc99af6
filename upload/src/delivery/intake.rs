//! Intake of closed windows: encode, write, sync, evict, link, sync; or count as lost.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use tempfile::NamedTempFile;

use super::queues::SinkName;
use super::shared::Shared;
use super::throttled_warnings::ThrottledWarnings;
use crate::batch::{Batch, Failure};
use crate::disk::{LockError, allocated_bytes};
use crate::spool::{self, BatchName, OrphanedDirectory};

/// A window was not accepted for some sinks, or for all. Each has counted it as lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the spool did not accept a window for {}: {text}; {}", sinks.join(", "), reason.advice())]
pub struct AcceptError {
    /// The first sink's reason, for metrics.
    pub reason: Failure,
    /// The sinks that do not get the window.
    pub sinks: Vec<String>,
    /// The first sink's cause: the limit exceeded, or the error of the system.
    pub text: String,
}

/// Accepts one window at a time into the spool.
#[derive(Debug, Default)]
pub struct Intake {
    /// The spool is locked and its earlier batches are queued.
    is_open: bool,
    /// About windows that are not accepted.
    refusals: ThrottledWarnings,
    /// About batches that are evicted.
    evictions: ThrottledWarnings,
}

/// Why the spool does not accept a window.
#[derive(Clone, Debug)]
struct Refusal {
    reason: Failure,
    text: String,
}

impl Refusal {
    fn too_large(text: &str) -> Self {
        Self { reason: Failure::TooLarge, text: text.to_owned() }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self { reason: Failure::of_disk(&error), text: error.to_string() }
    }
}

impl From<LockError> for Refusal {
    fn from(error: LockError) -> Self {
        match error {
            LockError::InUse => Self { reason: Failure::Disk, text: error.to_string() },
            LockError::Disk(error) => error.into(),
        }
    }
}

impl Intake {
    /// Writes a window to the spool and queues it for all sinks. Blocks until the file and all of
    /// its directory entries are on disk.
    ///
    /// # Errors
    /// [`AcceptError`] if this failed for some sink, which then counts the window as lost. The
    /// other sinks have it.
    pub fn accept(&mut self, shared: &Shared, batch: &Batch) -> Result<(), AcceptError> {
        let written = self.write(shared, batch);
        let (name, sinks) = {
            let queues = shared.queues();
            (queues.free_name(batch.start_unix_ns(), batch.start()), queues.sinks())
        };
        let link = |sink: SinkName| {
            let linked = match &written {
                Ok((file, _)) => shared.spool.link(file, &sink, name).map_err(Refusal::from),
                Err(refusal) => Err(refusal.clone()),
            };
            (sink, linked)
        };
        let results: Vec<(SinkName, Result<(), Refusal>)> = sinks.into_iter().map(link).collect();
        let length = written.as_ref().map_or(0, |(_, length)| *length);
        let reasons: Vec<(SinkName, Result<(), Failure>)> = results
            .iter()
            .map(|(sink, result)| (sink.clone(), result.as_ref().copied().map_err(|r| r.reason)))
            .collect();
        shared.queues().add_closed(name, length, &reasons);
        self.report(&results)
    }

    /// Writes an encoded batch to disk and evicts others until it fits. Returns the file and its
    /// length in bytes.
    fn write(&mut self, shared: &Shared, batch: &Batch) -> Result<(NamedTempFile, u64), Refusal> {
        self.lock_spool(shared)?;
        let bytes = spool::encode(batch)
            .map_err(|spool::TooLarge| Refusal::too_large("it is larger than 64 MiB"))?;
        let length = bytes.len() as u64;
        if allocated_bytes(length) > shared.queues().bytes_max() {
            return Err(Refusal::too_large("it is larger than the limit of the spool"));
        }
        let file = shared.spool.write(&bytes)?;
        self.evict_for(shared, length)?;
        Ok((file, length))
    }

    /// Opens the spool at start-up. A spool that cannot be used is logged, and tried again with
    /// each window.
    pub fn open(&mut self, shared: &Shared) {
        if let Err(refusal) = self.lock_spool(shared) {
            let effect = "cannot be used, windows will be lost";
            self.refusals.warn(&subject(shared), effect, refusal.reason, &refusal.text);
        }
    }

    /// Locks the spool and queues the batches of an earlier run.
    fn lock_spool(&mut self, shared: &Shared) -> Result<(), Refusal> {
        if self.is_open {
            return Ok(());
        }
        shared.spool.lock(Duration::ZERO)?;
        let sinks = shared.queues().sinks();
        for sink in &sinks {
            let found = self.list_batches(shared, sink);
            shared.queues().add_found(sink, found);
        }
        // The limit may be lower than that of the earlier run.
        let evicted = shared.queues().evict_for(0).unwrap_or_default();
        self.remove_evicted(shared, &evicted);
        warn_about_orphans(shared, &sinks);
        self.is_open = true;
        Ok(())
    }

    /// Queues the batches that an earlier run left for a sink that was just added. Does nothing
    /// before the spool is open, because opening it queues them.
    pub fn queue_found(&mut self, shared: &Shared, sink: &str) {
        if self.is_open {
            let found = self.list_batches(shared, sink);
            shared.queues().add_found(sink, found);
        }
    }

    fn list_batches(&mut self, shared: &Shared, sink: &str) -> Vec<(BatchName, u64)> {
        shared.spool.batches_of(sink).unwrap_or_else(|error| {
            let effect =
                format!("cannot list batches for the sink `{sink}`, they wait for a restart");
            let reason = Failure::of_disk(&error);
            self.refusals.warn(&subject(shared), &effect, reason, &error.to_string());
            Vec::new()
        })
    }

    /// Evicts the oldest batches until a file of this length fits.
    fn evict_for(&mut self, shared: &Shared, length: u64) -> Result<(), Refusal> {
        let full = || Refusal {
            reason: Failure::SpoolFull,
            text: "it is full of batches that are being sent".into(),
        };
        let evicted = shared.queues().evict_for(allocated_bytes(length)).ok_or_else(full)?;
        self.remove_evicted(shared, &evicted);
        Ok(())
    }

    /// Removes the files of evicted batches and logs the loss.
    fn remove_evicted(&mut self, shared: &Shared, evicted: &[(SinkName, BatchName)]) {
        if evicted.is_empty() {
            return;
        }
        let subject = subject(shared);
        let sinks: BTreeSet<&str> = evicted.iter().map(|(sink, _)| &**sink).collect();
        let effect =
            format!("the oldest batches are lost for {}", Vec::from_iter(sinks).join(", "));
        self.evictions.warn(&subject, &effect, Failure::SpoolFull, "it has reached its limit");
        for (sink, name) in evicted {
            if let Err(error) = shared.spool.remove(sink, *name) {
                let reason = Failure::of_disk(&error);
                let effect = "cannot remove an evicted batch, may exceed the limit";
                self.evictions.warn(&subject, effect, reason, &error.to_string());
            }
        }
    }

    /// Logs the result of accepting a window, and returns it.
    fn report(&mut self, results: &[(SinkName, Result<(), Refusal>)]) -> Result<(), AcceptError> {
        let refused: Vec<(&SinkName, &Refusal)> = results
            .iter()
            .filter_map(|(sink, result)| Some((sink, result.as_ref().err()?)))
            .collect();
        let Some((_, Refusal { reason, text })) = refused.first() else {
            self.refusals.recovered(|| "the spool accepts windows again".to_owned());
            return Ok(());
        };
        let sinks: Vec<String> = refused.iter().map(|(sink, _)| sink.to_string()).collect();
        let subject = format!("the spool, for {}", sinks.join(", "));
        self.refusals.warn(&subject, "a window is lost", *reason, text);
        Err(AcceptError { reason: *reason, sinks, text: text.clone() })
    }
}

fn warn_about_orphans(shared: &Shared, sinks: &[SinkName]) {
    let is_configured = |name: &str| sinks.iter().any(|sink| **sink == *name);
    let subject = subject(shared);
    for orphan in shared.spool.orphaned_directories(is_configured) {
        let OrphanedDirectory { sink, batches, bytes } = orphan;
        tracing::warn!(
            "{subject}: {batches} batches ({bytes} bytes) wait for the sink `{sink}`, which is not \
             configured; remove its directory, or configure the sink again"
        );
    }
}

/// Returns how log lines name the spool.
fn subject(shared: &Shared) -> String {
    format!("the spool {}", shared.spool.directory().display())
}
