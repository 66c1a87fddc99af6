//! The bounded queue of lines between the threads that log and the writer thread.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::Level;

use super::counts::DROPPED;
use super::event::LogEvent;
use super::line::LineStyle;

/// Bytes of lines that wait at most.
const BYTES_MAX: usize = 256 << 10;

/// Lines that wait to be written.
#[derive(Default)]
pub(super) struct Queue {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    waiting: VecDeque<String>,
    bytes: usize,
    /// Lines dropped since the last line that was queued.
    dropped: u64,
    /// The style of the dropped lines, for the line that reports them.
    style: Option<LineStyle>,
    /// The writer is writing a line.
    is_writing: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a line, or drops and counts it if the queue is full.
    pub fn push(&self, line: String, style: LineStyle) {
        let mut lines = self.lock();
        if lines.bytes + line.len() > BYTES_MAX {
            lines.dropped += 1;
            lines.style = Some(style);
            DROPPED.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // The dropped lines came before this one.
        let report = lines.take_report();
        for line in report.into_iter().chain([line]) {
            lines.bytes += line.len();
            lines.waiting.push_back(line);
        }
        drop(lines);
        self.changed.notify_all();
    }

    /// Waits for the next line. Call [`Self::written`] when it is written.
    pub fn take(&self, timeout: Duration) -> Option<String> {
        let deadline = Instant::now() + timeout;
        let mut lines = self.lock();
        loop {
            if let Some(line) = lines.next() {
                lines.is_writing = true;
                return Some(line);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let waited = self.changed.wait_timeout(lines, left);
            lines = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Marks the last line that was taken as written.
    pub fn written(&self) {
        self.lock().is_writing = false;
        self.changed.notify_all();
    }

    /// Waits until all lines are written, for `timeout` at most.
    pub fn wait_until_written(&self, timeout: Duration) {
        let is_pending =
            |lines: &mut Lines| lines.is_writing || lines.dropped > 0 || lines.bytes > 0;
        drop(self.changed.wait_timeout_while(self.lock(), timeout, is_pending));
    }

    #[cfg(test)]
    pub fn take_all(&self) -> Vec<String> {
        let mut lines = self.lock();
        std::iter::from_fn(|| lines.next()).collect()
    }
}

impl Lines {
    fn next(&mut self) -> Option<String> {
        match self.waiting.pop_front() {
            Some(line) => {
                self.bytes -= line.len();
                Some(line)
            }
            None => self.take_report(),
        }
    }

    /// Returns a line about the dropped lines, if there are any.
    fn take_report(&mut self) -> Option<String> {
        let style = self.style.take()?;
        let dropped = std::mem::take(&mut self.dropped);
        let text = format!("{dropped} log lines were dropped: standard error did not accept them");
        Some(style.format(&LogEvent::new(Level::WARN, text)))
    }
}
