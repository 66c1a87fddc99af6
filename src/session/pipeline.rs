//! The pipeline: takes the events of all rings through the four stages.
//!
//! ```text
//! EventBatch -> order -> resolve -> finish -> count -> ClosedWindow
//! ```

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crossbeam_channel::Select;
use profile::Cpu;

use super::count::Counter;
use super::cpu::{ProcessorCpu, Work, WorkTimer};
use super::finish::Finisher;
use super::order::Orderer;
use super::resolve::{ResolvedSample, Resolver};
use super::results::{ClosedWindow, Recording, SessionCounts};
use super::window_boundary::WindowBoundary;
use crate::events::{Event, EventBatch, InterpreterStack, RawSample, TimedEvent, cpu_time, now};
use crate::kernel::bpf_code;
use crate::tables::{MappingPublisher, RowStore, SnapshotUnwinder};

/// Minimum interval at which unused executables are forgotten.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(2);
/// Forgetting unused executables takes at most a CPU's time divided by this: the interval is
/// extended accordingly.
const CLEANUP_DIVISOR: u32 = 2000;
/// Tables that may take as long as the timeout when the last samples wait for theirs.
const SLOW_TABLES: u32 = 5;

/// The four stages, and the tables that they share.
pub(super) struct Pipeline {
    order: Orderer,
    resolver: Resolver,
    finisher: Finisher,
    counter: Counter,
    rows: RowStore,
    publisher: MappingPublisher,
    /// The interpreter frames of the next sample of each CPU.
    interpreters: HashMap<Cpu, Box<InterpreterStack>>,
    /// Bytes of BPF maps without slabs; `None` if there is no BPF program.
    map_bytes: Option<u64>,
    side_band_lost: u64,
    /// Events of code that came into the kernel may have been missed.
    may_miss_kernel_code: bool,
    process_events_skipped: u64,
    next_cleanup: Instant,
    timer: WorkTimer,
}

impl Pipeline {
    pub fn new(
        resolver: Resolver,
        finisher: Finisher,
        counter: Counter,
        rows: RowStore,
        publisher: MappingPublisher,
        map_bytes: Option<u64>,
        cpu: ProcessorCpu,
    ) -> Self {
        Self {
            order: Orderer::default(),
            resolver,
            finisher,
            counter,
            rows,
            publisher,
            map_bytes,
            interpreters: HashMap::new(),
            side_band_lost: 0,
            may_miss_kernel_code: false,
            process_events_skipped: 0,
            next_cleanup: Instant::now() + CLEANUP_INTERVAL,
            timer: WorkTimer::new(cpu),
        }
    }

    /// Processes a batch. Returns the previous window if it is complete now.
    pub fn process_batch(&mut self, batch: EventBatch) -> Option<ClosedWindow> {
        let complete_until = batch.complete_until();
        let process_events = batch.process_events_part();
        self.timer.add_processes(batch.reader_cpu.mul_f64(process_events));
        self.resolver.processes.begin_events_of(batch.drained_at);
        // What serves all events alike is for those of which there are most.
        let common = if process_events > 0.5 { Work::Processes } else { Work::Batches };
        self.count_losses(&batch);
        self.look_ahead(&batch.events);
        self.timer.begin(common);
        self.order.add(batch.events);
        for event in self.order.take_until(complete_until) {
            self.process_event(event);
        }
        self.finish_loaded();
        self.timer.begin(Work::Processes);
        self.resolver.processes.remove_exited(complete_until);
        self.publisher.publish(&mut self.rows, &mut self.resolver.processes, complete_until);
        self.timer.begin(Work::Batches);
        let closed = self.take_closed_window(complete_until);
        self.timer.begin(Work::Processes);
        self.resolver.check_exits();
        if self.next_cleanup <= Instant::now() {
            self.clean_up();
        }
        self.timer.begin(Work::Batches);
        closed
    }

    /// Enters what a batch lacks into the ledger, and invalidates what depended on it.
    fn count_losses(&mut self, batch: &EventBatch) {
        if batch.side_band_lost > 0 || batch.has_missed_events {
            self.side_band_lost += batch.side_band_lost;
            self.may_miss_kernel_code = self.map_bytes.is_some();
            self.invalidate_before(batch.drained_at);
        } else {
            self.invalidate_skipped(batch);
        }
        self.process_events_skipped += batch.process_events_skipped;
        self.counter.count_lost(batch.malformed, batch.perf_samples_lost);
        self.resolver.check_file_helper(batch.drained_at);
    }

    /// Invalidates the processes whose events were skipped.
    fn invalidate_skipped(&mut self, batch: &EventBatch) {
        if !batch.knows_skipped_pids() {
            return self.invalidate_before(batch.drained_at);
        }
        for pid in &batch.skipped_pids {
            self.resolver.invalidate_process_before(*pid, batch.drained_at);
            self.publisher.invalidate(*pid);
        }
    }

    /// Invalidates processes and their published mappings: events up to this time were missed.
    fn invalidate_before(&mut self, time: u64) {
        self.resolver.invalidate_before(time);
        self.publisher.invalidate_all();
    }

    /// Does what cannot wait until an event is due: opens files and reads about processes while
    /// they exist, and requests rows that the next ticks will need.
    fn look_ahead(&mut self, events: &[TimedEvent]) {
        for TimedEvent { time, event } in events {
            self.timer.begin(Work::Processes);
            match event {
                Event::Mmap(mmap) => self.resolver.open_mapped_file(mmap),
                Event::Sample(sample) => {
                    self.resolver.look_up_ahead(*time, sample);
                    if sample.snapshot.is_some() {
                        self.request_ahead(sample);
                    }
                }
                _ => {}
            }
        }
    }

    /// Requests the rows and reads the mappings that the stack of a sample lacks.
    fn request_ahead(&mut self, sample: &RawSample) {
        self.timer.begin(Work::Stacks);
        let ends_outside_mappings = self.request_missing_rows(sample);
        self.timer.begin(Work::Processes);
        if ends_outside_mappings && self.resolver.read_missing_mappings(sample) {
            self.timer.begin(Work::Stacks);
            self.request_missing_rows(sample);
        }
    }

    /// Requests the rows that a walk of a sample's snapshot lacks. Returns whether the walk ended
    /// at an address in no mapping.
    fn request_missing_rows(&mut self, sample: &RawSample) -> bool {
        let Some(snapshot) = &sample.snapshot else { return false };
        self.publisher.track(sample.pid);
        SnapshotUnwinder {
            rows: &mut self.rows,
            memory: &self.resolver.processes.address_space(sample.pid),
            executables: &self.resolver.processes.executables,
            snapshot,
        }
        .request_missing_rows(&sample.user)
    }

    fn process_event(&mut self, TimedEvent { time, event }: TimedEvent) {
        match event {
            Event::Sample(sample) => {
                self.timer.begin(Work::Samples);
                self.counter.register(&sample);
                let stack = self.interpreters.remove(&sample.cpu);
                let stack = stack
                    .filter(|stack| (stack.sequence, stack.pid) == (sample.sequence, sample.pid));
                let resolved = self.resolver.resolve(
                    time,
                    *sample,
                    stack.as_deref(),
                    &self.rows,
                    &mut self.publisher,
                );
                if resolved.sample.snapshot.is_some() {
                    self.publisher.track(resolved.sample.pid);
                }
                self.finish_and_count(resolved);
            }
            Event::PerfSample(sample) => {
                self.timer.begin(Work::Samples);
                let executables = &self.resolver.processes.executables;
                self.counter.observe_perf_sample(time, *sample, &self.rows, executables);
            }
            Event::CodeObject(record) => {
                self.timer.begin(Work::Samples);
                self.resolver.processes.add_code_object(&record);
            }
            Event::Interpreter(stack) => drop(self.interpreters.insert(stack.cpu, stack)),
            event => {
                self.timer.begin(Work::Processes);
                self.resolver.apply(TimedEvent { time, event });
            }
        }
    }

    fn finish_and_count(&mut self, resolved: ResolvedSample) {
        let executables = &self.resolver.processes.executables;
        if resolved.sample.snapshot.is_some() {
            self.timer.begin(Work::Stacks);
        }
        if let Some(finished) = self.finisher.finish(resolved, &mut self.rows, executables) {
            self.timer.begin(Work::Samples);
            self.count(&finished);
        }
    }

    fn count(&mut self, sample: &ResolvedSample) {
        self.counter.count(sample, &mut self.rows, &mut self.resolver.processes);
    }

    /// Counts samples that have waited too long for rows.
    fn count_overdue(&mut self, overdue: Vec<ResolvedSample>) {
        for resolved in overdue {
            let executables = &self.resolver.processes.executables;
            let finished = self.finisher.finish_now(resolved, &mut self.rows, executables);
            self.count(&finished);
        }
    }

    /// Publishes the rows that are loaded, and finishes the samples that waited for them.
    pub fn finish_loaded(&mut self) {
        while self.finish_next_loaded(Duration::ZERO) {}
    }

    /// Publishes the rows that were loaded next, and finishes the samples that waited for them.
    /// Waits up to `timeout` for rows that are being read. Returns whether there were any.
    fn finish_next_loaded(&mut self, timeout: Duration) -> bool {
        self.timer.begin(Work::Tables);
        let executables = &self.resolver.processes.executables;
        let loaded = self.rows.take_loaded(timeout, executables);
        let pending = loaded.map(|id| self.finisher.take_pending(id, &self.rows, executables));
        for resolved in pending.unwrap_or_default() {
            self.finish_and_count(resolved);
        }
        self.timer.begin(Work::Batches);
        loaded.is_some()
    }

    /// Adds the rows that are loaded to the channels that the processor waits for.
    pub fn select_loaded<'a>(&'a self, channels: &mut Select<'a>) {
        self.rows.select_loaded(channels);
    }

    /// Whether rows are being loaded.
    pub fn is_loading(&self) -> bool {
        self.rows.is_loading()
    }

    /// Returns the number of samples counted so far.
    pub fn samples(&self) -> u64 {
        self.counter.windows.aggregated
    }

    /// Closes the current window at a boundary, and begins the next.
    pub fn close_window(&mut self, boundary: WindowBoundary) {
        self.counter.windows.close_current(boundary);
    }

    /// Returns the previous window once it is complete, or has waited too long for samples.
    fn take_closed_window(&mut self, complete_until: u64) -> Option<ClosedWindow> {
        if self.counter.windows.is_overdue(complete_until) {
            let windows = &self.counter.windows;
            let overdue = self.finisher.take_overdue(|sample| windows.is_closing(sample));
            self.count_overdue(overdue);
        }
        if !self.counter.windows.is_complete(complete_until) {
            return None;
        }
        self.resolver.processes.read_pending_perf_maps();
        let counts = self.counts();
        self.counter.windows.take_closed(&self.resolver.processes, counts)
    }

    /// Forgets executables that are not mapped any more, with their rows and files. Asks the kernel
    /// for code that it may have without our knowing.
    fn clean_up(&mut self) {
        let begin = cpu_time();
        let mapped = self.publisher.executables().chain(self.finisher.executables());
        let oldest = self.counter.windows.oldest();
        let gone = self.resolver.forget_executables(mapped, oldest);
        self.rows.forget_executables(&gone);
        self.rows.expire_backoffs();
        if std::mem::take(&mut self.may_miss_kernel_code) {
            self.resolver.processes.set_kernel_code(bpf_code(), now());
        }
        let used = cpu_time().saturating_sub(begin);
        self.next_cleanup = Instant::now() + CLEANUP_INTERVAL.max(used * CLEANUP_DIVISOR);
    }

    /// Counts everything that is left, when there are no more batches, and closes the last window.
    /// Samples wait up to `table_timeout` for each table, and [`SLOW_TABLES`] times that in all.
    pub fn finish(mut self, end: &WindowBoundary, table_timeout: Duration) -> Recording {
        self.resolver.processes.begin_events_of(u64::MAX); // nothing is delayed any more
        for event in self.order.take_until(u64::MAX) {
            self.process_event(event);
        }
        let deadline = Instant::now() + table_timeout * SLOW_TABLES;
        while self.finisher.has_pending() && Instant::now() < deadline {
            if !self.finish_next_loaded(table_timeout) {
                break;
            }
        }
        let overdue = self.finisher.take_overdue(|_| true);
        self.count_overdue(overdue);
        self.resolver.processes.finish_perf_maps();
        let counts = self.counts();
        let processes = self.resolver.processes;
        let last = self.counter.windows.finish(end, &processes, counts);
        Recording { last, processes }
    }

    fn counts(&self) -> SessionCounts {
        let (processes, tables) = (&self.resolver.processes, self.rows.counts());
        SessionCounts {
            map_bytes: self.map_bytes.map_or(0, |bytes| bytes + tables.slab_bytes),
            side_band_lost: self.side_band_lost,
            process_events_skipped: self.process_events_skipped,
            tables,
            finished: self.finisher.finished,
            processes: processes.count() as u64,
            executables: processes.executables.count() as u64,
            file_helper: processes.executables.file_helper_usage().and(self.rows.deriver_usage()),
            labels: processes.label_counts(),
            process_bytes: processes.memory(),
            perf_map_bytes: processes.perf_map_memory(),
            runtimes: self.publisher.runtimes(),
            processes_read: processes.refresh_count(),
            refusals: processes.refusals().with_published(self.publisher.refused()),
            ..SessionCounts::default()
        }
    }
}
