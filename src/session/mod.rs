//! One recording from start to end: the threads of stations 1, 2 and 4, and the sampler they serve.
//!
//! ```text
//! reader thread --EventBatch--> processor thread: open, order, resolve, count
//! ```
//! [`Session::start`] opens the side band first, then passes over /proc, then lets the
//! clocks tick: what starts in between is told by the side band. [`Session::cut`] ends a window and begins
//! the next. [`Session::finish`] stops the clocks, reads the rings empty and closes the last.

mod edge;
mod observer;
mod processor;
mod state;
mod time;
mod windows;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use profile::{CaptureLedger, Pid, TickOutcome, Window};
use symbolizer::Usage;

use crate::events::{self, Reader, Rings, spawn_reader};
use crate::kernel::{
    LoadError, Sampler, SamplerConfig, SamplingRate, SideBand, SideBandSwitch, online_cpus,
};
use crate::labels::Root;
use crate::processes::{Executables, LabelCounts, Processes, WindowExecutables};
use crate::symbolization::Period;
use crate::tables::{Cache, TableCounts, Tables};
use edge::Edge;
pub use edge::unix_ns;
pub use observer::{SampleContext, SampleObserver};
use processor::{Processor, Seam};
use state::{Kept, State};
pub use time::SamplerTime;
use windows::{Closed, Windows};

/// Batches on their way to the processor. When it falls behind, the reader waits, and the
/// rings, whose losses the kernel counts, fill up.
const BATCHES_MAX: usize = 256;

/// What a session may take: memory in bytes, and looks into /proc.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// The window of counted stacks.
    pub window: usize,
    /// Unwind tables and mappings in the kernel; at least one slab.
    pub unwind: u64,
    /// Call frames of files that are being read.
    pub reading: usize,
    /// Copied stacks that wait for tables.
    pub waiting: usize,
    /// Read labels of the processes that are sampled: some system calls for each.
    pub labels: bool,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            window: 64 << 20,
            unwind: 128 << 20,
            reading: 24 << 20,
            waiting: 16 << 20,
            labels: false,
        }
    }
}

/// Which processes are looked up in /proc before the start.
#[derive(Clone, Debug)]
pub enum ScanScope {
    /// All of them.
    All,
    /// These: nothing else is sampled, or the rest is told by the side band.
    Only(Vec<Pid>),
}

/// A running recording.
pub struct Session {
    sampler: Sampler,
    /// Of each CPU. Off while nothing is sampled.
    side_bands: Vec<SideBandSwitch>,
    reader: Reader,
    processor: Processor,
    progress: Arc<Progress>,
    pace: SamplingRate,
    started: Instant,
    /// Where the window begins that is filled.
    begin: Edge,
    /// Bytes of BPF maps without slabs.
    map_bytes: u64,
}

/// A window that is complete.
pub struct ClosedWindow {
    /// The counted stacks.
    pub window: Window,
    /// Where every tick went.
    pub ledger: CaptureLedger,
    /// When and how.
    pub period: Period,
    /// The executables that the window speaks of.
    pub executables: WindowExecutables,
    /// What the session has come to so far.
    pub counts: SessionCounts,
}

/// What a recording came to.
pub struct Recording {
    /// Its last window.
    pub last: ClosedWindow,
    /// The processes and executables that were known at the end.
    pub processes: Processes,
}

/// What a session has come to since it began.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionCounts {
    /// What the sampler itself cost.
    pub sampler: SamplerTime,
    /// Child processes of COMMAND that were too many to follow.
    pub not_followed: u64,
    /// Bytes of kernel memory in BPF maps, now.
    pub map_bytes: u64,
    /// Process events that found no room in their ring.
    pub side_band_lost: u64,
    /// What is known of unwinding, now.
    pub tables: TableCounts,
    /// Stacks that the agent finished from a stack snapshot.
    pub finished: u64,
    /// Processes that are known now.
    pub processes: u64,
    /// Executables that are known now.
    pub executables: u64,
    /// What the process has used that opens files.
    pub file_helper: Usage,
    /// How labels of processes were found.
    pub labels: LabelCounts,
}

/// Counts that can be read while it runs.
#[derive(Debug, Default)]
pub struct Progress {
    samples: AtomicU64,
}

impl Session {
    /// Loads the programs and starts the clocks. `program`: everytick itself, which is also its own workers. `cache`: where
    /// tables of earlier runs are. `observer`: is shown what `settings` have perf record.
    ///
    /// # Errors
    /// [`LoadError`] when the kernel refuses. Nothing is left loaded then.
    pub fn start(
        program: &str,
        settings: SamplerConfig,
        scan: ScanScope,
        limits: SessionLimits,
        cache: Option<Cache>,
        observer: Option<Box<dyn SampleObserver>>,
    ) -> Result<Self, LoadError> {
        let (frequency, pace) = (settings.frequency, SamplingRate::from_hz(settings.frequency));
        if !settings.command {
            raise_open_files();
        }
        let side_band_bytes = settings.side_band_bytes;
        let mut sampler = Sampler::load(settings)?;
        let tables = Tables::new(sampler.walk_maps()?, limits.unwind, limits.reading, cache)?;
        let map_bytes = map_bytes(); // there is no slab yet
        sampler.watch_memory()?;
        let open = |cpu| SideBand::open(cpu, side_band_bytes);
        let rings = online_cpus()?.into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let side_bands = rings.iter().map(SideBand::switch).collect();
        let (sender, batches) = mpsc::sync_channel(BATCHES_MAX);
        let perf_samples = sampler.open_clocks()?;
        let rings = Rings { samples: sampler.reader()?, side_bands: rings, perf_samples };
        let tick = Duration::from_secs(1) / frequency.max(1);
        let reader = spawn_reader(rings, tick, sender)?;
        let progress = Arc::new(Progress::default());
        let mut processes = Processes::new(Executables::new(open_files_max(), program));
        if limits.labels {
            processes.enable_labels(Root::find());
        }
        let windows = Windows::new(limits.window);
        let state = State::new(processes, tables, windows, limits.waiting, observer);
        let processor = Processor::spawn(batches, scan, state, Arc::clone(&progress))?;
        processor.wait_for_scan();
        let (started, begin) = (Instant::now(), Edge::start());
        sampler.start()?;
        Ok(Self {
            sampler,
            side_bands,
            reader,
            processor,
            progress,
            pace,
            started,
            begin,
            map_bytes,
        })
    }

    /// Runs `spawn`; the process that it starts is followed with all its children.
    ///
    /// # Errors
    /// When the kernel refuses to watch processes.
    pub fn launch<T>(&mut self, spawn: impl FnOnce() -> T) -> Result<T, LoadError> {
        let launched = self.sampler.launch(spawn);
        raise_open_files(); // not before: the command would inherit it
        launched
    }

    /// How long it runs.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Samples counted so far.
    pub fn samples(&self) -> u64 {
        self.progress.samples.load(Ordering::Relaxed)
    }

    /// Samples lost so far, and what the sampler cost so far.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn lost_and_cost(&self) -> io::Result<(u64, SamplerTime)> {
        let counters = self.sampler.counters()?;
        let lost =
            counters.iter().map(|cpu| cpu.outcomes[TickOutcome::LostRingFull as usize]).sum();
        Ok((lost, SamplerTime::of(&counters)))
    }

    /// Ends the window that is filled and begins the next, with no tick in between. Waits until the samples of the old one
    /// have come, up to some seconds.
    ///
    /// # Errors
    /// When a counter cannot be read; the window goes on then.
    pub fn cut(&mut self) -> io::Result<ClosedWindow> {
        let pace = self.pace;
        self.cut_at(|turning| Ok((Edge::now(turning.sampler)?, None)), pace)
    }

    /// Ends the window likewise; the next is sampled at another pace. The clocks stand still for as long as the change
    /// takes, 50 ms at most. While nothing is sampled nothing is told of processes either: what is known of them is in doubt
    /// afterwards, and looked up when they are sampled.
    ///
    /// # Errors
    /// When a counter cannot be read or the kernel refuses the pace; the window goes on then, at its own pace.
    pub fn cut_to(&mut self, pace: SamplingRate) -> io::Result<ClosedWindow> {
        let change = |turning: &mut Turning<'_>| {
            turning.turn(pace).or_else(|error| {
                turning.turn_back()?;
                Err(error)
            })
        };
        let closed = self.cut_at(change, pace)?;
        self.begin.restart();
        Ok(closed)
    }

    fn cut_at(
        &mut self,
        edge: impl FnOnce(&mut Turning<'_>) -> io::Result<(Edge, Option<u64>)>,
        next: SamplingRate,
    ) -> io::Result<ClosedWindow> {
        let mut end = None;
        let Self { sampler, side_bands, pace, .. } = self;
        let mut turning = Turning { sampler, side_bands, pace: *pace };
        let closed = self.processor.cut(|| {
            let (edge, missed_until) = edge(&mut turning)?;
            Ok(Seam { emitted: end.insert(edge).emitted(), missed_until })
        })?;
        let mut end = end.ok_or_else(|| io::Error::other("the window has no end"))?;
        let closed = close(closed, &self.begin, &mut end, self.pace, self.map_bytes);
        (self.begin, self.pace) = (end, next);
        Ok(closed)
    }

    /// Stops the clocks and gives what was recorded.
    ///
    /// # Errors
    /// When a ring or a counter cannot be read.
    pub fn finish(self) -> io::Result<Recording> {
        self.sampler.stop()?;
        let mut end = Edge::now(&self.sampler)?;
        self.reader.finish()?;
        let Kept { aggregator, processes, counts } = self.processor.finish()?;

        let (window, ledger) = aggregator.finish(&end.emitted());
        let executables = processes.executables.of_window(&window);
        let closed = Closed { window, ledger, executables, counts };
        let last = close(closed, &self.begin, &mut end, self.pace, self.map_bytes);
        Ok(Recording { last, processes })
    }
}

/// What goes from one pace to another.
struct Turning<'a> {
    sampler: &'a mut Sampler,
    side_bands: &'a [SideBandSwitch],
    /// The pace so far.
    pace: SamplingRate,
}

impl Turning<'_> {
    /// Stops the clocks, and starts them at another pace. Gives what was counted in between, and until when nobody told of
    /// process events.
    fn turn(&mut self, pace: SamplingRate) -> io::Result<(Edge, Option<u64>)> {
        self.sampler.stop()?;
        let edge = Edge::now(self.sampler)?;
        let mut missed_until = None;
        if self.pace.period.is_none() {
            self.side_bands.iter().try_for_each(SideBandSwitch::on)?;
            missed_until = Some(events::now());
        }
        self.go_on(pace)?;
        Ok((edge, missed_until))
    }

    /// Goes on as before, when another pace was refused half-way.
    fn turn_back(&mut self) -> io::Result<()> {
        self.sampler.stop()?;
        self.go_on(self.pace)
    }

    /// Starts the clocks, or lets the side bands stand still, too.
    fn go_on(&mut self, pace: SamplingRate) -> io::Result<()> {
        self.sampler.resume(pace)?;
        if pace.period.is_none() {
            // One that stays on costs time, and no more.
            self.side_bands.iter().for_each(|side_band| drop(side_band.off()));
        }
        Ok(())
    }
}

/// Adds to a window what only the sampler knows.
fn close(
    closed: Closed,
    begin: &Edge,
    end: &mut Edge,
    pace: SamplingRate,
    map_bytes: u64,
) -> ClosedWindow {
    let Closed { window, mut ledger, executables, counts } = closed;
    end.close(begin, pace, &mut ledger);
    let counts = SessionCounts {
        sampler: SamplerTime::of(&end.counters),
        not_followed: end.counters.iter().map(|cpu| cpu.descendants_missed).sum(),
        map_bytes: map_bytes + counts.tables.slab_bytes,
        ..counts
    };
    ClosedWindow { window, ledger, period: end.period(begin, pace), executables, counts }
}

/// Asks for as many open files as the hard limit allows: executables are held open.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Refused, the lower limit stands and fewer are held.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Executables to hold open: half of the descriptors that we may have once [`raise_open_files`] has asked for all of them.
fn open_files_max() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    (limit.maximum.unwrap_or(u64::MAX) / 2).min(1 << 16) as usize
}

/// Sums what the kernel says of each BPF map that we hold open.
fn map_bytes() -> u64 {
    let entries = std::fs::read_dir("/proc/self/fdinfo").into_iter().flatten().flatten();
    let infos = entries.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    let of_map = |info: String| {
        let is_map = info.contains("map_type:");
        let line =
            info.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse::<u64>().ok());
        let id =
            info.lines().find_map(|line| line.strip_prefix("map_id:")?.trim().parse::<u64>().ok());
        is_map.then_some(id.zip(line)).flatten()
    };
    // A map can be open under several descriptors.
    let by_id: std::collections::HashMap<u64, u64> = infos.filter_map(of_map).collect();
    by_id.values().sum()
}
