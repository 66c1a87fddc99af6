//! What waits for whom: the batches in the spool, their bound, and the counts of each sink.
//!
//! All in memory and under one lock, so that the ledger closes at every moment. The files
//! are moved by whoever asks, before or after.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::counts::{Counts, SinkCounts};
use super::ledger::Reasons;
use crate::batch::Failure;
use crate::debug_info::UploadEnd;
use crate::spool::Name;

/// What a file takes at least: a file system gives room in blocks.
const BLOCK: u64 = 4096;

/// Bytes that a file of this length takes on the disk.
pub fn on_disk(length: u64) -> u64 {
    length.max(1).next_multiple_of(BLOCK)
}

/// The name of a sink.
pub type SinkName = Arc<str>;

/// One life of a sink. One that is taken out of the configuration and put back has another, and what a worker of the
/// earlier does, that hung in the meantime, changes nothing in its books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Whose.
    pub sink: SinkName,
    /// No other life has it.
    number: u64,
}

/// What waits for whom.
#[derive(Debug, Default)]
pub struct Queues {
    bytes_max: u64,
    /// Bytes on the disk of all files.
    bytes: u64,
    files: BTreeMap<Name, Held>,
    sinks: BTreeMap<SinkName, Queue>,
    /// How many lives of sinks there were.
    lives: u64,
    accepted: u64,
    refused: Reasons,
}

/// A batch in the spool.
#[derive(Debug)]
struct Held {
    /// Bytes on the disk.
    bytes: u64,
    /// How many sinks have yet to get it.
    sinks: usize,
}

/// What waits for one sink.
#[derive(Debug, Default)]
struct Queue {
    /// The number of the life that it is for.
    life: u64,
    waiting: BTreeSet<Name>,
    /// The one of those that is on its way.
    sending: Option<Name>,
    counts: SinkCounts,
}

/// How a batch leaves the queue of a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The sink has it, after so many bytes.
    Delivered(u64),
    /// The sink has it but for so many series or samples, after so many bytes.
    Partly { bytes: u64, rejected: u64, text: String },
    /// The sink refused it.
    Refused(Failure, String),
    /// It could not even be sent.
    Lost(Failure, String),
}

impl Queues {
    /// Nothing waits, for nobody.
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    /// Changes the bound; what is beyond it goes when room is made the next time.
    pub fn set_bytes_max(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
    }

    /// The bound of all batches, in bytes.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// How many batches wait for a sink.
    pub fn waiting(&self, sink: &str) -> u64 {
        self.sinks.get(sink).map_or(0, |queue| queue.waiting.len() as u64)
    }

    /// Names of the sinks, in order.
    pub fn sinks(&self) -> Vec<SinkName> {
        self.sinks.keys().cloned().collect()
    }

    /// Gives a life for a sink that is about to be added.
    pub fn new_life(&mut self, sink: SinkName) -> Life {
        self.lives += 1;
        Life { sink, number: self.lives }
    }

    /// Adds a sink for which nothing waits.
    pub fn add_sink(&mut self, life: &Life) {
        let queue = Queue { life: life.number, ..Queue::default() };
        self.sinks.insert(life.sink.clone(), queue);
    }

    /// Whether the sink has another life by now.
    pub fn is_over(&self, life: &Life) -> bool {
        self.sinks.get(&life.sink).is_some_and(|queue| queue.life != life.number)
    }

    /// The queue for a life, as long as it is not over.
    fn of_life(&mut self, life: &Life) -> Option<&mut Queue> {
        self.sinks.get_mut(&life.sink).filter(|queue| queue.life == life.number)
    }

    /// Forgets a sink and what waits for it.
    pub fn remove_sink(&mut self, sink: &str) {
        if let Some(queue) = self.sinks.remove(sink) {
            queue.waiting.into_iter().for_each(|name| self.release(name));
        }
    }

    /// Adds batches, with their lengths, that an earlier life left for a sink.
    pub fn found(&mut self, sink: &str, batches: Vec<(Name, u64)>) {
        let Some(queue) = self.sinks.get_mut(sink) else { return };
        for (name, length) in batches {
            if queue.waiting.insert(name) {
                queue.counts.ledger.found += 1;
                hold(&mut self.files, &mut self.bytes, name, length);
            }
        }
    }

    /// Finds a name for a window that began then: after those of that very moment.
    pub fn free_name(&self, start_unix_ns: u64) -> Name {
        let named = |number| Name { start_unix_ns, number };
        let mut same = self.files.range(named(0)..=named(u32::MAX));
        named(same.next_back().map_or(0, |(last, _)| last.number.saturating_add(1)))
    }

    /// Drops the oldest batches until so many bytes on the disk have room, and gives their
    /// files, to be removed. Those that are on their way stay. `None` when that leaves too little
    /// room; then nothing is dropped.
    pub fn make_room(&mut self, bytes: u64) -> Option<Vec<(SinkName, Name)>> {
        let needed = (self.bytes + bytes).saturating_sub(self.bytes_max);
        let sending: BTreeSet<Name> = self.sinks.values().filter_map(|q| q.sending).collect();
        let (mut freed, mut dropped) = (0, Vec::new());
        for (name, held) in self.files.iter().filter(|(name, _)| !sending.contains(name)) {
            if freed >= needed {
                break;
            }
            freed += held.bytes;
            dropped.push(*name);
        }
        (freed >= needed).then(|| dropped.into_iter().flat_map(|name| self.give_up(name)).collect())
    }

    /// Takes a batch from all that wait for it.
    fn give_up(&mut self, name: Name) -> Vec<(SinkName, Name)> {
        let mut files = Vec::new();
        for (sink, queue) in &mut self.sinks {
            if queue.waiting.remove(&name) {
                queue.counts.ledger.lost.add(Failure::SpoolFull);
                files.push((sink.clone(), name));
            }
        }
        files.iter().for_each(|_| self.release(name));
        files
    }

    /// Notes how a window of this name and length was closed: in the spool for some sinks,
    /// lost for the others by reason.
    pub fn closed(&mut self, name: Name, length: u64, sinks: &[(SinkName, Result<(), Failure>)]) {
        for (sink, accepted) in sinks {
            let Some(queue) = self.sinks.get_mut(sink) else { continue };
            queue.counts.ledger.closed += 1;
            match accepted {
                Ok(()) => {
                    queue.waiting.insert(name);
                    hold(&mut self.files, &mut self.bytes, name, length);
                }
                Err(reason) => queue.counts.ledger.lost.add(*reason),
            }
        }
        match sinks.iter().find_map(|(_, accepted)| accepted.err()) {
            None => self.accepted += 1,
            Some(reason) => self.refused.add(reason),
        }
    }

    /// Gives the oldest batch that waits for a sink, which is then on its way.
    pub fn next(&mut self, life: &Life) -> Option<Name> {
        let queue = self.of_life(life)?;
        queue.sending = queue.waiting.first().copied();
        queue.sending
    }

    /// The batch on its way to a sink.
    pub fn sending(&mut self, life: &Life) -> Option<Name> {
        self.of_life(life)?.sending
    }

    /// Notes that the batch on its way was not delivered and waits again. `failed`: why,
    /// when the sink was asked.
    pub fn again(&mut self, life: &Life, failed: Option<(Failure, String)>) {
        let Some(queue) = self.of_life(life) else { return };
        queue.sending = None;
        if let Some((reason, text)) = failed {
            queue.counts.attempts.later.add(reason);
            queue.counts.last_error = Some(text);
        }
    }

    /// Notes how the batch on its way has left.
    pub fn ended(&mut self, life: &Life, end: End) {
        let Some(queue) = self.of_life(life) else { return };
        let Some(name) = queue.sending.take() else { return };
        queue.waiting.remove(&name);
        queue.counts.note(end);
        self.release(name);
    }

    /// Notes that a damaged file was moved out of the way.
    pub fn set_aside(&mut self, life: &Life) {
        if let Some(queue) = self.of_life(life) {
            queue.counts.set_aside += 1;
        }
    }

    /// One sink less waits for a batch.
    fn release(&mut self, name: Name) {
        let Some(held) = self.files.get_mut(&name) else { return };
        held.sinks -= 1;
        if held.sinks == 0 {
            self.bytes -= held.bytes;
            self.files.remove(&name);
        }
    }

    /// Counts as of this moment.
    pub fn counts(&self) -> Counts {
        let sinks = self.sinks.iter().map(|(sink, queue)| (sink.to_string(), self.of(queue)));
        Counts {
            closed: self.accepted + self.refused.total(),
            accepted: self.accepted,
            refused: self.refused,
            spool_bytes: self.bytes,
            spool_bytes_max: self.bytes_max,
            sinks: sinks.collect(),
        }
    }

    /// Counts a file whose debug info a sink has dealt with.
    pub fn dealt_with(&mut self, life: &Life, end: UploadEnd) {
        if let Some(queue) = self.of_life(life) {
            queue.counts.uploads.add(end);
        }
    }

    fn of(&self, queue: &Queue) -> SinkCounts {
        let mut counts = queue.counts.clone();
        counts.ledger.pending = queue.waiting.len() as u64;
        let bytes = queue.waiting.iter().filter_map(|name| self.files.get(name));
        counts.spool_bytes = bytes.map(|held| held.bytes).sum();
        counts.oldest_age = queue.waiting.first().map(|name| age(name.start_unix_ns));
        counts
    }
}

impl SinkCounts {
    fn note(&mut self, end: End) {
        match end {
            End::Delivered(bytes) => {
                self.ledger.delivered += 1;
                self.attempts.delivered += 1;
                self.bytes_sent += bytes;
            }
            End::Partly { bytes, rejected, text } => {
                self.ledger.partly += 1;
                self.attempts.partly += 1;
                self.bytes_sent += bytes;
                self.rejected += rejected;
                self.last_error = Some(text);
            }
            End::Refused(reason, text) => {
                self.ledger.lost.add(reason);
                self.attempts.refused.add(reason);
                self.last_error = Some(text);
            }
            End::Lost(reason, text) => {
                self.ledger.lost.add(reason);
                self.last_error = Some(text);
            }
        }
    }
}

/// Notes that one more sink waits for a file.
fn hold(files: &mut BTreeMap<Name, Held>, bytes: &mut u64, name: Name, length: u64) {
    let held = files.entry(name).or_insert_with(|| {
        *bytes += on_disk(length);
        Held { bytes: on_disk(length), sinks: 0 }
    });
    held.sinks += 1;
}

/// How long ago a moment was; nothing for one to come.
fn age(unix_ns: u64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_nanos(unix_ns))
}
