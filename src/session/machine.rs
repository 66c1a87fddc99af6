//! The capture of a machine: a clock on each CPU, in whose ticks the BPF programs run.

use std::io;
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use profile::TickOutcome;

use super::capture::Capture;
use super::clocks::{SampledCpu, SamplingClocks, SharedClocks};
use super::cpu_times::NoClockReason;
use super::cpu_watcher::CpuWatcher;
use super::observer::SampleObserver;
use super::options::{ScanScope, SessionLimits};
use super::results::SamplerProgress;
use super::sampler_time::SamplerTime;
use super::setup::{KernelTables, SessionThreads, Setup};
use super::window_boundary::WindowBoundary;
use crate::events::{CpuRings, Reader, Rings};
use crate::kernel::abi::Counters;
use crate::kernel::{LoadError, Sampler, SamplerConfig, SamplingRate, online_cpus};
use crate::processes::open_files;
use crate::procfs;
use crate::tables::Cache;

/// The clocks of all CPUs, and the thread that follows CPUs as they come and go.
pub struct MachineCapture {
    clocks: SharedClocks,
    cpu_watcher: CpuWatcher,
}

impl MachineCapture {
    /// Loads the programs and starts the clocks. The side band is opened first, then /proc is read,
    /// then the clocks start.
    ///
    /// # Errors
    /// [`LoadError`] when the kernel refuses. Nothing stays loaded then.
    pub(super) fn start(
        program: &str,
        config: SamplerConfig,
        scope: ScanScope,
        limits: SessionLimits,
        cache: Option<Cache>,
        observer: Option<Box<dyn SampleObserver>>,
    ) -> Result<(Self, SessionThreads), LoadError> {
        let rate = SamplingRate::from_hz(config.frequency);
        if !config.follows_command {
            open_files::raise_limit();
        }
        let mut sampler = Sampler::load(config.clone())?;
        let (maps, bytes) = (sampler.walk_maps()?, procfs::own_bpf_map_bytes());
        sampler.watch_memory()?;

        let (cpus, rings) = open_cpus(&config)?;
        let next_number = cpus.len() as u64;
        let rings = Rings { samples: Some(sampler.reader()?), cpus: rings };
        let tick = Duration::from_secs(1) / config.frequency.max(1);
        let tables = Some(KernelTables { maps, bytes });
        let (setup, ring_changes) = Setup::new(program, rings, tick, tables, scope, limits, cache)?;

        let mut clocks = SamplingClocks::new(sampler, cpus, config.cpus.clone(), rate);
        let (started, begin) = (Instant::now(), clocks.start()?);
        let clocks = SharedClocks::new(clocks);
        let threads = setup.run(started, begin, observer)?;
        let cpu_watcher = CpuWatcher::spawn(clocks.clone(), ring_changes, config, next_number)?;
        Ok((Self { clocks, cpu_watcher }, threads))
    }

    /// Locks the clocks.
    pub(super) fn clocks(&self) -> MutexGuard<'_, SamplingClocks> {
        self.clocks.lock()
    }
}

impl Capture for MachineCapture {
    fn launch<T: Send>(&mut self, spawn: impl FnOnce() -> T + Send) -> Result<T, LoadError> {
        self.clocks.lock().sampler.launch(spawn)
    }

    fn progress(&self) -> io::Result<SamplerProgress> {
        let counters = self.clocks.lock().sampler.counters()?;
        let lost_of = |cpu: &Counters| cpu.outcomes[TickOutcome::LostRingFull as usize];
        let lost_samples = counters.iter().map(lost_of).sum();
        Ok(SamplerProgress { lost_samples, time: SamplerTime::of(&counters) })
    }

    fn finish(self, reader: Reader) -> io::Result<WindowBoundary> {
        self.cpu_watcher.finish();
        let end = self.clocks.lock().stop()?;
        reader.finish()?;
        Ok(end)
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
