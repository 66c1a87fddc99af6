//! perf's own records of the ticks of one CPU: registers and stack at the instant of the sample.
//!
//! The kernel writes a record when the BPF program returns 1 for a tick: `verify` unwinds it with a
//! second unwinder. Where there is no BPF program, these records are the samples.

use std::os::fd::{AsFd, BorrowedFd};

use profile::Cpu;

use super::perf::{PerfError, PerfEvent};
use super::perf_ring::PerfRing;

/// Bytes of one CPU's ring. Each record takes its full 64 KiB, however short the stack is.
const RING_BYTES: usize = 8 << 20;

/// The records of one CPU's sampling clock, or of the clocks of tasks on one CPU.
#[derive(Debug)]
pub struct PerfSamples {
    event: PerfEvent,
    ring: PerfRing,
}

impl PerfSamples {
    /// Maps the ring of a sampling clock.
    pub(super) fn of(cpu: Cpu, clock: &PerfEvent) -> Result<Self, PerfError> {
        let clock = clock.duplicate().map_err(|source| PerfError { cpu, task: None, source })?;
        Self::with_ring(cpu, clock, RING_BYTES)
    }

    /// Maps the ring of an event. `bytes`: a power of two, and whole pages.
    pub(super) fn with_ring(cpu: Cpu, event: PerfEvent, bytes: usize) -> Result<Self, PerfError> {
        let ring = PerfRing::map(cpu, &event, bytes)?;
        Ok(Self { event, ring })
    }

    /// Passes each unread record to `take`, header included, and frees its space.
    pub fn drain(&mut self, take: impl FnMut(&[u8])) {
        self.ring.drain(take);
    }
}

impl AsFd for PerfSamples {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
