//! The sampling clock of one CPU.

use std::io;

use libbpf_rs::Link;
use profile::Cpu;

use super::perf::{PerfError, PerfEvent};
use super::perf_samples::PerfSamples;

/// The sampling clock of one CPU. Dropping it removes it from the kernel.
///
/// It ends with its CPU: when the CPU goes offline the kernel takes the clock out of use, and does
/// not take it back when the CPU comes online again.
pub struct CpuClock {
    pub(super) event: PerfEvent,
    /// Attaches the sampler's program once the clock has started.
    pub(super) link: Option<Link>,
    cpu: Cpu,
    is_silent: bool,
}

impl CpuClock {
    /// Opens the clock of a CPU, which does not tick before [`super::Sampler::start_clock`].
    ///
    /// `records`: perf writes a record of a tick, with user registers and stack, if the BPF program
    /// returns 1 for it.
    ///
    /// # Errors
    /// [`PerfError`] if the kernel refuses it; ENODEV when the CPU is offline.
    pub fn open(cpu: Cpu, frequency: u32, records: bool) -> Result<Self, PerfError> {
        let event = PerfEvent::cpu_clock(cpu, frequency, records)?;
        Ok(Self { event, link: None, cpu, is_silent: false })
    }

    /// Opens a clock that runs and never ticks, for a CPU that is not sampled.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn silent(cpu: Cpu) -> Result<Self, PerfError> {
        Ok(Self { event: PerfEvent::silent(cpu)?, link: None, cpu, is_silent: true })
    }

    /// Returns whether it never ticks.
    pub fn is_silent(&self) -> bool {
        self.is_silent
    }

    /// Maps the ring of perf's own records.
    ///
    /// # Errors
    /// [`PerfError`] if the kernel refuses the memory.
    pub fn perf_samples(&self) -> Result<PerfSamples, PerfError> {
        PerfSamples::of(self.cpu, &self.event)
    }

    /// Returns the CPU.
    pub fn cpu(&self) -> Cpu {
        self.cpu
    }

    /// Reads for how many nanoseconds the clock has run. That time stands still while it is
    /// stopped and once its CPU has gone offline.
    ///
    /// # Errors
    /// If the clock cannot be read.
    pub fn running_ns(&self) -> io::Result<u64> {
        self.event.running_ns()
    }

    /// Stops the clock.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn stop(&self) -> io::Result<()> {
        self.event.disable()
    }

    /// Starts a stopped clock with a period in nanoseconds. It ticks a period later for the first
    /// time.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn resume(&self, period_ns: u64) -> io::Result<()> {
        self.event.set_period(period_ns)?;
        self.event.enable()
    }
}
