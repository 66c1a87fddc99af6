//! What the processor knows: processes, tables and windows. It finishes stacks, resolves each sample and counts it.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use profile::{ExecutableId, Pid, StackEnd};

use super::processor::Seam;
use super::windows::{Closed, Windows};
use super::{SampleContext, SampleObserver, ScanScope, SessionCounts};
use crate::aggregate::Aggregator;
use crate::events::{Event, EventBatch, Orderer, RawSample, TimedEvent, cpu_time, now};
use crate::processes::{AddressSpace, Identity, Processes, scan_process, scan_processes};
use crate::tables::{Tables, WalkOutcome};

/// How often the loader is looked after while it reads.
const LOADING_TURN: Duration = Duration::from_millis(2);
/// How long a table is waited for once nothing else is left to do: a file system may never answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often what is gone is looked for, and the part of a CPU's time that it may take.
const TIDY_EVERY: Duration = Duration::from_secs(2);
const TIDY_PART: u32 = 2000;
/// How often some processes are asked whether they are there.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// The pass over /proc ends after so long; processes that it has not come to are looked up when they are sampled.
const SCAN_MAX: Duration = Duration::from_secs(1);

/// What the processor knows in the end.
pub(super) struct Kept {
    pub processes: Processes,
    pub aggregator: Aggregator,
    /// Without what only the sampler knows.
    pub counts: SessionCounts,
}

/// A sample whose stack cannot be finished before a table is there.
struct Unfinished {
    time: u64,
    sample: RawSample,
    /// Who its process was then.
    process: Identity,
    /// What was mapped when it was taken.
    memory: AddressSpace,
}

/// All of it.
pub(super) struct State {
    processes: Processes,
    windows: Windows,
    tables: Tables,
    order: Orderer,
    /// By the executable whose rows they wait for.
    waiting: HashMap<ExecutableId, Vec<Unfinished>>,
    waiting_bytes: usize,
    waiting_bytes_max: usize,
    side_band_lost: u64,
    finished: u64,
    next_tidying: Instant,
    next_asking: Instant,
    /// The pass over /proc did not come to all processes.
    is_cut_scan: bool,
    observer: Option<Box<dyn SampleObserver>>,
}

impl State {
    /// Knows no process yet. `waiting_bytes_max`: of stack snapshots that wait for tables; what comes on top is counted with the
    /// frames it has.
    pub fn new(
        processes: Processes,
        tables: Tables,
        windows: Windows,
        waiting_bytes_max: usize,
        observer: Option<Box<dyn SampleObserver>>,
    ) -> Self {
        Self {
            processes,
            windows,
            tables,
            order: Orderer::default(),
            waiting: HashMap::new(),
            waiting_bytes: 0,
            waiting_bytes_max,
            side_band_lost: 0,
            finished: 0,
            next_tidying: Instant::now() + TIDY_EVERY,
            next_asking: Instant::now() + ASK_EVERY,
            is_cut_scan: false,
            observer,
        }
    }

    /// Passes over /proc.
    pub fn scan(&mut self, scope: ScanScope) {
        match scope {
            ScanScope::All => {
                let begin = Instant::now();
                let mut rest =
                    scan_processes().inspect(|scanned| self.processes.insert_scanned(scanned));
                self.is_cut_scan = rest.any(|_| begin.elapsed() > SCAN_MAX);
            }
            ScanScope::Only(pids) => {
                for scanned in pids.into_iter().filter_map(scan_process) {
                    self.processes.insert_scanned(&scanned);
                    self.load(scanned.pid);
                }
            }
        }
    }

    /// Has everything ready for a process before its first tick.
    fn load(&mut self, pid: Pid) {
        self.tables.want(pid);
        self.load_mapped(&self.processes.address_space(pid));
        while self.tables.take_loaded(PATIENCE).is_some() {}
        self.tables.publish(&mut self.processes, 0);
    }

    /// Waits for the next batch; takes what the loader has read meanwhile. `None`: there will be none.
    pub fn next(&mut self, batches: &Receiver<EventBatch>) -> Option<EventBatch> {
        while self.tables.is_loading() {
            match batches.recv_timeout(LOADING_TURN) {
                Ok(batch) => return Some(batch),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.take_tables(Duration::ZERO),
            }
        }
        batches.recv().ok()
    }

    /// Takes what the rings held.
    pub fn take(&mut self, batch: EventBatch) {
        if batch.side_band_lost > 0 {
            self.side_band_lost += batch.side_band_lost;
            self.invalidate_before(batch.drained);
        }
        self.windows.malformed(batch.malformed);
        if let Some(observer) = &mut self.observer {
            observer.count_lost(batch.perf_samples_lost);
        }
        if self.processes.executables.take_recovered() {
            self.processes.invalidate_before(batch.drained);
        }
        for timed in &batch.events {
            match &timed.event {
                Event::Mmap(mapped) => self.processes.open_mapped_file(mapped),
                Event::Sample(sample) => self.prepare(timed.time, sample),
                _ => {}
            }
        }
        self.order.add(batch.events);
        for timed in self.order.ready(batch.drained) {
            self.apply(timed);
        }
        self.take_tables(Duration::ZERO);
        let known = batch.drained.saturating_sub(Orderer::SLACK_NS);
        self.processes.remove_exited(known);
        self.tables.publish(&mut self.processes, known);
        self.close(known);
        if self.next_asking <= Instant::now() {
            self.processes.detect_missed_exits(now());
            self.next_asking = Instant::now() + ASK_EVERY;
        }
        if self.next_tidying <= Instant::now() {
            self.tidy();
        }
    }

    /// Samples counted so far.
    pub fn samples(&self) -> u64 {
        self.windows.aggregated()
    }

    /// Begins a new window; the one before goes to `closed` once it is complete.
    pub fn cut(&mut self, seam: Seam, closed: SyncSender<Closed>) {
        self.windows.cut(seam.emitted, now(), closed);
        if let Some(until) = seam.missed_until {
            self.invalidate_before(until);
        }
    }

    /// Learns that process events up to this time may be missing.
    fn invalidate_before(&mut self, until: u64) {
        self.processes.invalidate_before(until);
        self.tables.invalidate_mappings();
    }

    /// Hands out the window before once it is complete.
    fn close(&mut self, known: u64) {
        if !self.windows.is_closing() {
            return;
        }
        if self.windows.is_overdue(known) {
            let windows = &self.windows;
            let is_late = |unfinished: &mut Unfinished| windows.is_before_cut(&unfinished.sample);
            let waiting = self.waiting.values_mut();
            let late: Vec<_> = waiting.flat_map(|all| all.extract_if(.., is_late)).collect();
            late.into_iter().for_each(|unfinished| self.give_up(unfinished));
        }
        let Self { windows, processes, tables, .. } = self;
        let (side_band_lost, finished) = (self.side_band_lost, self.finished);
        let counts = || counts(processes, tables, side_band_lost, finished);
        windows.close(known, &processes.executables, counts);
    }

    /// Forgets what has gone: executables that nothing maps any more, with their rows and files.
    fn tidy(&mut self) {
        let begin = cpu_time();
        let mut mapped = self.processes.mapped_executables();
        mapped.extend(self.tables.mapped());
        let waiting =
            self.waiting.values().flatten().flat_map(|unfinished| unfinished.memory.iter());
        mapped.extend(waiting.map(|mapping| mapping.executable));
        let gone = self.processes.executables.remove_unused(&mapped, self.windows.oldest());
        self.tables.forget_executables(&gone);
        self.tables.end_waits();
        let used = cpu_time().saturating_sub(begin);
        self.next_tidying = Instant::now() + TIDY_EVERY.max(used * TIDY_PART);
    }

    /// Asks for what a stack snapshot lacks before its turn has come: the next ticks of its process find it. Reads about
    /// processes and looks up what is not known of them while they are there.
    fn prepare(&mut self, time: u64, sample: &RawSample) {
        if self.is_cut_scan || self.processes.is_stale(sample.pid) {
            self.processes.refresh(sample.pid);
        }
        self.processes.prepare_labels(sample.pid, sample.cgroup_id, time);
        let Some(rest) = &sample.snapshot else { return };
        self.tables.want(sample.pid);
        let (memory, executables) =
            (self.processes.address_space(sample.pid), &self.processes.executables);
        self.tables.walk(&sample.user, rest, &memory, executables);
    }

    /// Counts what is left, when there are no more batches.
    pub fn finish(mut self) -> Kept {
        for timed in self.order.finish() {
            self.apply(timed);
        }
        self.take_tables(PATIENCE);
        for unfinished in std::mem::take(&mut self.waiting).into_values().flatten() {
            self.give_up(unfinished);
        }
        let Self { processes, windows, tables, side_band_lost, finished, .. } = self;
        let counts = counts(&processes, &tables, side_band_lost, finished);
        Kept { processes, aggregator: windows.finish(), counts }
    }

    fn apply(&mut self, timed: TimedEvent) {
        match timed.event {
            Event::Sample(sample) => self.take_sample(timed.time, *sample),
            Event::PerfSample(sample) => self.show(|observer, context| {
                observer.observe_perf_sample(timed.time, *sample, context);
            }),
            event => self.processes.apply(TimedEvent { time: timed.time, event }),
        }
    }

    fn take_sample(&mut self, time: u64, mut sample: RawSample) {
        self.windows.of(&sample).0.saw(&sample);
        self.processes.refresh(sample.pid);
        let memory = self.processes.address_space(sample.pid);
        self.tables.cut_unsure(time, &mut sample, &memory);
        let process = self.processes.identity(sample.pid, sample.cgroup_id, time);
        let unfinished = Unfinished { time, sample, process, memory };
        if unfinished.sample.snapshot.is_some() {
            self.tables.want(unfinished.sample.pid);
            self.walk(unfinished);
        } else {
            self.count(&unfinished);
        }
    }

    /// Walks a stack snapshot, or keeps it until the rows that it needs are there.
    fn walk(&mut self, mut unfinished: Unfinished) {
        let executables = &self.processes.executables;
        let Unfinished { sample, memory, .. } = &mut unfinished;
        let Some(rest) = sample.snapshot.take() else { return self.count(&unfinished) };
        match self.tables.walk(&sample.user, &rest, memory, executables) {
            WalkOutcome::Done(frames, end) => {
                // A snapshot that is too short does not lead to the rows that the kernel misses, and without them it
                // would take such snapshots for ever.
                if matches!(end, StackEnd::SnapshotEnd | StackEnd::Unreadable) {
                    self.load_mapped(&unfinished.memory);
                }
                (unfinished.sample.user, unfinished.sample.user_end) = (frames, end);
                self.finished += 1;
                self.count(&unfinished);
            }
            WalkOutcome::MissingRows(executable) => {
                self.waiting_bytes += rest.stack.len();
                unfinished.sample.snapshot = Some(rest);
                if self.waiting_bytes > self.waiting_bytes_max {
                    self.give_up(unfinished);
                } else {
                    self.waiting.entry(executable).or_default().push(unfinished);
                }
            }
        }
    }

    /// Asks for the rows of all that is mapped.
    fn load_mapped(&mut self, memory: &AddressSpace) {
        for mapping in memory.iter() {
            self.tables.request(mapping.executable, &[], &self.processes.executables);
        }
    }

    /// Counts a sample whose stack cannot be walked on with the frames that it has.
    fn give_up(&mut self, mut unfinished: Unfinished) {
        if let Some(rest) = unfinished.sample.snapshot.take() {
            self.waiting_bytes -= rest.stack.len();
            unfinished.sample.user_end = StackEnd::NoTable;
        }
        self.count(&unfinished);
    }

    /// Takes what the loader has read, and goes on with what has waited for it.
    fn take_tables(&mut self, patience: Duration) {
        while let Some(executable) = self.tables.take_loaded(patience) {
            for unfinished in self.waiting.remove(&executable).unwrap_or_default() {
                let bytes = unfinished.sample.snapshot.as_ref().map_or(0, |rest| rest.stack.len());
                self.waiting_bytes -= bytes;
                self.walk(unfinished);
            }
        }
    }

    fn count(&mut self, Unfinished { time, sample, process, memory }: &Unfinished) {
        let (aggregator, number) = self.windows.of(sample);
        let added = aggregator.add(sample, process, memory, &self.processes.executables);
        let executables = aggregator.last_stack().iter().map(|frame| frame.executable);
        self.tables.used(executables.clone());
        executables.for_each(|id| self.processes.executables.mark_sampled(id, number));
        if added.is_ok() {
            self.windows.added();
        }
        self.show(|observer, context| observer.observe(*time, sample, memory, context));
    }

    fn show(&mut self, what: impl FnOnce(&mut dyn SampleObserver, &SampleContext<'_>)) {
        if let Some(observer) = &mut self.observer {
            let (executables, tables) = (&self.processes.executables, &self.tables);
            let rule = |memory: &AddressSpace, at| tables.rule(memory, executables, at);
            what(observer.as_mut(), &SampleContext { executables, rule: &rule });
        }
    }
}

fn counts(
    processes: &Processes,
    tables: &Tables,
    side_band_lost: u64,
    finished: u64,
) -> SessionCounts {
    SessionCounts {
        side_band_lost,
        tables: tables.counts(),
        finished,
        processes: processes.count() as u64,
        executables: processes.executables.count() as u64,
        file_helper: processes.executables.file_helper_usage(),
        labels: processes.label_counts(),
        ..SessionCounts::default()
    }
}
