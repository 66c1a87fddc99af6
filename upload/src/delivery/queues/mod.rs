//! The queue of each sink, the bound of the spool, and the counts of both.
//!
//! Everything is in memory and under one lock, so the ledger balances at every moment. Callers move
//! the files, before or after.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use profile::BootTime;

use super::counts::{Counts, SinkCounts};
use super::ledger::FailureCounts;
use crate::batch::Failure;
use crate::clock::{Clock, SystemClock, age};
use crate::debug_info::UploadStatus;
use crate::disk::allocated_bytes;
use crate::spool::BatchName;
use crate::transport::ResponseCounts;

/// Name of a sink.
pub type SinkName = Arc<str>;

/// One generation of a sink. A sink that is removed from the configuration and added again has a
/// new one, so that the thread of the old generation, which hung meanwhile, changes none of the new
/// counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    pub sink: SinkName,
    /// Unique among all generations of all sinks.
    number: u64,
}

/// The queues of all sinks.
#[derive(Debug)]
pub struct Queues {
    clock: Box<dyn Clock>,
    bytes_max: u64,
    /// Disk space of all files, in bytes.
    bytes: u64,
    files: BTreeMap<BatchName, SpoolFile>,
    sinks: BTreeMap<SinkName, Queue>,
    /// Generations handed out so far.
    generations: u64,
    accepted: u64,
    refused: FailureCounts,
}

/// The file of a batch in the spool.
#[derive(Debug)]
struct SpoolFile {
    /// Disk space in bytes.
    bytes: u64,
    /// Number of sinks that the batch waits for.
    sinks: usize,
}

/// The queue of one sink.
#[derive(Debug, Default)]
struct Queue {
    /// Number of the generation that the queue belongs to.
    generation: u64,
    /// Batches in the order of delivery, the one in flight included.
    waiting: BTreeSet<BatchName>,
    in_flight: Option<BatchName>,
    counts: SinkCounts,
}

/// How a batch leaves the queue of a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// Delivered, with this many bytes sent.
    Delivered(u64),
    /// Delivered except for `rejected` series or samples.
    Partly { bytes: u64, rejected: u64, text: String },
    /// Rejected by the sink for good.
    Rejected(Failure, String),
    /// Lost before it could be sent.
    Lost(Failure, String),
}

impl Queues {
    /// Creates queues without a sink. `bytes_max`: bound of the spool's disk space.
    pub fn new(bytes_max: u64) -> Self {
        Self {
            clock: Box::new(SystemClock::new()),
            bytes_max,
            bytes: 0,
            files: BTreeMap::new(),
            sinks: BTreeMap::new(),
            generations: 0,
            accepted: 0,
            refused: FailureCounts::default(),
        }
    }

    /// Changes the bound. Excess batches are evicted by the next [`Self::evict_for`].
    pub fn set_bytes_max(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
    }

    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Returns how many batches wait for a sink.
    pub fn waiting(&self, sink: &str) -> u64 {
        self.sinks.get(sink).map_or(0, |queue| queue.waiting.len() as u64)
    }

    /// Returns the names of all sinks, sorted.
    pub fn sinks(&self) -> Vec<SinkName> {
        self.sinks.keys().cloned().collect()
    }

    /// Returns a new generation for a sink that is about to be added.
    pub fn new_generation(&mut self, sink: SinkName) -> Generation {
        self.generations += 1;
        Generation { sink, number: self.generations }
    }

    /// Adds a sink with an empty queue.
    pub fn add_sink(&mut self, generation: &Generation) {
        let queue = Queue { generation: generation.number, ..Queue::default() };
        self.sinks.insert(generation.sink.clone(), queue);
    }

    /// Returns whether a newer generation has replaced this one.
    pub fn is_superseded(&self, generation: &Generation) -> bool {
        let queue = self.sinks.get(&generation.sink);
        queue.is_some_and(|queue| queue.generation != generation.number)
    }

    /// Returns the queue of a generation, unless it was removed or superseded.
    fn queue_of(&mut self, generation: &Generation) -> Option<&mut Queue> {
        let queue = self.sinks.get_mut(&generation.sink);
        queue.filter(|queue| queue.generation == generation.number)
    }

    /// Removes a sink and its queue.
    pub fn remove_sink(&mut self, sink: &str) {
        if let Some(queue) = self.sinks.remove(sink) {
            queue.waiting.into_iter().for_each(|name| self.release(name));
        }
    }

    /// Queues batches, given with their lengths, that an earlier run left for a sink.
    pub fn add_found(&mut self, sink: &str, batches: Vec<(BatchName, u64)>) {
        let Some(queue) = self.sinks.get_mut(sink) else { return };
        for (name, length) in batches {
            if queue.waiting.insert(name) {
                queue.counts.ledger.found += 1;
                retain(&mut self.files, &mut self.bytes, name, length);
            }
        }
    }

    /// Returns an unused name for a window, after those of all batches: a wall clock that was set
    /// back does not make it the oldest. `start`: on the clock of its boot, if known.
    pub fn free_name(&self, start_unix_ns: u64, start: Option<BootTime>) -> BatchName {
        let after_last =
            self.files.last_key_value().map_or(0, |(last, _)| last.order().saturating_add(1));
        BatchName::new(start_unix_ns.max(after_last), start_unix_ns, start)
    }

    /// Evicts the oldest batches until `bytes` more of disk space fit. Returns the files to remove.
    ///
    /// Batches in flight are not evicted. Returns `None`, and evicts nothing, if the space cannot
    /// be freed.
    pub fn evict_for(&mut self, bytes: u64) -> Option<Vec<(SinkName, BatchName)>> {
        let needed = (self.bytes + bytes).saturating_sub(self.bytes_max);
        let in_flight: BTreeSet<BatchName> =
            self.sinks.values().filter_map(|queue| queue.in_flight).collect();
        let (mut freed, mut evicted) = (0, Vec::new());
        for (name, file) in self.files.iter().filter(|(name, _)| !in_flight.contains(name)) {
            if freed >= needed {
                break;
            }
            freed += file.bytes;
            evicted.push(*name);
        }
        (freed >= needed).then(|| evicted.into_iter().flat_map(|name| self.evict(name)).collect())
    }

    /// Removes a batch from all queues and counts it as lost for each.
    fn evict(&mut self, name: BatchName) -> Vec<(SinkName, BatchName)> {
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

    /// Records a closed window of this name and length: queued for the sinks that accepted it, lost
    /// for the others.
    pub fn add_closed(
        &mut self,
        name: BatchName,
        length: u64,
        sinks: &[(SinkName, Result<(), Failure>)],
    ) {
        for (sink, accepted) in sinks {
            let Some(queue) = self.sinks.get_mut(sink) else { continue };
            queue.counts.ledger.closed += 1;
            match accepted {
                Ok(()) => {
                    queue.waiting.insert(name);
                    retain(&mut self.files, &mut self.bytes, name, length);
                }
                Err(reason) => queue.counts.ledger.lost.add(*reason),
            }
        }
        match sinks.iter().find_map(|(_, accepted)| accepted.err()) {
            None => self.accepted += 1,
            Some(reason) => self.refused.add(reason),
        }
    }

    /// Returns the oldest batch that waits for a sink and marks it as in flight.
    pub fn next(&mut self, generation: &Generation) -> Option<BatchName> {
        let queue = self.queue_of(generation)?;
        queue.in_flight = queue.waiting.first().copied();
        queue.in_flight
    }

    /// Returns the batch in flight.
    pub fn in_flight(&mut self, generation: &Generation) -> Option<BatchName> {
        self.queue_of(generation)?.in_flight
    }

    /// Returns the batch in flight to the queue. `failure`: the reason, if an attempt was made.
    pub fn requeue(&mut self, generation: &Generation, failure: Option<(Failure, String)>) {
        let Some(queue) = self.queue_of(generation) else { return };
        queue.in_flight = None;
        if let Some((reason, text)) = failure {
            queue.counts.attempts.later.add(reason);
            queue.counts.last_error = Some(text);
        }
    }

    /// Removes the batch in flight from the queue and counts its completion.
    pub fn complete(&mut self, generation: &Generation, completion: Completion) {
        let Some(queue) = self.queue_of(generation) else { return };
        let Some(name) = queue.in_flight.take() else { return };
        queue.waiting.remove(&name);
        queue.counts.add(completion);
        self.release(name);
    }

    /// Counts responses of a sink's server.
    pub fn count_responses(&mut self, generation: &Generation, responses: &ResponseCounts) {
        if let Some(queue) = self.queue_of(generation) {
            queue.counts.responses.add(responses);
        }
    }

    /// Adds time for which batches of a sink waited for CPU time.
    pub fn count_cpu_wait(&mut self, generation: &Generation, waited: Duration) {
        if let Some(queue) = self.queue_of(generation) {
            queue.counts.cpu_wait += waited;
        }
    }

    /// Counts a file that was moved into quarantine.
    pub fn count_quarantined(&mut self, generation: &Generation) {
        if let Some(queue) = self.queue_of(generation) {
            queue.counts.quarantined += 1;
        }
    }

    /// Counts a file whose debug info was offered to a sink's server.
    pub fn count_upload(&mut self, generation: &Generation, status: UploadStatus) {
        if let Some(queue) = self.queue_of(generation) {
            queue.counts.debug_info.add(status);
        }
    }

    /// Drops one sink's reference to a file.
    fn release(&mut self, name: BatchName) {
        let Some(file) = self.files.get_mut(&name) else { return };
        file.sinks -= 1;
        if file.sinks == 0 {
            self.bytes -= file.bytes;
            self.files.remove(&name);
        }
    }

    /// Returns the counts of this moment.
    pub fn counts(&self) -> Counts {
        let counts_of =
            |(sink, queue): (&SinkName, &Queue)| (sink.to_string(), self.counts_of(queue));
        Counts {
            closed: self.accepted + self.refused.total(),
            accepted: self.accepted,
            refused: self.refused,
            spool_bytes: self.bytes,
            spool_bytes_max: self.bytes_max,
            sinks: self.sinks.iter().map(counts_of).collect(),
        }
    }

    fn counts_of(&self, queue: &Queue) -> SinkCounts {
        let mut counts = queue.counts.clone();
        counts.ledger.pending = queue.waiting.len() as u64;
        let files = queue.waiting.iter().filter_map(|name| self.files.get(name));
        counts.spool_bytes = files.map(|file| file.bytes).sum();
        let age_of = |name: &BatchName| age(&*self.clock, name.start_unix_ns(), name.start());
        counts.oldest_age = queue.waiting.first().map(age_of);
        counts
    }
}

impl SinkCounts {
    fn add(&mut self, completion: Completion) {
        match completion {
            Completion::Delivered(bytes) => {
                self.ledger.delivered += 1;
                self.attempts.delivered += 1;
                self.bytes_sent += bytes;
            }
            Completion::Partly { bytes, rejected, text } => {
                self.ledger.partly += 1;
                self.attempts.partly += 1;
                self.bytes_sent += bytes;
                self.rejected += rejected;
                self.last_error = Some(text);
            }
            Completion::Rejected(reason, text) => {
                self.ledger.lost.add(reason);
                self.attempts.rejected.add(reason);
                self.last_error = Some(text);
            }
            Completion::Lost(reason, text) => {
                self.ledger.lost.add(reason);
                self.last_error = Some(text);
            }
        }
    }
}

/// Adds one sink's reference to a file.
fn retain(
    files: &mut BTreeMap<BatchName, SpoolFile>,
    bytes: &mut u64,
    name: BatchName,
    length: u64,
) {
    let file = files.entry(name).or_insert_with(|| {
        let allocated = allocated_bytes(length);
        *bytes += allocated;
        SpoolFile { bytes: allocated, sinks: 0 }
    });
    file.sinks += 1;
}
