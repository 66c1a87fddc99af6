//! The CPU watcher: the thread that follows CPUs as they go offline and come online.
//!
//! It compares the kernel's list of online CPUs with the clocks once a second, and at once when
//! the kernel gives notice of a change. A CPU that came online gets a side band, then a clock; the
//! clock and rings of one that went offline are retired. A CPU that goes offline and comes back
//! between two looks is found by its clock, whose time stands still.
//!
//! It never holds the lock of the clocks while it waits for the reader, which may wait for the
//! processor, which may wait for a boundary between two windows.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use profile::Cpu;

use super::clocks::{SampledCpu, SharedClocks};
use super::cpu_log::CpuLog;
use super::cpu_times::NoClockReason;
use crate::events::{RingChanges, now};
use crate::kernel::{
    CpuNotices, CpuWakeup, LoadError, SamplerConfig, online_cpus, wait_for_cpu_notice,
};

/// Interval between two looks without a notice.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Interval while a CPU that came online is not ready for a clock, or after notices were lost.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// Pause after messages of the kernel: those about other devices may come in any number.
const MESSAGE_PAUSE: Duration = Duration::from_millis(10);
/// Between two readings of a clock that may have ended.
const LIVENESS_PAUSE: Duration = Duration::from_millis(2);

/// The running watcher. It also ends when this is dropped.
pub(super) struct CpuWatcher {
    stop: OwnedFd,
    thread: JoinHandle<()>,
}

impl CpuWatcher {
    /// Starts the thread. `next_number`: of the first clock that it opens.
    ///
    /// # Errors
    /// When the thread or its pipe cannot be created.
    pub fn spawn(
        clocks: SharedClocks,
        rings: RingChanges,
        config: SamplerConfig,
        next_number: u64,
    ) -> io::Result<Self> {
        let (stopped, stop) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let notices = CpuNotices::listen().ok(); // without them there are the looks
        let log = CpuLog::default();
        let watch = Watch { clocks, rings, config, next_number, notices, log };
        let thread =
            thread::Builder::new().name("cpus".into()).spawn(move || watch.run(&stopped))?;
        Ok(Self { stop, thread })
    }

    /// Ends the thread: the clocks stay as they are from then on.
    pub fn finish(self) {
        drop(self.stop); // the thread sees the pipe close
        let _ = self.thread.join(); // a panic has been printed; the clocks still work
    }
}

/// The state of the thread.
struct Watch {
    clocks: SharedClocks,
    rings: RingChanges,
    config: SamplerConfig,
    next_number: u64,
    notices: Option<CpuNotices>,
    log: CpuLog,
}

impl Watch {
    fn run(mut self, stopped: &OwnedFd) {
        let mut next_look = Instant::now();
        loop {
            let timeout = next_look.saturating_duration_since(Instant::now());
            let wakeup = wait_for_cpu_notice(self.notices.as_ref(), stopped.as_fd(), timeout);
            let is_changed = match wakeup {
                Ok(CpuWakeup::Stopped) | Err(_) => return,
                Ok(CpuWakeup::Changed(_)) => true,
                Ok(CpuWakeup::Nothing) => false,
                // Users can cause this with messages about other devices: look soon, not at once.
                Ok(CpuWakeup::Overflowed) => {
                    next_look = next_look.min(Instant::now() + RETRY_INTERVAL);
                    false
                }
            };
            if is_changed || next_look <= Instant::now() {
                // Without the list there is no look; the next one may work.
                let is_ready = self.look(now(), is_changed).unwrap_or(true);
                next_look = Instant::now() + if is_ready { LOOK_INTERVAL } else { RETRY_INTERVAL };
            } else {
                thread::sleep(MESSAGE_PAUSE);
            }
        }
    }

    /// Follows the changes up to now. `at`: when they were noticed, nanoseconds of
    /// CLOCK_MONOTONIC. `is_certain`: there are some. Returns whether all CPUs are ready.
    fn look(&mut self, at: u64, is_certain: bool) -> io::Result<bool> {
        let online: BTreeSet<Cpu> = online_cpus()?.into_iter().collect();
        let mut ended = self.clocks.lock().retire_ended(&online, at);
        if is_certain {
            thread::sleep(LIVENESS_PAUSE);
            ended.extend(self.clocks.lock().retire_ended(&online, at));
        }
        let missing = self.clocks.lock().update_online(&online, at);
        self.log.went_offline(ended.len());
        ended.into_iter().for_each(|number| self.rings.remove(number));
        let mut is_ready = true;
        for cpu in missing {
            match self.open(cpu) {
                Ok(()) => self.log.came_online(),
                Err(error) => is_ready &= self.note_error(cpu, &error),
            }
        }
        self.log.write();
        Ok(is_ready)
    }

    /// Opens the rings of a CPU and starts its clock.
    fn open(&mut self, cpu: Cpu) -> Result<(), LoadError> {
        let (sampled, rings) = SampledCpu::open(self.next_number, cpu, &self.config)?;
        self.next_number += 1;
        let number = sampled.number();
        self.rings.add(rings);
        let started = self.clocks.lock().add(sampled);
        if started.is_err() {
            self.rings.remove(number);
        }
        started
    }

    /// Records why a CPU has no clock. Returns false if it may have one soon.
    fn note_error(&mut self, cpu: Cpu, error: &LoadError) -> bool {
        let reason = match error {
            LoadError::Perf(error) => NoClockReason::of(&error.source),
            LoadError::Io(error) => NoClockReason::of(error),
            LoadError::Bpf { .. } | LoadError::Rings { .. } => NoClockReason::Other,
        };
        if self.clocks.lock().times.set_reason(cpu, reason) {
            self.log.has_no_clock(error.to_string());
        }
        reason != NoClockReason::Starting
    }
}
