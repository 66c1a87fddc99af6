//! The current window, and the previous one until its last samples are counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::results::{ClosedWindow, SessionCounts};
use super::window_boundary::WindowBoundary;
use crate::aggregate::{Aggregator, WindowLimits};
use crate::events::RawSample;
use crate::processes::Processes;

/// How long a closed window waits for its samples: those that wait for a table, and those that
/// have not arrived. A CPU that is interrupted while it writes one hides all after it in the
/// ring, and what did not fit never arrives.
const LATE_SAMPLES_TIMEOUT: Duration = Duration::from_secs(2);

/// Assigns samples to windows: each CPU numbers its samples, and a boundary lies between two of
/// them.
pub(super) struct Windows {
    limits: WindowLimits,
    /// Number of the current window.
    number: u64,
    begin: Arc<WindowBoundary>,
    current: Aggregator,
    closing: Option<ClosingWindow>,
    /// Samples counted in all windows.
    pub aggregated: u64,
}

/// A window that has ended but is not complete.
struct ClosingWindow {
    begin: Arc<WindowBoundary>,
    end: Arc<WindowBoundary>,
    aggregator: Aggregator,
    /// When to stop waiting for its samples.
    deadline: Instant,
}

impl Windows {
    /// Begins the first window. `limits`: of each.
    pub fn new(limits: impl Into<WindowLimits>, begin: WindowBoundary) -> Self {
        let limits = limits.into();
        Self {
            limits,
            number: 0,
            begin: Arc::new(begin),
            current: Aggregator::new(limits, Vec::new()),
            closing: None,
            aggregated: 0,
        }
    }

    /// Closes the current window at a boundary, and begins the next. No sample after the boundary
    /// has been assigned yet.
    pub fn close_current(&mut self, mut boundary: WindowBoundary) {
        boundary.carry_remainder(&self.begin);
        let end = Arc::new(boundary);
        let next = Aggregator::new(self.limits, end.next_sequences());
        self.number += 1;
        self.closing = Some(ClosingWindow {
            begin: std::mem::replace(&mut self.begin, Arc::clone(&end)),
            end,
            aggregator: std::mem::replace(&mut self.current, next),
            deadline: Instant::now() + LATE_SAMPLES_TIMEOUT,
        });
    }

    /// Counts records that could not be parsed, in the window that waits for them.
    pub fn count_malformed(&mut self, records: u64) {
        let closing = self.closing.as_mut().map(|closing| &mut closing.aggregator);
        closing.unwrap_or(&mut self.current).count_malformed(records);
    }

    /// Returns the window that a sample belongs to, and its number.
    pub fn window_of(&mut self, sample: &RawSample) -> (&mut Aggregator, u64) {
        match &mut self.closing {
            Some(closing) if closing.contains(sample) => (&mut closing.aggregator, self.number - 1),
            _ => (&mut self.current, self.number),
        }
    }

    /// Returns the number of the oldest window that is not complete.
    pub fn oldest(&self) -> u64 {
        self.number - u64::from(self.closing.is_some())
    }

    /// Whether the closing window has waited too long for samples. `complete_until`: all events up
    /// to this time have arrived.
    pub fn is_overdue(&self, complete_until: u64) -> bool {
        self.closing.as_ref().is_some_and(|closing| {
            complete_until >= closing.end.read_at && closing.is_past_deadline()
        })
    }

    /// Whether a sample belongs to the closing window.
    pub fn is_closing(&self, sample: &RawSample) -> bool {
        self.closing.as_ref().is_some_and(|closing| closing.contains(sample))
    }

    /// Whether every sample of the closing window is counted, or was waited for long enough.
    /// `complete_until`: all events up to this time have arrived.
    pub fn is_complete(&self, complete_until: u64) -> bool {
        self.closing.as_ref().is_some_and(|closing| closing.is_complete(complete_until))
    }

    /// Takes the closing window.
    pub fn take_closed(
        &mut self,
        processes: &Processes,
        counts: SessionCounts,
    ) -> Option<ClosedWindow> {
        let ClosingWindow { begin, end, aggregator, .. } = self.closing.take()?;
        Some(close(aggregator, &begin, &end, processes, counts))
    }

    /// Closes the current window, to which nothing is added any more.
    pub fn finish(
        self,
        end: &WindowBoundary,
        processes: &Processes,
        counts: SessionCounts,
    ) -> ClosedWindow {
        close(self.current, &self.begin, end, processes, counts)
    }
}

impl ClosingWindow {
    fn contains(&self, sample: &RawSample) -> bool {
        self.end.has_counted(sample)
    }

    fn is_past_deadline(&self) -> bool {
        Instant::now() >= self.deadline
    }

    fn is_complete(&self, complete_until: u64) -> bool {
        complete_until >= self.end.read_at
            && self.aggregator.is_settled()
            && (!self.aggregator.is_missing_samples(&self.end.next_sequences())
                || self.is_past_deadline())
    }
}

/// Adds to a window what only the sampler knows.
fn close(
    aggregator: Aggregator,
    begin: &WindowBoundary,
    end: &WindowBoundary,
    processes: &Processes,
    counts: SessionCounts,
) -> ClosedWindow {
    let (window, mut ledger) = aggregator.finish(&end.next_sequences());
    end.complete_ledger(begin, &mut ledger);
    ClosedWindow {
        period: end.period_since(begin),
        executables: processes.of_window(&window),
        counts: SessionCounts {
            sampler: end.sampler_time(),
            cpus: end.cpu_counts,
            not_followed: end.not_followed(),
            tasks: end.task_counts(),
            ..counts
        },
        window,
        ledger,
    }
}

#[cfg(test)]
mod tests {
    use super::super::window_boundary::tests::boundary_after;
    use super::*;
    use crate::processes::Executables;

    #[test]
    fn closing_window_waits_for_samples_before_its_boundary() {
        let mut windows = Windows::new(1usize << 20, boundary_after(&[0]));
        windows.close_current(boundary_after(&[1]));
        assert!(!windows.is_complete(u64::MAX), "a sample has not arrived");
        windows.count_malformed(1); // it arrives
        assert!(windows.is_complete(u64::MAX));
        let processes = Processes::new(Executables::new(0, 1 << 20, ""));
        let closed = windows.take_closed(&processes, SessionCounts::default());
        assert_eq!(closed.expect("a closing window").ledger.gaps, 0);
    }
}
