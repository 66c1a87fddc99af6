//! The capture of selected tasks by perf events alone, for users who may not load BPF programs.
//!
//! Each sample has a snapshot of its stack, which the pipeline unwinds. What is due follows from
//! the time for which the clocks ran; the tick that a task has not completed when it exits is due
//! in the sum of all, and does not come.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use profile::{Cpu, NotSampled, Pid, TickOutcome, Tid};
use rustix::io::Errno;
use zerocopy::FromZeros;

use super::capture::Capture;
use super::cpu_ticks::{ClockTime, CpuReadings};
use super::options::{ScanScope, SessionLimits};
use super::results::{SamplerProgress, TaskCounts};
use super::sampler_time::SamplerTime;
use super::setup::{SessionThreads, Setup};
use super::window_boundary::{TaskBoundary, WindowBoundary};
use crate::events::{CpuRings, Reader, Rings, SampleCounts, TaskSamples};
use crate::kernel::abi::Counters;
use crate::kernel::{
    LoadError, PerfError, SamplingRate, TaskEvents, TaskRings, TaskSampler, TaskSamplerConfig,
    TaskScope,
};
use crate::processes::open_files;
use crate::procfs;
use crate::tables::Cache;

/// Attempts to open the clocks of a process while it creates no thread.
const ATTEMPTS_MAX: u32 = 10;

/// Which tasks are sampled, beside the one that is launched.
#[derive(Clone, Debug, Default)]
pub struct TaskSelection {
    /// Processes, with all their threads.
    pub processes: Vec<Pid>,
    /// Threads.
    pub threads: Vec<Tid>,
}

/// The clocks of selected tasks.
pub struct TaskCapture {
    sampler: TaskSampler,
    events: Vec<TaskEvents>,
    /// What the reader has found, by CPU.
    samples: BTreeMap<Cpu, Arc<SampleCounts>>,
    rate: SamplingRate,
    /// Why ticks do not come; `None` if they are missed.
    missed: Option<NotSampled>,
    /// Threads that may have no clock.
    maybe_missing: u64,
}

impl TaskCapture {
    /// Opens the clocks of the selected tasks and starts them. The side bands are opened first,
    /// then /proc is read, then the clocks start.
    ///
    /// # Errors
    /// [`LoadError`] when the kernel refuses. That a task has exited is none.
    pub(super) fn start(
        program: &str,
        config: TaskSamplerConfig,
        selection: &TaskSelection,
        limits: SessionLimits,
        cache: Option<Cache>,
    ) -> Result<(Self, SessionThreads), LoadError> {
        let rate = SamplingRate::from_hz(config.frequency);
        let tick = Duration::from_secs(1) / config.frequency.max(1);
        let missed = (!config.samples_kernel).then_some(NotSampled::KernelCode);
        let kernel_frames = if config.samples_kernel { config.kernel_frames_limit } else { 0 };
        let (sampler, rings) = TaskSampler::open(config)?;
        let (rings, samples) = number_samples(rings, kernel_frames);
        let (events, maybe_missing) = attach(&sampler, selection)?;

        let scope = ScanScope::Only(processes_of(selection));
        let rings = Rings { samples: None, cpus: rings };
        let (setup, _) = Setup::new(program, rings, tick, None, scope, limits, cache)?;
        let (started, begin) = (Instant::now(), WindowBoundary::start(rate));
        events.iter().try_for_each(TaskEvents::start)?;
        let threads = setup.run(started, begin, None)?;
        Ok((Self { sampler, events, samples, rate, missed, maybe_missing }, threads))
    }

    /// Reads what was counted on each CPU: ticks, and the time of clocks.
    fn read(&self) -> io::Result<(Vec<Counters>, CpuReadings)> {
        let mut by_cpu: BTreeMap<Cpu, (u64, u64)> = BTreeMap::new(); // time, and samples lost
        for events in &self.events {
            for count in events.counts()? {
                let (running_ns, lost) = by_cpu.entry(count.cpu).or_default();
                *running_ns += count.running_ns;
                *lost += count.lost.unwrap_or(0);
            }
        }
        let mut counters: Vec<Counters> = Vec::new();
        for (cpu, found) in &self.samples {
            let at = cpu.0 as usize;
            if counters.len() <= at {
                counters.resize_with(at + 1, Counters::new_zeroed);
            }
            // perf reports losses before the next sample that fits; the clocks count all of them.
            let lost = by_cpu.get(cpu).map_or(0, |(_, lost)| *lost).max(found.lost());
            counters[at].outcomes[TickOutcome::Delivered as usize] = found.delivered();
            counters[at].outcomes[TickOutcome::LostRingFull as usize] = lost;
        }
        let clock =
            |(cpu, (on_ns, _)): (Cpu, (u64, u64))| ClockTime { number: cpu.0.into(), cpu, on_ns };
        let clocks = by_cpu.into_iter().map(clock).collect();
        Ok((counters, CpuReadings::new(clocks, Vec::new(), BTreeMap::new())))
    }
}

impl Capture for TaskCapture {
    /// The process inherits its clocks from the thread that starts it: they run from its exec on.
    /// That thread is one of its own, so that no other process inherits them.
    fn launch<T: Send>(&mut self, spawn: impl FnOnce() -> T + Send) -> Result<T, LoadError> {
        let sampler = &self.sampler;
        let launch = || Ok((sampler.attach_to_children()?, spawn()));
        let launched = thread::scope(|scope| scope.spawn(launch).join());
        let launched: Result<_, PerfError> =
            launched.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let (events, result) = launched?;
        self.events.push(events);
        Ok(result)
    }

    fn progress(&self) -> io::Result<SamplerProgress> {
        let lost_samples = self.samples.values().map(|counts| counts.lost()).sum();
        Ok(SamplerProgress { lost_samples, time: SamplerTime::default() })
    }

    fn finish(self, reader: Reader) -> io::Result<WindowBoundary> {
        self.events.iter().try_for_each(TaskEvents::stop)?;
        let mut end = WindowBoundary::of_stopped_tasks(self.rate);
        reader.finish()?;
        let (counters, readings) = self.read()?;
        let throttled = self.samples.values().map(|counts| counts.throttled()).sum();
        let counts = TaskCounts { throttled, maybe_missing: self.maybe_missing };
        end.set_task_counts(counters, readings, TaskBoundary { missed: self.missed, counts });
        Ok(end)
    }
}

/// Returns the rings for the reader, and the counts of the samples in them.
fn number_samples(
    rings: Vec<TaskRings>,
    kernel_frames: u32,
) -> (Vec<CpuRings>, BTreeMap<Cpu, Arc<SampleCounts>>) {
    let mut counts = BTreeMap::new();
    let number = |TaskRings { cpu, side_band, samples }| {
        let task_samples = samples.map(|ring| {
            let (samples, of_cpu) = TaskSamples::new(ring, kernel_frames);
            counts.insert(cpu, of_cpu);
            samples
        });
        CpuRings { number: cpu.0.into(), side_band, perf_samples: None, task_samples }
    };
    (rings.into_iter().map(number).collect(), counts)
}

/// Returns the selected processes, and those that the selected threads are of.
fn processes_of(selection: &TaskSelection) -> Vec<Pid> {
    let of_threads = selection.threads.iter().filter_map(|tid| procfs::thread_group(tid.0));
    let all: BTreeSet<Pid> =
        selection.processes.iter().copied().chain(of_threads.map(Pid)).collect();
    all.into_iter().collect()
}

/// Opens the clocks of the selected tasks. Returns also how many threads may have none.
fn attach(
    sampler: &TaskSampler,
    selection: &TaskSelection,
) -> Result<(Vec<TaskEvents>, u64), PerfError> {
    let TaskSelection { processes, threads } = selection;
    if !processes.is_empty() || !threads.is_empty() {
        open_files::raise_limit(); // a command would inherit it
    }
    let (mut events, mut maybe_missing) = (Vec::new(), 0);
    for pid in processes {
        let (opened, missing) = attach_process(sampler, *pid)?;
        events.extend(opened);
        maybe_missing += missing;
    }
    let is_covered =
        |tid: u32| procfs::thread_group(tid).is_some_and(|pid| processes.contains(&Pid(pid)));
    for tid in threads.iter().filter(|tid| !is_covered(tid.0)) {
        events.extend(attach_thread(sampler, tid.0, TaskScope::Thread)?);
    }
    Ok((events, maybe_missing))
}

/// Opens the clocks of all threads of a process; threads that it creates later inherit them.
///
/// A thread that is created meanwhile has inherited the clocks or not, depending on its creator:
/// all are closed then, and opened again. Returns also how many threads remain uncertain after the
/// last attempt.
fn attach_process(sampler: &TaskSampler, pid: Pid) -> Result<(Vec<TaskEvents>, u64), PerfError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let threads: BTreeSet<u32> = procfs::thread_ids(pid.0).collect();
        let mut events = Vec::new();
        for tid in &threads {
            events.extend(attach_thread(sampler, *tid, TaskScope::Process)?);
        }
        let new = procfs::thread_ids(pid.0).filter(|tid| !threads.contains(tid)).count() as u64;
        if new == 0 || attempt == ATTEMPTS_MAX {
            return Ok((events, new));
        }
    }
}

/// Opens the clocks of a thread; `None` if it has exited.
fn attach_thread(
    sampler: &TaskSampler,
    tid: u32,
    scope: TaskScope,
) -> Result<Option<TaskEvents>, PerfError> {
    match sampler.attach(Tid(tid), scope) {
        Ok(events) => Ok(Some(events)),
        Err(error) if Errno::from_io_error(&error.source) == Some(Errno::SRCH) => Ok(None),
        Err(error) => Err(error),
    }
}
