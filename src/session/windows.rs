//! The window that is filled, and the one before it while its last samples are on their way.

use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use profile::{CaptureLedger, Cpu, Window};

use super::SessionCounts;
use crate::aggregate::Aggregator;
use crate::events::RawSample;
use crate::processes::{Executables, WindowExecutables};

/// How long samples are waited for: those that wait for a table, and those that have not come. A CPU that is stopped in the middle of
/// writing one hides all behind it in the ring; what there was no room for never comes.
const PATIENCE: Duration = Duration::from_secs(2);

/// A window that is complete. Its ledger and counts lack what only the sampler knows.
pub(super) struct Closed {
    pub window: Window,
    pub ledger: CaptureLedger,
    pub executables: WindowExecutables,
    pub counts: SessionCounts,
}

/// Windows by the samples that belong to them: each CPU numbers its samples, and a cut lies between two of them.
pub(super) struct Windows {
    bytes_max: usize,
    /// Counts the windows begun.
    number: u64,
    current: Aggregator,
    closing: Option<Closing>,
    /// Samples in all windows.
    aggregated: u64,
}

struct Closing {
    aggregator: Aggregator,
    /// The number of each CPU's first sample after the cut.
    emitted: Vec<u64>,
    /// When it was cut, nanoseconds of CLOCK_MONOTONIC.
    cut: u64,
    until: Instant,
    closed: SyncSender<Closed>,
}

impl Windows {
    /// Begins the first. `bytes_max`: of each.
    pub fn new(bytes_max: usize) -> Self {
        let current = Aggregator::new(bytes_max, Vec::new());
        Self { bytes_max, number: 0, current, closing: None, aggregated: 0 }
    }

    /// Ends the current window at these numbers of samples, and begins another. No sample with such a number or a later
    /// one has been told of yet.
    pub fn cut(&mut self, emitted: Vec<u64>, now: u64, closed: SyncSender<Closed>) {
        let next = Aggregator::new(self.bytes_max, emitted.clone());
        let aggregator = std::mem::replace(&mut self.current, next);
        self.number += 1;
        let until = Instant::now() + PATIENCE;
        self.closing = Some(Closing { aggregator, emitted, cut: now, until, closed });
    }

    /// Whether a window is on its way to be complete.
    pub fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Counts records that made no sense.
    pub fn malformed(&mut self, records: u64) {
        let closing = self.closing.as_mut().map(|closing| &mut closing.aggregator);
        closing.unwrap_or(&mut self.current).malformed(records);
    }

    /// Gives the window that a sample belongs to, and its number.
    pub fn of(&mut self, sample: &RawSample) -> (&mut Aggregator, u64) {
        match &mut self.closing {
            Some(closing) if closing.has(sample) => (&mut closing.aggregator, self.number - 1),
            _ => (&mut self.current, self.number),
        }
    }

    /// Learns that a sample was added to its window.
    pub fn added(&mut self) {
        self.aggregated += 1;
    }

    /// Samples added to windows so far.
    pub fn aggregated(&self) -> u64 {
        self.aggregated
    }

    /// The number of the oldest window that is not complete.
    pub fn oldest(&self) -> u64 {
        self.number - u64::from(self.is_closing())
    }

    /// Whether the window before has had all its samples told of, and some of them have waited for too long.
    pub fn is_overdue(&self, known: u64) -> bool {
        let is_late = |closing: &Closing| known >= closing.cut && closing.is_late();
        self.closing.as_ref().is_some_and(is_late)
    }

    /// Whether a sample belongs to the window before.
    pub fn is_before_cut(&self, sample: &RawSample) -> bool {
        self.closing.as_ref().is_some_and(|closing| closing.has(sample))
    }

    /// Hands out the window before if it is complete. `known`: all samples up to this time have been told of.
    pub fn close(
        &mut self,
        known: u64,
        executables: &Executables,
        counts: impl FnOnce() -> SessionCounts,
    ) {
        let is_complete = |closing: &mut Closing| {
            let is_all = closing.aggregator.is_settled()
                && (!closing.aggregator.misses(&closing.emitted) || closing.is_late());
            known >= closing.cut && is_all
        };
        let Some(closing) = self.closing.take_if(is_complete) else { return };
        let Closing { aggregator, emitted, closed, .. } = closing;
        let (window, ledger) = aggregator.finish(&emitted);
        let executables = executables.of_window(&window);
        let counts = counts();
        let _ = closed.send(Closed { window, ledger, executables, counts }); // nobody may want it any more
    }

    /// Gives the current window, which nothing is added to any more.
    pub fn finish(self) -> Aggregator {
        self.current
    }
}

impl Closing {
    fn is_late(&self) -> bool {
        Instant::now() >= self.until
    }

    fn has(&self, sample: &RawSample) -> bool {
        let Cpu(cpu) = sample.cpu;
        // A CPU that the cut says nothing of had no sample before it.
        self.emitted.get(cpu as usize).is_some_and(|emitted| sample.sequence < *emitted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn a_window_waits_for_what_was_taken_before_its_cut_and_has_not_come() {
        let mut windows = Windows::new(1 << 20);
        let executables = Executables::new(0, "");
        let (closed, window) = sync_channel(1);
        windows.cut(vec![1], 10, closed);
        windows.close(20, &executables, SessionCounts::default);
        assert!(window.try_recv().is_err(), "a sample is on its way");
        windows.malformed(1); // it has come
        windows.close(20, &executables, SessionCounts::default);
        assert_eq!(window.try_recv().expect("the window").ledger.gaps, 0);
    }
}
