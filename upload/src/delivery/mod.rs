//! Delivery: every closed window is accepted or counted as lost, and every accepted window reaches
//! each sink or is counted as lost.
//!
//! ```text
//!                  spool (disk)       queues (memory)     sink loops (a thread each)
//! accept(batch) -> DIRECTORY/a/... -> queue of sink a --> loop a -> sink a -> server a
//!    |             DIRECTORY/b/... -> queue of sink b --> loop b -> sink b -> directory b
//!    v                                     |                 |
//! lost(reason)                             +---- ledger <----+
//! ```
//!
//! - `intake` accepts a batch: its file and all directory entries are on disk. From then on, a
//!   crash or a power loss does not lose the batch.
//! - `queues` orders the batches of each sink, oldest first, and evicts the oldest when the spool
//!   has reached its limit. An evicted batch is counted for each sink that still waits for it.
//! - `sink_loop` takes the oldest batch, reads it from the spool and sends it. A batch that cannot
//!   be delivered now is retried after a backoff of half a second to five minutes, or as long as
//!   the server asks for, 15 minutes at most. A batch that the sink rejects for good is counted and
//!   dropped.
//! - `ledger` accounts for every window; [`Counts::check`] verifies that none is missing.
//!
//! A sink that hangs, blocks or panics delays no other sink.

mod config;
mod counting_debug_info;
mod counts;
mod error;
mod intake;
mod ledger;
mod pacing;
mod queues;
mod shared;
mod sink_loop;
mod sink_thread;
#[cfg(test)]
mod tests;
mod throttled_warnings;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use crate::batch::Batch;
use crate::cpu_allowance::{CpuAllowance, Unlimited};
use crate::debug_info::DebugInfoSource;
use crate::disk::LockError;
use crate::spool::Spool;
use config::check_names;
use counting_debug_info::CountingDebugInfo;
use intake::Intake;
use pacing::Pacing;
use queues::{Queues, SinkName};
use shared::{Shared, lock};
use sink_loop::SinkContext;
use sink_thread::SinkThread;

pub use config::{DeliveryConfig, NamedSink};
pub use counts::{Attempts, Counts, DebugInfoCounts, SinkCounts};
pub use error::StartError;
pub use intake::AcceptError;
pub use ledger::{FailureCounts, Ledger};

/// Interval at which [`Delivery::stop`] polls the threads of the sinks.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Time after the deadline for these threads to end, which they do as soon as they see it.
const GRACE: Duration = Duration::from_millis(500);

/// The delivery of one agent.
///
/// Dropping it without [`Delivery::stop`] aborts the attempts in flight. Batches that wait remain
/// in the spool.
pub struct Delivery {
    shared: Arc<Shared>,
    pacing: Pacing,
    debug_info: Option<Arc<dyn DebugInfoSource>>,
    allowance: Arc<dyn CpuAllowance>,
    threads: Mutex<BTreeMap<SinkName, SinkThread>>,
    intake: Mutex<Intake>,
}

impl Delivery {
    /// Starts a thread for each sink. Batches that an earlier run left are delivered first.
    ///
    /// `debug_info`: the source of executables for servers that want debug info. A spool that
    /// cannot be written and a server that is unreachable are no errors here: they may recover, and
    /// until then losses are counted.
    ///
    /// # Errors
    /// [`StartError`] for an invalid configuration, or a spool or store that another process has
    /// locked, and has not released within some seconds.
    pub fn start(
        config: &DeliveryConfig,
        debug_info: Option<Arc<dyn DebugInfoSource>>,
    ) -> Result<Self, StartError> {
        Self::start_within(Arc::new(Unlimited), config, debug_info)
    }

    /// Like [`Self::start`], within an allowance of CPU time: sends wait while it is used up.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_within(
        allowance: Arc<dyn CpuAllowance>,
        config: &DeliveryConfig,
        debug_info: Option<Arc<dyn DebugInfoSource>>,
    ) -> Result<Self, StartError> {
        Self::start_with_pacing(Pacing::default(), allowance, config, debug_info)
    }

    fn start_with_pacing(
        pacing: Pacing,
        allowance: Arc<dyn CpuAllowance>,
        config: &DeliveryConfig,
        debug_info: Option<Arc<dyn DebugInfoSource>>,
    ) -> Result<Self, StartError> {
        check_names(&config.sinks)?;
        let spool = Spool::new(config.spool.directory.clone());
        if let Err(LockError::InUse) = spool.lock(pacing.lock_wait) {
            return Err(StartError::InUse(spool.directory().to_owned()));
        }
        let delivery = Self {
            shared: Arc::new(Shared::new(spool, Queues::new(config.spool.max_bytes))),
            pacing,
            debug_info,
            allowance,
            threads: Mutex::default(),
            intake: Mutex::default(),
        };
        for sink in &config.sinks {
            let thread = delivery.start_thread(sink)?;
            delivery.add_sink(thread);
        }
        lock(&delivery.intake).open(&delivery.shared);
        delivery.wake_threads();
        Ok(delivery)
    }

    /// Checks a configuration as [`Delivery::start`] does, without touching the spool.
    ///
    /// # Errors
    /// [`StartError`] for an invalid configuration.
    pub fn check(config: &DeliveryConfig) -> Result<(), StartError> {
        check_names(&config.sinks)?;
        let mut sinks = config.sinks.iter();
        sinks.try_for_each(|sink| sink_thread::check(&sink.name, &sink.settings))
    }

    /// Accepts a window for all sinks. Blocks until its file and all directory entries are on disk.
    ///
    /// # Errors
    /// [`AcceptError`] if this failed for some sink, which then counts the window as lost. The
    /// other sinks have it.
    pub fn accept(&self, batch: &Batch) -> Result<(), AcceptError> {
        let mut intake = lock(&self.intake);
        let result = intake.accept(&self.shared, batch);
        self.wake_threads();
        result
    }

    /// Applies a new configuration. Unchanged sinks continue, but end a backoff and retry at once.
    /// Batches of a removed sink remain in the spool.
    ///
    /// # Errors
    /// [`StartError`] for an invalid configuration; the current one stays in effect.
    pub fn reload(&self, config: &DeliveryConfig) -> Result<(), StartError> {
        check_names(&config.sinks)?;
        let from = self.shared.spool.directory();
        if from != config.spool.directory {
            let to = config.spool.directory.clone();
            return Err(StartError::SpoolMoved { from: from.to_owned(), to });
        }
        // Holding the intake, so that each window finds either the old sinks or the new ones.
        let mut intake = lock(&self.intake);
        let (added, present): (Vec<&NamedSink>, Vec<&NamedSink>) = {
            let threads = lock(&self.threads);
            config.sinks.iter().partition(|sink| !threads.contains_key(sink.name.as_str()))
        };
        let mut changed = present.iter().filter(|sink| self.has_changed(sink));
        changed.try_for_each(|sink| sink_thread::check(&sink.name, &sink.settings))?;
        let started = added.iter().map(|sink| self.start_thread(sink));
        let started = started.collect::<Result<Vec<_>, _>>()?;

        self.shared.queues().set_bytes_max(config.spool.max_bytes);
        self.remove_all_except(&config.sinks);
        present.iter().for_each(|sink| self.update_thread(sink));
        for thread in started {
            let (sink, wake) = (thread.generation.sink.clone(), thread.wake.clone());
            self.add_sink(thread);
            intake.queue_found(&self.shared, &sink);
            wake.notify_one();
        }
        Ok(())
    }

    /// Returns the number by which this agent is distinguished from others. It lasts as long as the
    /// spool.
    pub fn instance(&self) -> u64 {
        self.shared.spool.instance()
    }

    /// Returns the counts of this moment.
    pub fn counts(&self) -> Counts {
        self.shared.queues().counts()
    }

    /// Delivers waiting batches until the deadline or the first failure, and returns the final
    /// counts. Batches that still wait remain in the spool.
    pub fn stop(self, deadline: Duration) -> Counts {
        let stop_at = Instant::now() + deadline;
        let threads = std::mem::take(&mut *lock(&self.threads));
        threads.values().for_each(|thread| thread.stop_at(stop_at));
        let have_ended = || threads.values().all(|thread| thread.join_handle.is_finished());
        while !have_ended() && Instant::now() < stop_at + GRACE {
            thread::sleep(POLL_INTERVAL);
        }
        self.counts()
    }

    fn start_thread(&self, sink: &NamedSink) -> Result<SinkThread, StartError> {
        let generation = self.shared.queues().new_generation(sink.name.as_str().into());
        let counting = |source: &Arc<dyn DebugInfoSource>| {
            let (source, generation) = (source.clone(), generation.clone());
            let (shared, allowance) = (self.shared.clone(), self.allowance.clone());
            Arc::new(CountingDebugInfo { source, generation, shared, allowance })
                as Arc<dyn DebugInfoSource>
        };
        let debug_info = self.debug_info.as_ref().map(counting);
        sink_thread::start(SinkContext {
            generation,
            settings: Arc::new(sink.settings.clone()),
            debug_info,
            shared: self.shared.clone(),
            pacing: self.pacing,
            allowance: self.allowance.clone(),
        })
    }

    fn add_sink(&self, thread: SinkThread) {
        self.shared.queues().add_sink(&thread.generation);
        lock(&self.threads).insert(thread.generation.sink.clone(), thread);
    }

    fn wake_threads(&self) {
        lock(&self.threads).values().for_each(|thread| thread.wake.notify_one());
    }

    fn has_changed(&self, sink: &NamedSink) -> bool {
        let threads = lock(&self.threads);
        let thread = threads.get(sink.name.as_str());
        thread.is_none_or(|thread| *thread.control.borrow().settings != sink.settings)
    }

    /// Passes the settings to the sink's thread, even if unchanged: this ends its backoff.
    fn update_thread(&self, sink: &NamedSink) {
        let threads = lock(&self.threads);
        let Some(thread) = threads.get(sink.name.as_str()) else { return };
        thread.control.send_modify(|control| control.settings = sink.settings.clone().into());
    }

    /// Removes all sinks that are not among these and stops their threads.
    fn remove_all_except(&self, sinks: &[NamedSink]) {
        let mut threads = lock(&self.threads);
        let is_configured = |name: &str| sinks.iter().any(|sink| sink.name == name);
        let removed: Vec<_> = threads.keys().filter(|name| !is_configured(name)).cloned().collect();
        for name in removed {
            if let Some(thread) = threads.remove(&name) {
                thread.stop_at(Instant::now());
            }
            let waiting = self.shared.queues().waiting(&name);
            self.shared.queues().remove_sink(&name);
            tracing::info!(
                "the sink `{name}` is no longer configured; {waiting} batches stay in {}",
                self.shared.spool.directory().join(&*name).display()
            );
        }
    }
}
