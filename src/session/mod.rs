//! A session from start to end: two threads, and the pipeline that turns events into windows.
//!
//! ```text
//! reader thread      processor thread
//! rings ----------> order ----> resolve ----> finish ----> count ----> ClosedWindow
//!        EventBatch   |           |             |            |
//!                   by time   process and   stacks that   into the window
//!                             mappings of   ticks could   and its ledger
//!                             each sample   not finish
//! ```
//!
//! `pipeline.rs` connects the four stages, each in a file of its own: `order.rs`, `resolve.rs`,
//! `finish.rs`, `count.rs`. `processor.rs` is the thread that runs them.
//!
//! Three promises hold:
//!
//! - Each tick is in exactly one window, and the ledger of each window closes. A
//!   `WindowBoundary` lies between two samples of each CPU.
//! - No sample is processed between the reading of the sampler's counters and the moment at which
//!   the boundary takes effect.
//! - When a boundary cannot be read, the window goes on.

mod clocks;
mod count;
mod cpu;
mod cpu_log;
mod cpu_ticks;
mod cpu_times;
mod cpu_watcher;
mod finish;
mod observer;
mod options;
mod order;
mod pipeline;
mod processor;
mod resolve;
mod results;
mod sampler_time;
mod window_boundary;
mod windows;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use profile::TickOutcome;

use crate::aggregate::WindowLimits;
use crate::events::{CpuRings, ProcessEventLimit, Reader, Rings, spawn_reader};
use crate::kernel::abi::Counters;
use crate::kernel::{LoadError, Sampler, SamplerConfig, SamplingRate, online_cpus};
use crate::labels::Root;
use crate::limits::SharedRate;
use crate::processes::{Executables, Processes, open_files};
use crate::procfs;
use crate::tables::{Cache, MappingPublisher, RowStore};
use clocks::{SampledCpu, SamplingClocks, SharedClocks};
use count::Counter;
use cpu::ProcessorCpu;
pub use cpu::SessionCpu;
pub use cpu_times::NoClockReason;
use cpu_watcher::CpuWatcher;
use finish::Finisher;
pub use observer::{SampleContext, SampleObserver};
pub use options::{ScanScope, SessionLimits};
use pipeline::Pipeline;
use processor::Processor;
use resolve::Resolver;
pub use results::{ClosedWindow, CpuCounts, Recording, SamplerProgress, SessionCounts};
pub use sampler_time::SamplerTime;
use windows::Windows;

/// Batches on their way to the processor. When the processor falls behind, the reader waits, and
/// the kernel counts what its rings then lose.
const BATCHES_MAX: usize = 256;

/// The part of the CPU time for processes that process events may take.
const PROCESS_EVENTS: f64 = 0.6;
/// The least CPU time for reading processes, in CPU seconds per second: about thirty in a second.
/// While events are skipped, the stacks of all processes depend on it.
const PROCESS_READS_LEAST: f64 = 0.004;

/// A running session.
pub struct Session {
    clocks: SharedClocks,
    cpu_watcher: CpuWatcher,
    reader: Reader,
    processor: Processor,
    started: Instant,
    samples: Arc<AtomicU64>,
    processor_cpu: ProcessorCpu,
    /// CPU time of reading unwind tables, of process events, and of reading processes.
    rates: [SharedRate; 3],
}

impl Session {
    /// Loads the programs and starts the clocks.
    ///
    /// The side band is opened first, then /proc is read, then the clocks start: what begins in
    /// between is reported by the side band.
    ///
    /// `program`: path of everytick, which also runs its worker processes. `cache`: tables of
    /// earlier runs. `observer`: sees every sample, and perf's records, if `config.perf_samples` is
    /// set.
    ///
    /// # Errors
    /// [`LoadError`] when the kernel refuses. Nothing stays loaded then.
    pub fn start(
        program: &str,
        config: SamplerConfig,
        scope: ScanScope,
        limits: SessionLimits,
        cache: Option<Cache>,
        observer: Option<Box<dyn SampleObserver>>,
    ) -> Result<Self, LoadError> {
        let rate = SamplingRate::from_hz(config.frequency);
        if !config.follows_command {
            open_files::raise_limit();
        }
        let mut sampler = Sampler::load(config.clone())?;
        let mut rows = RowStore::new(sampler.walk_maps()?, limits.unwind, limits.reading, cache)?;
        let rates = [rows.cpu_rate(), SharedRate::unlimited(), SharedRate::unlimited()];
        let map_bytes = procfs::own_bpf_map_bytes(); // of all maps but slabs: there is none yet
        sampler.watch_memory()?;

        let (cpus, rings) = open_cpus(&config)?;
        let next_number = cpus.len() as u64;
        let rings = Rings { samples: Some(sampler.reader()?), cpus: rings };
        let (sender, batches) = mpsc::sync_channel(BATCHES_MAX);
        let tick = Duration::from_secs(1) / config.frequency.max(1);
        let processor_cpu = ProcessorCpu::default();
        let used = processor_cpu.clone();
        let limit = ProcessEventLimit::new(rates[1].clone(), move || used.get().processes);
        let (reader, ring_changes) = spawn_reader(rings, tick, limit, sender)?;

        let executables = Executables::new(open_files::held_max(), limits.tracking, program);
        let mut processes = Processes::new(executables);
        let publisher_bytes = limits.unwind / 4;
        if limits.labels {
            processes.enable_labels(Root::find());
        }
        if limits.command_lines {
            processes.enable_command_lines();
        }
        let mut resolver = Resolver::new(processes);
        let mut publisher = MappingPublisher::new(publisher_bytes);
        resolver.scan(scope, &mut rows, &mut publisher);
        resolver.processes.limit_read_time(rates[2].clone());

        let mut clocks = SamplingClocks::new(sampler, cpus, config.cpus.clone(), rate);
        let (started, begin) = (Instant::now(), clocks.start()?);
        let window = WindowLimits { stacks: limits.window, times: limits.times };
        let counter = Counter::new(Windows::new(window, begin), observer);
        let finisher = Finisher::new(limits.waiting);
        let cpu = processor_cpu.clone();
        let pipeline = Pipeline::new(resolver, finisher, counter, rows, publisher, map_bytes, cpu);
        let samples = Arc::new(AtomicU64::new(0));
        let processor = Processor::spawn(batches, pipeline, Arc::clone(&samples))?;
        let clocks = SharedClocks::new(clocks);
        let cpu_watcher = CpuWatcher::spawn(clocks.clone(), ring_changes, config, next_number)?;
        Ok(Self { clocks, cpu_watcher, reader, processor, started, samples, processor_cpu, rates })
    }

    /// Runs `spawn`, and follows the process that it starts with all descendants.
    ///
    /// # Errors
    /// When the kernel refuses to watch processes.
    pub fn launch<T>(&mut self, spawn: impl FnOnce() -> T) -> Result<T, LoadError> {
        let launched = self.clocks.lock().sampler.launch(spawn);
        open_files::raise_limit(); // not before: the command would inherit it
        launched
    }

    /// Returns the time since the clocks started.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Returns the number of samples counted so far.
    pub fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }

    /// Returns the losses and the overhead of the sampler so far, from one reading of its counters.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn sampler_progress(&self) -> io::Result<SamplerProgress> {
        let counters = self.clocks.lock().sampler.counters()?;
        let lost_of = |cpu: &Counters| cpu.outcomes[TickOutcome::LostRingFull as usize];
        let lost_samples = counters.iter().map(lost_of).sum();
        Ok(SamplerProgress { lost_samples, time: SamplerTime::of(&counters) })
    }

    /// Returns the CPU time so far, by what it was for.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn cpu(&self) -> io::Result<SessionCpu> {
        let SamplerTime { ticks, total, .. } = self.sampler_progress()?.time;
        Ok(SessionCpu { ticks, ticks_in_kernel: total, ..self.processor_cpu.get() })
    }

    /// Limits the CPU time of reading unwind tables, and of process events and reading processes
    /// together, in CPU seconds per second. There is no limit before the first call.
    pub fn limit_cpu(&self, tables: f64, processes: f64) {
        let reads = (processes * (1.0 - PROCESS_EVENTS)).max(PROCESS_READS_LEAST);
        let rates = [tables, processes * PROCESS_EVENTS, reads];
        self.rates.iter().zip(rates).for_each(|(shared, rate)| shared.set(rate));
    }

    /// Returns the number of ticks of each CPU so far, indexed by CPU number.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn ticks_by_cpu(&self) -> io::Result<Vec<u64>> {
        let counters = self.clocks.lock().sampler.counters()?;
        Ok(counters.iter().map(|cpu| cpu.ticks).collect())
    }

    /// Closes the current window and begins the next, with no tick in between. Waits up to some
    /// seconds until the samples of the closed one are counted.
    ///
    /// # Errors
    /// When a counter cannot be read; the window goes on then.
    pub fn close_window(&mut self) -> io::Result<ClosedWindow> {
        self.processor.close_window(|| self.clocks.lock().read_boundary())
    }

    /// Like [`Self::close_window`], but samples the next window at another rate.
    ///
    /// The clocks stand still during the change, 50 ms at most.
    ///
    /// # Errors
    /// When a counter cannot be read or the kernel refuses the rate; the window goes on then, at
    /// its own rate.
    pub fn close_window_at_rate(&mut self, rate: SamplingRate) -> io::Result<ClosedWindow> {
        self.processor.close_window(|| self.clocks.lock().change_rate(rate))
    }

    /// Stops the clocks, and returns what was recorded.
    ///
    /// # Errors
    /// When a ring or a counter cannot be read.
    pub fn finish(self) -> io::Result<Recording> {
        self.cpu_watcher.finish();
        let end = self.clocks.lock().stop()?;
        self.reader.finish()?;
        Ok(self.processor.join()?.finish(&end))
    }
}

/// Opens the side bands and clocks of the online CPUs. One that the kernel refuses stays without:
/// the CPU watcher notes the reason and tries again.
///
/// # Errors
/// When no CPU has a clock, or the reason is one of the whole process.
fn open_cpus(config: &SamplerConfig) -> Result<(Vec<SampledCpu>, Vec<CpuRings>), LoadError> {
    let (mut cpus, mut rings, mut refused) = (Vec::new(), Vec::new(), None);
    for cpu in online_cpus()? {
        match SampledCpu::open(cpus.len() as u64, cpu, config) {
            Ok((sampled, of_cpu)) => {
                cpus.push(sampled);
                rings.push(of_cpu);
            }
            Err(error) => match NoClockReason::of(&error.source) {
                // The CPU has just gone offline.
                NoClockReason::Starting => {}
                NoClockReason::Denied | NoClockReason::OpenFiles => return Err(error.into()),
                NoClockReason::Memory | NoClockReason::Other => {
                    refused.get_or_insert(error);
                }
            },
        }
    }
    match refused.filter(|_| !cpus.iter().any(SampledCpu::is_sampled)) {
        Some(error) => Err(error.into()),
        None => Ok((cpus, rings)),
    }
}
