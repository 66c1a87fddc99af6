//! New settings while the agent runs: sinks come, go and change; the spool stays.

use tokio::time::Instant;

use super::{Delivery, NamedSink, Settings, check_names, lock, worker};
use crate::sinks::StartError;

impl Delivery {
    /// Follows new settings. Sinks that have not changed go on as they are, but end a wait
    /// and try again at once. What waits for a sink that has gone stays in the spool.
    ///
    /// # Errors
    /// [`StartError`] for settings that cannot be followed; then nothing has changed.
    pub fn reload(&self, settings: &Settings) -> Result<(), StartError> {
        check_names(&settings.sinks)?;
        let here = self.shared.spool.directory();
        if here != settings.spool.directory {
            let to = settings.spool.directory.clone();
            return Err(StartError::SpoolMoved { from: here.to_owned(), to });
        }
        // No window comes in meanwhile: each finds the old sinks or the new ones.
        let door = &mut *lock(&self.door);
        let (new, known): (Vec<&NamedSink>, Vec<&NamedSink>) = {
            let workers = lock(&self.workers);
            settings.sinks.iter().partition(|sink| !workers.contains_key(sink.name.as_str()))
        };
        let mut changed = known.iter().filter(|sink| self.has_changed(sink));
        changed.try_for_each(|sink| worker::check(&sink.name, &sink.settings))?;
        let started = new.iter().map(|sink| self.start_worker(sink));
        let started = started.collect::<Result<Vec<_>, _>>()?;

        self.shared.queues().set_bytes_max(settings.spool.bytes_max);
        self.part_with_others(&settings.sinks);
        known.iter().for_each(|sink| self.tell_worker(sink));
        for (sink, handle) in new.iter().zip(started) {
            let wake = handle.wake.clone();
            self.add_sink(handle);
            if door.is_open {
                let found = self.find(door, &sink.name);
                self.shared.queues().found(&sink.name, found);
            }
            wake.notify_one();
        }
        Ok(())
    }

    fn has_changed(&self, sink: &NamedSink) -> bool {
        let workers = lock(&self.workers);
        let handle = workers.get(sink.name.as_str());
        handle.is_none_or(|handle| *handle.orders.borrow().settings != sink.settings)
    }

    /// Stops the workers of sinks that are not among these.
    fn part_with_others(&self, sinks: &[NamedSink]) {
        let mut workers = lock(&self.workers);
        let is_kept = |name: &str| sinks.iter().any(|sink| sink.name == name);
        let gone: Vec<_> = workers.keys().filter(|name| !is_kept(name)).cloned().collect();
        for name in gone {
            if let Some(handle) = workers.remove(&name) {
                handle.orders.send_modify(|orders| orders.stop_at = Some(Instant::now()));
            }
            let waiting = self.shared.queues().waiting(&name);
            self.shared.queues().remove_sink(&name);
            tracing::info!(
                "the sink `{name}` has gone from the configuration; {waiting} windows stay in {}",
                self.shared.spool.directory().join(&*name).display()
            );
        }
    }

    fn tell_worker(&self, sink: &NamedSink) {
        let workers = lock(&self.workers);
        let Some(handle) = workers.get(sink.name.as_str()) else { return };
        handle.orders.send_modify(|orders| orders.settings = sink.settings.clone().into());
    }
}
