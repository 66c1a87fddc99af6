//! The loop of one sink: delivers the sink's batches, oldest first.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::pacing::{Backoff, Pacing};
use super::queues::{Completion, Generation};
use super::shared::Shared;
use super::throttled_warnings::{ThrottledWarnings, one_line};
use crate::batch::{Answer, Batch, Failure};
use crate::cpu_allowance::{CpuAllowance, ThreadCpu};
use crate::debug_info::DebugInfoSource;
use crate::sinks::{Sink, SinkConfig};
use crate::spool::{BatchName, SpoolReadError};

/// Device errors in a row after which a file counts as damaged. Before that, the whole disk may be
/// unavailable: with the backoff between the attempts, this covers some minutes.
const READS_MAX: u32 = 10;

/// Instructions to the loop; only the latest value counts. A new value also ends a pause.
#[derive(Clone, Debug)]
pub struct SinkControl {
    pub settings: Arc<SinkConfig>,
    /// Deadline of the loop. Until then it delivers without pauses, up to the first failure.
    pub stop_at: Option<Instant>,
}

/// What the loop needs besides its sink.
pub struct SinkContext {
    pub generation: Generation,
    pub settings: Arc<SinkConfig>,
    pub debug_info: Option<Arc<dyn DebugInfoSource>>,
    pub shared: Arc<Shared>,
    pub pacing: Pacing,
    /// CPU time of all sinks together.
    pub allowance: Arc<dyn CpuAllowance>,
}

pub struct SinkLoop {
    context: SinkContext,
    sink: Sink,
    control: watch::Receiver<SinkControl>,
    wake: Arc<Notify>,
    backoff: Backoff,
    warnings: ThrottledWarnings,
    /// Pause before the first batch, after a panic.
    initial_pause: Duration,
    /// The batch that the device could not read last, and its failures in a row.
    failed_reads: Option<(BatchName, u32)>,
}

/// What follows an attempt.
#[derive(Debug, PartialEq, Eq)]
enum NextStep {
    /// Deliver the next batch after a pause.
    Continue { pause: Duration },
    /// Retry the same batch after a backoff. `is_requested`: the server asked for it.
    Retry { backoff: Duration, is_requested: bool },
    /// End: the deadline has passed.
    Stop,
}

impl SinkLoop {
    pub fn new(
        context: SinkContext,
        sink: Sink,
        control: watch::Receiver<SinkControl>,
        wake: Arc<Notify>,
    ) -> Self {
        Self {
            backoff: Backoff::new(context.pacing, fastrand::Rng::new()),
            context,
            sink,
            control,
            wake,
            warnings: ThrottledWarnings::default(),
            initial_pause: Duration::ZERO,
            failed_reads: None,
        }
    }

    /// Delivers until the deadline. A panic loses the batch that caused it.
    pub fn run(mut self, runtime: &Runtime) {
        while catch_unwind(AssertUnwindSafe(|| runtime.block_on(self.deliver_all()))).is_err() {
            self.recover_from_panic();
        }
    }

    async fn deliver_all(&mut self) {
        let initial_pause = std::mem::take(&mut self.initial_pause);
        if !initial_pause.is_zero() {
            self.recreate_sink();
            self.pause(initial_pause).await;
        }
        let mut cpu = ThreadCpu::start();
        while let Some(name) = self.next_batch().await {
            self.apply_settings();
            let was_stopping = self.is_stopping();
            let next = self.deliver(name).await;
            // With what uploads of debug info used on this thread meanwhile.
            cpu.charge(&*self.context.allowance);
            match next {
                NextStep::Continue { pause } => self.pause(pause).await,
                NextStep::Retry { .. } if was_stopping => return,
                NextStep::Retry { backoff, is_requested } => {
                    self.pause(backoff).await;
                    // One more attempt before the end, unless the server asked for time.
                    if is_requested && self.is_stopping() {
                        return;
                    }
                }
                NextStep::Stop => return,
            }
        }
    }

    /// Waits for a batch. Returns `None` when the loop is to stop and nothing waits, or the
    /// deadline has passed.
    async fn next_batch(&mut self) -> Option<BatchName> {
        loop {
            if self.control.borrow().stop_at.is_some_and(|at| at <= Instant::now()) {
                return None;
            }
            if self.context.shared.queues().waiting(&self.context.generation.sink) > 0 {
                self.wait_for_cpu_time().await;
            }
            if let Some(name) = self.context.shared.queues().next(&self.context.generation) {
                return Some(name);
            }
            if self.is_stopping() {
                return None;
            }
            tokio::select! {
                () = self.wake.notified() => {}
                _ = self.control.changed() => {}
            }
        }
    }

    /// Waits while delivery has used the CPU time allowed, up to a bound, but not when the loop is
    /// to stop.
    async fn wait_for_cpu_time(&mut self) {
        let Pacing { cpu_wait_max, cpu_wait_max_local, .. } = self.context.pacing;
        let longest = if self.sink.is_local() { cpu_wait_max_local } else { cpu_wait_max };
        let begin = Instant::now();
        while !self.is_stopping() {
            let left = longest.saturating_sub(begin.elapsed());
            let wait = self.context.allowance.until_credit().min(left);
            if wait.is_zero() {
                return;
            }
            let start = Instant::now();
            tokio::select! {
                () = sleep(wait) => {}
                _ = self.control.changed() => {}
            }
            let SinkContext { generation, shared, .. } = &self.context;
            shared.queues().count_cpu_wait(generation, start.elapsed());
        }
    }

    fn is_stopping(&self) -> bool {
        self.control.borrow().stop_at.is_some() || self.control.has_changed().is_err()
    }

    /// Sleeps until the time has passed or [`SinkControl`] changes.
    async fn pause(&mut self, duration: Duration) {
        if self.is_stopping() {
            return;
        }
        tokio::select! {
            () = sleep(duration) => {}
            _ = self.control.changed() => self.backoff.reset(),
        }
    }

    /// Recreates the sink if its settings have changed.
    fn apply_settings(&mut self) {
        let settings = self.control.borrow().settings.clone();
        if *settings != *self.context.settings {
            self.context.settings = settings;
            self.recreate_sink();
        }
    }

    /// Replaces the sink. The settings were checked before; should they fail nevertheless, the old
    /// sink stays.
    fn recreate_sink(&mut self) {
        match Sink::new(&self.context.settings, self.context.debug_info.as_ref()) {
            Ok(sink) => self.sink = sink,
            Err(error) => {
                self.warn("keeps its current settings", Failure::Defect, &error.to_string());
            }
        }
    }

    async fn deliver(&mut self, name: BatchName) -> NextStep {
        let batch = match self.context.shared.spool.read(&self.context.generation.sink, name) {
            Ok(batch) => batch,
            Err(error) => return self.handle_read_error(name, error),
        };
        self.failed_reads = None;
        match self.send_before_deadline(&batch).await {
            Some(answer) => self.handle_answer(name, answer),
            None => {
                self.context.shared.queues().requeue(&self.context.generation, None);
                NextStep::Stop
            }
        }
    }

    /// Sends a batch; `None` if the deadline passes first.
    async fn send_before_deadline(&mut self, batch: &Batch) -> Option<Answer> {
        let mut control = self.control.clone();
        let answer = tokio::select! {
            answer = self.sink.send(batch) => Some(answer),
            () = deadline(&mut control) => None,
        };
        let responses = self.sink.take_responses();
        self.context.shared.queues().count_responses(&self.context.generation, &responses);
        answer
    }

    fn handle_answer(&mut self, name: BatchName, answer: Answer) -> NextStep {
        match answer {
            Answer::Delivered { bytes } => {
                self.complete(name, Completion::Delivered(bytes));
                self.log_recovery();
                self.next_after(bytes)
            }
            Answer::Partly { bytes, rejected, text } => {
                let text = one_line(&text);
                self.warn("a part of a batch is lost", Failure::Rejected, &text);
                self.complete(name, Completion::Partly { bytes, rejected, text });
                self.next_after(bytes)
            }
            Answer::Rejected { reason, text } => {
                let text = one_line(&text);
                self.warn("a batch is lost", reason, &text);
                self.complete(name, Completion::Rejected(reason, text));
                self.next_after(0)
            }
            Answer::Later { reason, after, text } => self.retry(reason, after, &one_line(&text)),
        }
    }

    fn next_after(&mut self, bytes: u64) -> NextStep {
        self.backoff.reset();
        NextStep::Continue { pause: self.context.pacing.pause_after(bytes) }
    }

    fn retry(&mut self, reason: Failure, after: Option<Duration>, text: &str) -> NextStep {
        self.warn("batches wait in the spool", reason, text);
        let failure = Some((reason, text.to_owned()));
        self.context.shared.queues().requeue(&self.context.generation, failure);
        NextStep::Retry { backoff: self.backoff.next(after), is_requested: after.is_some() }
    }

    /// Removes a batch from the spool, first its file, then its queue entry. After a reload both
    /// may belong to the loop of a newer generation.
    fn complete(&mut self, name: BatchName, completion: Completion) {
        if self.is_superseded() {
            return;
        }
        if let Err(error) = self.context.shared.spool.remove(&self.context.generation.sink, name) {
            let effect = "cannot remove a completed batch from the spool, it may arrive twice";
            self.warn(effect, Failure::of_disk(&error), &error.to_string());
        }
        self.context.shared.queues().complete(&self.context.generation, completion);
    }

    fn is_superseded(&self) -> bool {
        self.context.shared.queues().is_superseded(&self.context.generation)
    }

    fn handle_read_error(&mut self, name: BatchName, error: SpoolReadError) -> NextStep {
        let text = format!("cannot read {name} in the spool: {error}");
        let pause = match error {
            SpoolReadError::Disk(error) => {
                return self.retry(Failure::of_disk(&error), None, &text);
            }
            SpoolReadError::Device(error) if self.count_failed_read(name) < READS_MAX => {
                return self.retry(Failure::of_disk(&error), None, &text);
            }
            SpoolReadError::Device(_) | SpoolReadError::Damaged(_) => {
                self.quarantine(name);
                self.context.pacing.pause_after(0)
            }
            SpoolReadError::Missing => Duration::ZERO,
        };
        self.warn("a batch is lost", Failure::Damaged, &text);
        self.complete(name, Completion::Lost(Failure::Damaged, text));
        NextStep::Continue { pause }
    }

    /// Counts a device error and returns the errors in a row for this batch.
    fn count_failed_read(&mut self, name: BatchName) -> u32 {
        let earlier = self.failed_reads.filter(|(failed, _)| *failed == name);
        let failures = earlier.map_or(0, |(_, failures)| failures) + 1;
        self.failed_reads = Some((name, failures));
        failures
    }

    fn quarantine(&mut self, name: BatchName) {
        if self.is_superseded() {
            return;
        }
        let SinkContext { generation, shared, .. } = &self.context;
        match shared.spool.quarantine(&generation.sink, name) {
            Ok(()) => shared.queues().count_quarantined(generation),
            Err(error) => {
                let effect = "cannot move a damaged spool file into quarantine";
                self.warn(effect, Failure::of_disk(&error), &error.to_string());
            }
        }
    }

    /// Drops the batch that made the sink panic. Its file goes into quarantine, for a report.
    fn recover_from_panic(&mut self) {
        let in_flight = self.context.shared.queues().in_flight(&self.context.generation);
        if let Some(name) = in_flight {
            self.quarantine(name);
            let text = format!("the sink panicked with {name}");
            self.warn("a batch is lost", Failure::Defect, &text);
            self.complete(name, Completion::Lost(Failure::Defect, text));
        }
        self.initial_pause = self.backoff.next(None);
    }

    fn log_recovery(&mut self) {
        let SinkContext { generation, shared, .. } = &self.context;
        self.warnings.recovered(|| {
            let waiting = shared.queues().waiting(&generation.sink);
            format!("the sink `{}` accepts batches again; {waiting} more wait", generation.sink)
        });
    }

    fn warn(&mut self, effect: &str, reason: Failure, cause: &str) {
        let subject = format!("the sink `{}`", self.context.generation.sink);
        self.warnings.warn(&subject, effect, reason, cause);
    }
}

/// Completes at the deadline, or when the delivery is dropped.
async fn deadline(control: &mut watch::Receiver<SinkControl>) {
    let stop_at = match control.wait_for(|control| control.stop_at.is_some()).await {
        Ok(control) => control.stop_at,
        Err(_) => None,
    };
    if let Some(at) = stop_at {
        sleep_until(at).await;
    }
}
