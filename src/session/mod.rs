//! One recording from start to end: the threads of stations 1, 2 and 4, and the sampler they serve.
//!
//! ```text
//! reader thread --Batch--> keeper thread: open, order, resolve, count
//! ```
//! [`Session::start`] opens the side band first, then passes over /proc, then lets the
//! clocks tick: what starts in between is told by the side band. [`Session::finish`]
//! stops the clocks, reads the rings empty and closes the ledger.

mod keeper;
mod time;
mod witness;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use profile::{CaptureLedger, CpuTicks, Loss, Pid, TickOutcome, Window};

use crate::events::{Reader, Rings, spawn_reader};
use crate::kernel::{LoadError, Sampler, Settings, SideBand, abi::Counters, online_cpus};
use crate::naming::Period;
use crate::processes::Processes;
use crate::tables::{Cache, TableCounts, Tables};
use keeper::Keeper;
pub use time::SamplerTime;
pub use witness::{Witness, World};

/// Batches on their way to the keeper. When it falls behind, the reader waits, and the
/// rings, whose losses the kernel counts, fill up.
const BATCHES_MAX: usize = 256;

/// How much memory a session may take, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The window of counted stacks.
    pub window: usize,
    /// Unwind tables and mappings in the kernel; at least one slab.
    pub unwind: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { window: 64 << 20, unwind: 128 << 20 }
    }
}

/// Which processes are looked up in /proc before the start.
#[derive(Clone, Debug)]
pub enum Scan {
    /// All of them.
    All,
    /// These: nothing else is sampled, or the rest is told by the side band.
    Only(Vec<Pid>),
}

/// A running recording.
pub struct Session {
    sampler: Sampler,
    reader: Reader,
    keeper: Keeper,
    progress: Arc<Progress>,
    frequency: u32,
    started: Instant,
    started_unix_ns: u64,
}

/// What a recording came to.
pub struct Recording {
    /// The counted stacks.
    pub window: Window,
    /// Where every tick went.
    pub ledger: CaptureLedger,
    /// When and how.
    pub period: Period,
    /// The processes and executables that the window speaks of.
    pub processes: Processes,
    /// What the sampler itself cost.
    pub sampler_time: SamplerTime,
    /// Process events that found no room in their ring.
    pub side_band_lost: u64,
    /// Child processes of COMMAND that were too many to follow.
    pub not_followed: u64,
    /// What is known of unwinding.
    pub tables: TableCounts,
    /// Stacks that the agent finished from a copy.
    pub finished: u64,
    /// Bytes of kernel memory in BPF maps.
    pub map_bytes: u64,
}

/// Counts that can be read while it runs.
#[derive(Debug, Default)]
pub struct Progress {
    samples: AtomicU64,
}

impl Session {
    /// Loads the programs and starts the clocks. `cache`: where tables of earlier runs are. `witness`: is shown what
    /// `settings` have perf record.
    ///
    /// # Errors
    /// [`LoadError`] when the kernel refuses. Nothing is left loaded then.
    pub fn start(
        settings: Settings,
        scan: Scan,
        limits: Limits,
        cache: Option<Cache>,
        witness: Option<Box<dyn Witness>>,
    ) -> Result<Self, LoadError> {
        let frequency = settings.frequency;
        if !settings.command {
            raise_open_files();
        }
        let side_band_bytes = settings.side_band_bytes;
        let mut sampler = Sampler::load(settings)?;
        let tables = Tables::new(sampler.walk_maps()?, limits.unwind, cache)?;
        sampler.watch_memory()?;
        let open = |cpu| SideBand::open(cpu, side_band_bytes);
        let side_bands = online_cpus()?.into_iter().map(open).collect::<Result<_, _>>()?;
        let (sender, batches) = mpsc::sync_channel(BATCHES_MAX);
        let perf_samples = sampler.open_clocks()?;
        let rings = Rings { samples: sampler.reader()?, side_bands, perf_samples };
        let reader = spawn_reader(rings, sender)?;
        let progress = Arc::new(Progress::default());
        let keeper =
            Keeper::spawn(batches, scan, tables, limits.window, Arc::clone(&progress), witness)?;
        keeper.wait_for_scan();
        let (started, started_unix_ns) = (Instant::now(), unix_ns());
        sampler.start()?;
        Ok(Self { sampler, reader, keeper, progress, frequency, started, started_unix_ns })
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

    /// Stops the clocks and gives what was recorded.
    ///
    /// # Errors
    /// When a ring or a counter cannot be read.
    pub fn finish(self) -> io::Result<Recording> {
        self.sampler.stop()?;
        let map_bytes = map_bytes(); // while the keeper still has its slabs
        let duration = self.started.elapsed();
        self.reader.finish()?;
        let kept = self.keeper.finish()?;

        let counters = self.sampler.counters()?;
        let emitted: Vec<u64> = counters.iter().map(emitted).collect();
        let (window, mut ledger) = kept.aggregator.finish(&emitted);
        close(&mut ledger, &counters, self.sampler.cpu_ticks(&counters)?);
        let period = Period {
            start_unix_ns: self.started_unix_ns,
            duration_ns: duration.as_nanos() as u64,
            sample_ns: 1_000_000_000 / u64::from(self.frequency),
        };
        Ok(Recording {
            window,
            ledger,
            period,
            processes: kept.processes,
            sampler_time: SamplerTime::of(&counters),
            side_band_lost: kept.side_band_lost,
            not_followed: counters.iter().map(|cpu| cpu.family_full).sum(),
            tables: kept.tables,
            finished: kept.finished,
            map_bytes,
        })
    }
}

/// Asks for as many open files as the hard limit allows: executables are held open.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Refused, the lower limit stands and fewer are held.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Samples that a CPU gave a sequence number.
fn emitted(cpu: &Counters) -> u64 {
    cpu.outcomes[TickOutcome::Delivered as usize] + cpu.outcomes[TickOutcome::LostRingFull as usize]
}

/// Adds what only the sampler knows.
fn close(ledger: &mut CaptureLedger, counters: &[Counters], cpus: Vec<CpuTicks>) {
    for outcome in TickOutcome::ALL {
        let place = *outcome as usize;
        ledger.outcomes[place] = counters.iter().map(|cpu| cpu.outcomes[place]).sum();
    }
    ledger.lost[Loss::RingFull as usize] = ledger.outcome(TickOutcome::LostRingFull);
    ledger.cpus = cpus;
}

fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
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
