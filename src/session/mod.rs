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
//! What ticks is a [`Capture`]: `machine.rs` has clocks of CPUs with the BPF programs, `tasks.rs`
//! clocks of selected tasks without. `setup.rs` starts the threads for either.
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

mod capture;
mod clocks;
mod count;
mod cpu;
mod cpu_log;
mod cpu_ticks;
mod cpu_times;
mod cpu_watcher;
mod finish;
mod machine;
mod observer;
mod options;
mod order;
mod pipeline;
mod processor;
mod resolve;
mod results;
mod sampler_time;
mod setup;
mod tasks;
mod window_boundary;
mod windows;

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::kernel::{LoadError, SamplerConfig, SamplingRate, TaskSamplerConfig};
use crate::processes::open_files;
use crate::tables::{Cache, LoadingCanceller};
pub use capture::Capture;
pub use cpu::SessionCpu;
pub use cpu_times::NoClockReason;
pub use machine::MachineCapture;
pub use observer::{SampleContext, SampleObserver};
pub use options::{ScanScope, SessionLimits};
use resolve::TABLE_TIMEOUT;
pub use results::{ClosedWindow, CpuCounts, Recording, SamplerProgress, SessionCounts, TaskCounts};
pub use sampler_time::SamplerTime;
use setup::SessionThreads;
pub use tasks::{TaskCapture, TaskSelection};

/// The part of the CPU time for processes that process events may take.
const PROCESS_EVENTS: f64 = 0.6;
/// The least CPU time for reading processes, in CPU seconds per second: about thirty in a second.
/// While events are skipped, the stacks of all processes depend on it.
const PROCESS_READS_LEAST: f64 = 0.004;
/// The most of that, as a multiple of the CPU time for processes: a quarter of the budget where
/// they have no more than their share, a tenth.
const PROCESS_READS_LEAST_MAX: f64 = 2.5;

/// A running session.
pub struct Session<C = MachineCapture> {
    capture: C,
    threads: SessionThreads,
}

impl Session {
    /// Loads the programs and starts the clocks of all CPUs.
    ///
    /// What begins while that is done is reported by the side band.
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
        let (capture, threads) =
            MachineCapture::start(program, config, scope, limits, cache, observer)?;
        Ok(Self { capture, threads })
    }

    /// Returns the CPU time so far, by what it was for.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn cpu(&self) -> io::Result<SessionCpu> {
        let SamplerTime { ticks, total, .. } = self.sampler_progress()?.time;
        Ok(SessionCpu { ticks, ticks_in_kernel: total, ..self.threads.processor_cpu.get() })
    }

    /// Limits the CPU time of reading unwind tables, and of process events and reading processes
    /// together, in CPU seconds per second. There is no limit before the first call.
    pub fn limit_cpu(&self, tables: f64, processes: f64) {
        let least = PROCESS_READS_LEAST.min(processes * PROCESS_READS_LEAST_MAX);
        let reads = (processes * (1.0 - PROCESS_EVENTS)).max(least);
        let rates = [tables, processes * PROCESS_EVENTS, reads];
        self.threads.rates.iter().zip(rates).for_each(|(shared, rate)| shared.set(rate));
    }

    /// Returns what ends reading unwind tables: stacks whose tables are not loaded then are cut.
    pub fn loading_canceller(&self) -> LoadingCanceller {
        self.threads.loading_canceller.clone()
    }

    /// Returns the number of ticks of each CPU so far, indexed by CPU number.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn ticks_by_cpu(&self) -> io::Result<Vec<u64>> {
        let counters = self.capture.clocks().sampler.counters()?;
        Ok(counters.iter().map(|cpu| cpu.ticks).collect())
    }

    /// Closes the current window and begins the next, with no tick in between. Waits up to some
    /// seconds until the samples of the closed one are counted.
    ///
    /// # Errors
    /// When a counter cannot be read; the window goes on then.
    pub fn close_window(&mut self) -> io::Result<ClosedWindow> {
        self.threads.processor.close_window(|| self.capture.clocks().read_boundary())
    }

    /// Like [`Self::close_window`], but samples the next window at another rate.
    ///
    /// The clocks stand still during the change, 50 ms at most.
    ///
    /// # Errors
    /// When a counter cannot be read or the kernel refuses the rate; the window goes on then, at
    /// its own rate.
    pub fn close_window_at_rate(&mut self, rate: SamplingRate) -> io::Result<ClosedWindow> {
        self.threads.processor.close_window(|| self.capture.clocks().change_rate(rate))
    }
}

impl Session<TaskCapture> {
    /// Opens clocks of the selected tasks and starts them. No BPF program is loaded.
    ///
    /// `program`, `cache`: as in [`Session::start`].
    ///
    /// # Errors
    /// [`LoadError`] when the kernel refuses. That a task has exited is none.
    pub fn start_for_tasks(
        program: &str,
        config: TaskSamplerConfig,
        selection: &TaskSelection,
        limits: SessionLimits,
        cache: Option<Cache>,
    ) -> Result<Self, LoadError> {
        let (capture, threads) = TaskCapture::start(program, config, selection, limits, cache)?;
        Ok(Self { capture, threads })
    }
}

impl<C: Capture> Session<C> {
    /// Runs `spawn`, and follows the process that it starts with all descendants.
    ///
    /// # Errors
    /// When the kernel refuses to watch processes.
    pub fn launch<T: Send>(&mut self, spawn: impl FnOnce() -> T + Send) -> Result<T, LoadError> {
        let launched = self.capture.launch(spawn);
        open_files::raise_limit(); // not before: the command would inherit it
        launched
    }

    /// Returns the time since the clocks started.
    pub fn elapsed(&self) -> Duration {
        self.threads.started.elapsed()
    }

    /// Returns the number of samples counted so far.
    pub fn samples(&self) -> u64 {
        self.threads.samples.load(Ordering::Relaxed)
    }

    /// Returns the losses and the overhead of the sampler so far, from one reading of its counters.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn sampler_progress(&self) -> io::Result<SamplerProgress> {
        self.capture.progress()
    }

    /// Stops the clocks, and returns what was recorded.
    ///
    /// # Errors
    /// When a ring or a counter cannot be read.
    pub fn finish(self) -> io::Result<Recording> {
        self.finish_within(TABLE_TIMEOUT)
    }

    /// Like [`Self::finish`]. Samples wait for tables that are still being read: up to
    /// `table_timeout` for each, and a few times that in all.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub fn finish_within(self, table_timeout: Duration) -> io::Result<Recording> {
        let SessionThreads { reader, processor, .. } = self.threads;
        let end = self.capture.finish(reader)?;
        Ok(processor.join()?.finish(&end, table_timeout))
    }
}
