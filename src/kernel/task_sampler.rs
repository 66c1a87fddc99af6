//! The task sampler: samples selected tasks by perf events alone, without a BPF program.
//!
//! A user needs no capability for own processes, as far as `kernel.perf_event_paranoid` allows.
//! Each task has two events on each CPU: a clock, which runs while the task runs on that CPU, and a
//! side band, which records what the task does to its process. New threads and child processes
//! inherit both, which is why there is a pair for each CPU: the kernel maps no ring of an inherited
//! event otherwise.
//!
//! All clocks of a CPU write to one ring, and all side bands to another: a record of what was lost
//! does not say which kind it was.

use std::io;

use perf_event_open_sys::bindings as attr;
use profile::{Cpu, Tid};

use super::cpus::online_cpus;
use super::perf::{
    PERF_STACK_BYTES, PerfError, PerfEvent, request_records, side_band_event, software_event,
    use_monotonic_clock, wake_reader_at,
};
use super::{CpuSelection, LoadError, PerfSamples, SamplingRate, SideBand};

/// The calling thread, as perf_event_open numbers it.
const CALLING_THREAD: Tid = Tid(0);
/// Bytes of a record besides its stack: header, identity, 127 kernel frames, registers.
const RECORD_BYTES: u32 = 1300;
/// Bytes of stack to choose from.
const STACK_BYTES: [u32; 4] = [PERF_STACK_BYTES, 32 << 10, 16 << 10, 8 << 10];
/// A ring holds samples of this part of a second, and at least [`SAMPLES_MIN`].
const RING_SECOND_PART: u32 = 10;
const SAMPLES_MIN: u32 = 8;
/// The least bytes of a ring that is not given: smaller ones lose samples on a busy machine.
const RING_BYTES_MIN: u32 = 64 << 10;

/// How to sample tasks. Fixed once the rings exist.
#[derive(Clone, Debug)]
pub struct TaskSamplerConfig {
    /// Ticks a second of a task's CPU time.
    pub frequency: u32,
    /// Ticks that find the task in the kernel are samples too. If not, the kernel drops them.
    pub samples_kernel: bool,
    /// Frames at which a kernel stack counts as cut; 0 without kernel stacks.
    pub kernel_frames_limit: u32,
    /// Which CPUs have clocks.
    pub cpus: CpuSelection,
    /// Bytes of each CPU's ring of samples: a power of two, and whole pages. It is smaller where
    /// less memory may be locked.
    pub ring_bytes: u32,
    /// Bytes of each CPU's ring of process events: a power of two, and whole pages.
    pub side_band_bytes: u32,
}

/// Which tasks have the events of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskScope {
    /// The thread alone.
    Thread,
    /// The thread, and threads that it creates. Before Linux 5.13 child processes, too.
    Process,
    /// The thread, and all that descends from it.
    Descendants,
}

/// The rings of one CPU.
pub struct TaskRings {
    /// The CPU.
    pub cpu: Cpu,
    /// Process events.
    pub side_band: SideBand,
    /// Samples; `None` on a CPU that is not sampled.
    pub samples: Option<PerfSamples>,
}

/// Opens events of tasks, which write to the rings of their CPU.
pub struct TaskSampler {
    config: TaskSamplerConfig,
    features: Features,
    stack_bytes: u32,
    cpus: Vec<RingEvents>,
}

/// The events of this process that own the rings of a CPU. They record nothing themselves, and
/// outlive the tasks that are sampled: the ring of an event whose task has exited cannot be waited
/// for.
struct RingEvents {
    cpu: Cpu,
    side_band: PerfEvent,
    samples: Option<PerfEvent>,
}

impl TaskSampler {
    /// Creates the rings of all online CPUs. Samples of a CPU that comes online later are missing.
    /// The calling thread must outlive the rings.
    ///
    /// # Errors
    /// [`LoadError`] if the kernel refuses the events or their memory.
    pub fn open(config: TaskSamplerConfig) -> Result<(Self, Vec<TaskRings>), LoadError> {
        let (cpus, features) = (online_cpus()?, Features::of_this_kernel());
        let mut bytes = config.ring_bytes;
        let (rings, events) = loop {
            match open_rings(&cpus, &config, bytes) {
                Ok(opened) => break opened,
                // Another program of this user may have locked a part of the memory.
                Err(error) if is_memory_limit(&error) && bytes > RING_BYTES_MIN => bytes /= 2,
                Err(source) => return Err(LoadError::Rings { bytes, source }),
            }
        };
        let stack_bytes = stack_bytes(bytes, config.frequency);
        Ok((Self { config, features, stack_bytes, cpus: events }, rings))
    }

    /// Opens the events of a thread. The side bands record from now on; the clocks do not run yet.
    ///
    /// # Errors
    /// [`PerfError`] if the kernel refuses: ESRCH if the thread has exited, EACCES if the caller
    /// may not trace it.
    pub fn attach(&self, thread: Tid, scope: TaskScope) -> Result<TaskEvents, PerfError> {
        self.open_events(thread, scope, |_| {})
    }

    /// Opens events that the child processes of the calling thread inherit. In a child they begin
    /// when it calls exec; on the thread itself they never do.
    ///
    /// # Errors
    /// [`PerfError`] if the kernel refuses.
    pub fn attach_to_children(&self) -> Result<TaskEvents, PerfError> {
        self.open_events(CALLING_THREAD, TaskScope::Descendants, |event| {
            event.set_disabled(1);
            event.set_enable_on_exec(1);
        })
    }

    fn open_events(
        &self,
        thread: Tid,
        scope: TaskScope,
        change: impl Fn(&mut attr::perf_event_attr),
    ) -> Result<TaskEvents, PerfError> {
        let (mut clocks, mut side_bands) = (Vec::new(), Vec::new());
        let open = |mut event: attr::perf_event_attr, ring: &RingEvents, output: &PerfEvent| {
            event.set_inherit((scope != TaskScope::Thread).into());
            event.set_inherit_thread(
                (scope == TaskScope::Process && self.features.inherit_thread).into(),
            );
            change(&mut event);
            let opened = PerfEvent::open(&mut event, Some(thread), ring.cpu)?;
            let error = |source| PerfError { cpu: ring.cpu, task: Some(thread), source };
            opened.write_to(output).map_err(error)?;
            Ok(opened)
        };
        for ring in &self.cpus {
            side_bands.push(open(user_side_band(), ring, &ring.side_band)?);
        }
        for ring in &self.cpus {
            if let Some(samples) = &ring.samples {
                clocks.push((ring.cpu, open(self.clock(), ring, samples)?));
            }
        }
        Ok(TaskEvents { clocks, _side_bands: side_bands })
    }

    /// Returns the clock of a task, which does not run yet.
    fn clock(&self) -> attr::perf_event_attr {
        let mut event = software_event(attr::PERF_COUNT_SW_TASK_CLOCK);
        event.__bindgen_anon_1.sample_period =
            SamplingRate::from_hz(self.config.frequency).period.get();
        request_records(&mut event, self.stack_bytes);
        if self.config.samples_kernel && self.config.kernel_frames_limit > 0 {
            event.sample_type |= u64::from(attr::PERF_SAMPLE_CALLCHAIN);
            event.set_exclude_callchain_user(1);
            event.sample_max_stack = self.config.kernel_frames_limit as u16;
        }
        event.set_exclude_kernel((!self.config.samples_kernel).into());
        event.set_disabled(1);
        event.read_format = self.features.read_format();
        event
    }
}

/// Returns a side band as the kernel grants it to users.
fn user_side_band() -> attr::perf_event_attr {
    let mut event = side_band_event();
    event.set_exclude_kernel(1);
    event
}

/// Returns the bytes of stack in each sample: as many as leave space for enough samples.
fn stack_bytes(ring_bytes: u32, frequency: u32) -> u32 {
    let samples = (frequency / RING_SECOND_PART).max(SAMPLES_MIN);
    let fits = |bytes: &u32| (bytes + RECORD_BYTES) * samples <= ring_bytes;
    let smallest = (ring_bytes / 2 - RECORD_BYTES.min(ring_bytes / 4)).min(8 << 10) & !7;
    STACK_BYTES.into_iter().find(fits).unwrap_or(smallest)
}

fn open_rings(
    cpus: &[Cpu],
    config: &TaskSamplerConfig,
    ring_bytes: u32,
) -> Result<(Vec<TaskRings>, Vec<RingEvents>), PerfError> {
    let (mut rings, mut events) = (Vec::new(), Vec::new());
    let duplicate = |event: &PerfEvent, cpu| {
        event.duplicate().map_err(|source| PerfError { cpu, task: None, source })
    };
    for cpu in cpus.iter().copied() {
        let side_band = ring_event(cpu, 1)?;
        let samples = config.cpus.contains(cpu).then(|| ring_event(cpu, ring_bytes / 4));
        let samples = samples.transpose()?;
        events.push(RingEvents {
            cpu,
            side_band: duplicate(&side_band, cpu)?,
            samples: samples.as_ref().map(|event| duplicate(event, cpu)).transpose()?,
        });
        let map = |event| PerfSamples::with_ring(cpu, event, ring_bytes as usize);
        rings.push(TaskRings {
            cpu,
            side_band: SideBand::with_ring(cpu, side_band, config.side_band_bytes as usize)?,
            samples: samples.map(map).transpose()?,
        });
    }
    Ok((rings, events))
}

/// Opens an event of the calling thread that records nothing, for a ring that wakes its reader at
/// this number of unread bytes.
fn ring_event(cpu: Cpu, wakeup_bytes: u32) -> Result<PerfEvent, PerfError> {
    let mut event = software_event(attr::PERF_COUNT_SW_DUMMY);
    event.set_exclude_kernel(1);
    use_monotonic_clock(&mut event); // as the events that write to the ring do
    wake_reader_at(&mut event, wakeup_bytes);
    PerfEvent::open(&mut event, Some(CALLING_THREAD), cpu)
}

/// Returns whether a ring may be too large. The kernel answers EPERM beyond the memory that a user
/// may lock.
fn is_memory_limit(error: &PerfError) -> bool {
    matches!(error.source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::OutOfMemory)
}

/// What newer kernels have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Features {
    /// Only threads inherit an event (Linux 5.13).
    inherit_thread: bool,
    /// An event counts the records that it has lost (Linux 6.0).
    lost: bool,
}

impl Features {
    fn of_this_kernel() -> Self {
        let opens = |change: fn(&mut attr::perf_event_attr)| {
            let mut event = software_event(attr::PERF_COUNT_SW_DUMMY);
            event.set_exclude_kernel(1);
            change(&mut event);
            PerfEvent::open(&mut event, Some(CALLING_THREAD), Cpu(0)).is_ok()
        };
        Self {
            inherit_thread: opens(|event| {
                event.set_inherit(1);
                event.set_inherit_thread(1);
            }),
            lost: opens(|event| event.read_format = u64::from(attr::PERF_FORMAT_LOST)),
        }
    }

    fn read_format(self) -> u64 {
        let lost = if self.lost { attr::PERF_FORMAT_LOST } else { 0 };
        u64::from(attr::PERF_FORMAT_TOTAL_TIME_RUNNING | lost)
    }
}

/// What the clocks of a thread on one CPU have counted, with those that were inherited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskClockCount {
    /// The CPU.
    pub cpu: Cpu,
    /// Nanoseconds for which they ran.
    pub running_ns: u64,
    /// Samples that did not fit into the ring; `None` before Linux 6.0.
    pub lost: Option<u64>,
}

/// The events of one thread, and of those that have inherited them.
pub struct TaskEvents {
    clocks: Vec<(Cpu, PerfEvent)>,
    /// They end with their descriptors.
    _side_bands: Vec<PerfEvent>,
}

impl TaskEvents {
    /// Starts the clocks.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn start(&self) -> io::Result<()> {
        self.clocks.iter().try_for_each(|(_, clock)| clock.enable())
    }

    /// Stops the clocks, also in tasks that have inherited them.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn stop(&self) -> io::Result<()> {
        self.clocks.iter().try_for_each(|(_, clock)| clock.disable())
    }

    /// Reads the clocks.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn counts(&self) -> io::Result<Vec<TaskClockCount>> {
        let count = |(cpu, clock): &(Cpu, PerfEvent)| {
            let (running_ns, lost) = clock.counts()?;
            Ok(TaskClockCount { cpu: *cpu, running_ns, lost })
        };
        self.clocks.iter().map(count).collect()
    }
}

/// Opens a clock of the calling thread and closes it, to find out whether that works here.
/// `samples_kernel`: as in [`TaskSamplerConfig`].
///
/// # Errors
/// [`PerfError`] if the kernel refuses it.
pub fn task_clock_opens(samples_kernel: bool) -> Result<(), PerfError> {
    let cpu = online_cpus().ok().and_then(|cpus| cpus.first().copied()).unwrap_or(Cpu(0));
    let mut event = software_event(attr::PERF_COUNT_SW_TASK_CLOCK);
    event.set_exclude_kernel((!samples_kernel).into());
    PerfEvent::open(&mut event, Some(CALLING_THREAD), cpu).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_are_as_long_as_the_ring_allows() {
        assert_eq!(stack_bytes(4 << 20, 99), PERF_STACK_BYTES);
        assert_eq!(stack_bytes(512 << 10, 99), 32 << 10);
        assert_eq!(stack_bytes(4 << 20, 997), 32 << 10);
        assert_eq!(stack_bytes(4 << 20, 10_000), 8 << 10);
        for ring in [4096, 8192, 16 << 10, 64 << 10] {
            let bytes = stack_bytes(ring, 10_000);
            assert!(bytes >= 1024 && bytes.is_multiple_of(8), "{bytes}");
            assert!(bytes + RECORD_BYTES <= ring, "{bytes} bytes fit a ring of {ring}");
        }
    }
}
