//! Accepting a window: encode, write, sync, make room, link, sync; or count it as lost.

use std::collections::BTreeSet;
use std::io;

use tempfile::NamedTempFile;

use super::complaints::Complaints;
use super::queues::{SinkName, on_disk};
use super::{Delivery, lock};
use crate::batch::{Batch, Failure};
use crate::spool::{self, Left, Name, NotTaken};

/// A window that is not in the spool, for some sinks or for all. Each has counted it as lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the spool did not take a window for {}: {text}; {}", sinks.join(", "), reason.advice())]
pub struct Refused {
    /// Why.
    pub reason: Failure,
    /// The sinks that will not get it.
    pub sinks: Vec<String>,
    /// What happened.
    pub text: String,
}

/// Where windows come in, one at a time.
#[derive(Debug, Default)]
pub(super) struct Door {
    /// The spool is ours, and what an earlier life left is known.
    pub(super) is_open: bool,
    /// Of windows that are not taken.
    complaints: Complaints,
    /// Of windows that had to make room.
    dropped: Complaints,
}

/// Why the spool does not take a window.
#[derive(Clone, Debug)]
struct Problem {
    reason: Failure,
    text: String,
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self { reason: Failure::of_disk(&error), text: error.to_string() }
    }
}

impl From<NotTaken> for Problem {
    fn from(error: NotTaken) -> Self {
        match error {
            NotTaken::InUse => Self { reason: Failure::Disk, text: NotTaken::InUse.to_string() },
            NotTaken::Disk(error) => error.into(),
        }
    }
}

impl Delivery {
    /// Takes a window into the spool, for all sinks. Blocks until its file and the names of
    /// it are on the disk.
    ///
    /// # Errors
    /// [`Refused`] when that failed for some sink, which has then counted it as lost. The
    /// others have it.
    pub fn accept(&self, batch: &Batch) -> Result<(), Refused> {
        let door = &mut *lock(&self.door);
        let written = self.write(door, batch);
        let (name, sinks) = {
            let queues = self.shared.queues();
            (queues.free_name(batch.start_unix_ns()), queues.sinks())
        };
        let ends: Vec<(SinkName, Result<(), Problem>)> = match &written {
            Ok((file, _)) => {
                let link = |sink: &SinkName| Ok(self.shared.spool.link(file, sink, name)?);
                sinks.into_iter().map(|sink| (sink.clone(), link(&sink))).collect()
            }
            Err(problem) => sinks.into_iter().map(|sink| (sink, Err(problem.clone()))).collect(),
        };
        let length = written.as_ref().map_or(0, |(_, length)| *length);
        let booked: Vec<_> = ends
            .iter()
            .map(|(sink, end)| (sink.clone(), end.as_ref().copied().map_err(|p| p.reason)))
            .collect();
        self.shared.queues().closed(name, length, &booked);
        lock(&self.workers).values().for_each(|worker| worker.wake.notify_one());
        tell(door, &ends)
    }

    /// Writes a batch to the disk and makes room for it. Gives its length in bytes.
    fn write(&self, door: &mut Door, batch: &Batch) -> Result<(NamedTempFile, u64), Problem> {
        self.take_spool(door)?;
        let too_large = |text: &str| Problem { reason: Failure::TooLarge, text: text.to_owned() };
        let bytes = spool::encode(batch)
            .map_err(|spool::TooLarge| too_large("it is larger than 64 MiB"))?;
        let length = bytes.len() as u64;
        if on_disk(length) > self.shared.queues().bytes_max() {
            return Err(too_large("it is larger than the spool may be"));
        }
        let file = self.shared.spool.write(&bytes)?;
        self.make_room(door, length)?;
        Ok((file, length))
    }

    /// Opens the door at the start. A spool that cannot be used is told of, and tried again
    /// with each window.
    pub(super) fn open(&self) {
        let door = &mut *lock(&self.door);
        if let Err(problem) = self.take_spool(door) {
            let what = "it cannot be used, and windows will be lost";
            door.complaints.of(&self.who(), what, problem.reason, &problem.text);
        }
    }

    /// Takes the spool and notes what an earlier life left there.
    fn take_spool(&self, door: &mut Door) -> Result<(), Problem> {
        if door.is_open {
            return Ok(());
        }
        self.shared.spool.take()?;
        let sinks = self.shared.queues().sinks();
        let found: Vec<_> = sinks.iter().map(|sink| self.find(door, sink)).collect();
        let dropped = {
            let mut queues = self.shared.queues();
            sinks.iter().zip(found).for_each(|(sink, batches)| queues.found(sink, batches));
            queues.make_room(0).unwrap_or_default() // the bound may have been lowered
        };
        self.remove(door, &dropped);
        self.tell_of_others(&sinks);
        door.is_open = true;
        lock(&self.workers).values().for_each(|worker| worker.wake.notify_one());
        Ok(())
    }

    /// Lists what an earlier life left for a sink.
    pub(super) fn find(&self, door: &mut Door, sink: &str) -> Vec<(Name, u64)> {
        self.shared.spool.batches_of(sink).unwrap_or_else(|error| {
            let what =
                format!("what waits for the sink `{sink}` is not delivered before a restart");
            let reason = Failure::of_disk(&error);
            door.complaints.of(&self.who(), &what, reason, &error.to_string());
            Vec::new()
        })
    }

    fn tell_of_others(&self, sinks: &[SinkName]) {
        let is_ours = |name: &str| sinks.iter().any(|sink| **sink == *name);
        for Left { sink, batches, bytes } in self.shared.spool.left_by_others(is_ours) {
            tracing::warn!(
                "{}: {batches} windows ({bytes} bytes) wait for the sink `{sink}`, which is not in the \
                 configuration; they stay there: remove its directory, or configure it again",
                self.who()
            );
        }
    }

    /// Drops the oldest batches until one of this length has room.
    fn make_room(&self, door: &mut Door, length: u64) -> Result<(), Problem> {
        let full = || Problem {
            reason: Failure::SpoolFull,
            text: "it is full of windows that are on their way".into(),
        };
        let dropped = self.shared.queues().make_room(on_disk(length)).ok_or_else(full)?;
        self.remove(door, &dropped);
        Ok(())
    }

    /// Removes the files of batches that were dropped, and tells of them.
    fn remove(&self, door: &mut Door, dropped: &[(SinkName, Name)]) {
        if dropped.is_empty() {
            return;
        }
        let sinks: BTreeSet<&str> = dropped.iter().map(|(sink, _)| &**sink).collect();
        let what = format!("the oldest window is lost for {}", Vec::from_iter(sinks).join(", "));
        door.dropped.of(&self.who(), &what, Failure::SpoolFull, "the bound is reached");
        for (sink, name) in dropped {
            if let Err(error) = self.shared.spool.remove(sink, *name) {
                let what = "it may grow beyond its bound";
                door.dropped.of(&self.who(), what, Failure::of_disk(&error), &error.to_string());
            }
        }
    }

    pub(super) fn who(&self) -> String {
        format!("the spool {}", self.shared.spool.directory().display())
    }
}

/// Tells in the log, and to whoever asked, how it went.
fn tell(door: &mut Door, ends: &[(SinkName, Result<(), Problem>)]) -> Result<(), Refused> {
    let failed = |(sink, end): &(SinkName, Result<(), Problem>)| {
        Some((sink.to_string(), end.as_ref().err()?.clone()))
    };
    let failed: Vec<(String, Problem)> = ends.iter().filter_map(failed).collect();
    let Some((_, first)) = failed.first().cloned() else {
        door.complaints.over(|| "the spool takes windows again".to_owned());
        return Ok(());
    };
    let sinks: Vec<String> = failed.into_iter().map(|(sink, _)| sink).collect();
    let who = format!("the spool, for {}", sinks.join(", "));
    door.complaints.of(&who, "a window is lost", first.reason, &first.text);
    Err(Refused { reason: first.reason, sinks, text: first.text })
}
