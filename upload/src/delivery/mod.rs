//! Delivery: every closed window is accepted or counted as lost, and what was accepted
//! reaches each sink or is counted as lost.
//!
//! ```text
//!                     spool, on the disk
//! accept(batch) -->  SINK-A/ -- worker A --> server A       each worker is a thread;
//!      |              SINK-B/ -- worker B --> directory      none waits for another
//!      v
//! lost(reason)
//! ```
//!
//! - A batch is *accepted* when its file and the names of it are on the disk. From then on
//!   a crash or a power loss does not lose it.
//! - A sink gets its batches oldest first. What cannot be delivered now is tried again, with
//!   waits from half a second to five minutes, or longer if the server asks. What a sink refuses for
//!   good is counted and dropped.
//! - When the spool has reached its bound, the oldest batch is dropped and counted, for each
//!   sink that still waits for it.
//! - [`Counts::check`] proves that no window is missing in the books.

mod accept;
mod complaints;
mod counted;
mod counts;
mod ledger;
mod pace;
mod queues;
mod reload;
#[cfg(test)]
pub(crate) mod tests;
mod worker;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use crate::debug_info::DebugInfo;
use crate::sinks::{SinkSettings, StartError};
use crate::spool::{self, NotTaken, Spool};
use accept::Door;
use counted::Counted;
use pace::Pace;
use queues::{Queues, SinkName};
use worker::{Handle, Orders, Parts};

pub use accept::Refused;
pub use counts::{Attempts, Counts, SinkCounts, Uploads};
pub use ledger::{Ledger, Reasons};

/// How often a stopping delivery looks whether its workers have ended.
const LOOK: Duration = Duration::from_millis(2);

/// How long after the deadline it still looks: a worker ends as soon as it is told.
const GRACE: Duration = Duration::from_millis(500);

/// Where windows wait and where they go.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The spool.
    pub spool: spool::Settings,
    /// The sinks, at least one.
    pub sinks: Vec<NamedSink>,
}

/// A sink and its name.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedSink {
    /// Unique. The directory in the spool, and in logs and metrics.
    pub name: String,
    /// What it is.
    pub settings: SinkSettings,
}

/// The delivery of one agent. See the module.
///
/// When it is dropped without [`Delivery::stop`], attempts that are under way are broken off;
/// what waits stays in the spool.
pub struct Delivery {
    shared: Arc<Shared>,
    pace: Pace,
    debug_info: Option<Arc<dyn DebugInfo>>,
    workers: Mutex<BTreeMap<SinkName, Handle>>,
    door: Mutex<Door>,
}

/// What the delivery and its workers share.
pub(crate) struct Shared {
    spool: Spool,
    queues: Mutex<Queues>,
}

impl Shared {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        lock(&self.queues)
    }
}

/// The books are right after every single step, so a panic elsewhere does not spoil them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Delivery {
    /// Starts the workers, which first deliver what an earlier life left.
    ///
    /// `debug_info`: where sinks get executables for stores that want them. A spool that
    /// cannot be written or a server that cannot be reached is no error here: it may come
    /// back, and until then its losses are counted.
    ///
    /// # Errors
    /// [`StartError`] for settings that cannot be followed and for a spool that another
    /// process has.
    pub fn start(
        settings: &Settings,
        debug_info: Option<Arc<dyn DebugInfo>>,
    ) -> Result<Self, StartError> {
        Self::start_at(Pace::default(), settings, debug_info)
    }

    fn start_at(
        pace: Pace,
        settings: &Settings,
        debug_info: Option<Arc<dyn DebugInfo>>,
    ) -> Result<Self, StartError> {
        check_names(&settings.sinks)?;
        let spool = Spool::new(settings.spool.directory.clone());
        if let Err(NotTaken::InUse) = spool.take() {
            return Err(StartError::InUse(spool.directory().to_owned()));
        }
        let queues = Mutex::new(Queues::new(settings.spool.bytes_max));
        let delivery = Self {
            shared: Arc::new(Shared { spool, queues }),
            pace,
            debug_info,
            workers: Mutex::default(),
            door: Mutex::default(),
        };
        for sink in &settings.sinks {
            let handle = delivery.start_worker(sink)?;
            delivery.add_sink(handle);
        }
        delivery.open();
        Ok(delivery)
    }

    /// Checks settings as [`Delivery::start`] does, without a look at the spool.
    ///
    /// # Errors
    /// [`StartError`] for settings that cannot be followed.
    pub fn check(settings: &Settings) -> Result<(), StartError> {
        check_names(&settings.sinks)?;
        settings.sinks.iter().try_for_each(|sink| worker::check(&sink.name, &sink.settings))
    }

    fn start_worker(&self, sink: &NamedSink) -> Result<Handle, StartError> {
        let life = self.shared.queues().new_life(sink.name.as_str().into());
        let counted = |files: &Arc<dyn DebugInfo>| {
            let (files, life, shared) = (files.clone(), life.clone(), self.shared.clone());
            Arc::new(Counted { files, life, shared }) as Arc<dyn DebugInfo>
        };
        let debug_info = self.debug_info.as_ref().map(counted);
        worker::start(Parts {
            life,
            settings: Arc::new(sink.settings.clone()),
            debug_info,
            shared: self.shared.clone(),
            pace: self.pace,
        })
    }

    fn add_sink(&self, handle: Handle) {
        self.shared.queues().add_sink(&handle.life);
        lock(&self.workers).insert(handle.life.sink.clone(), handle);
    }

    /// Counts as of this moment.
    pub fn counts(&self) -> Counts {
        self.shared.queues().counts()
    }

    /// Delivers what waits, as long as that works and until the deadline; the rest stays in
    /// the spool. Gives the last counts.
    pub fn stop(self, deadline: Duration) -> Counts {
        let stop_at = Instant::now() + deadline;
        let workers = std::mem::take(&mut *lock(&self.workers));
        for handle in workers.values() {
            handle.orders.send_modify(|orders: &mut Orders| orders.stop_at = Some(stop_at));
        }
        let is_over = || workers.values().all(|handle| handle.thread.is_finished());
        while !is_over() && Instant::now() < stop_at + GRACE {
            thread::sleep(LOOK);
        }
        self.counts()
    }
}

/// Names are directories: plain ones, and each for one sink.
fn check_names(sinks: &[NamedSink]) -> Result<(), StartError> {
    if sinks.is_empty() {
        return Err(StartError::NoSink);
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    for (place, NamedSink { name, .. }) in sinks.iter().enumerate() {
        if name.is_empty()
            || name.len() > 64
            || name.starts_with('.')
            || !name.chars().all(is_plain)
        {
            return Err(StartError::Name(name.clone()));
        }
        if sinks[..place].iter().any(|other| other.name == *name) {
            return Err(StartError::Twice(name.clone()));
        }
    }
    Ok(())
}
