//! perf's own records of the ticks of one CPU: registers and stack at the instant of the sample.
//!
//! The kernel writes a record when the BPF program returns 1 for a tick. `verify` unwinds them with
//! a second unwinder.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use profile::Cpu;

use super::perf::{PerfError, PerfEvent};
use super::perf_ring::PerfRing;

/// Bytes of one CPU's ring. Each record takes its full 64 KiB, however short the stack is.
const RING_BYTES: usize = 8 << 20;

/// The records of one CPU's sampling clock.
#[derive(Debug)]
pub struct PerfSamples {
    clock: OwnedFd,
    ring: PerfRing,
}

impl PerfSamples {
    /// Maps the ring of a sampling clock.
    pub(super) fn of(cpu: Cpu, clock: &PerfEvent) -> Result<Self, PerfError> {
        let ring = PerfRing::map(cpu, clock, RING_BYTES)?;
        let clock = clock.duplicate().map_err(|source| PerfError { cpu, source })?;
        Ok(Self { clock, ring })
    }

    /// Passes each unread record to `take`, header included, and frees its space.
    pub fn drain(&mut self, take: impl FnMut(&[u8])) {
        self.ring.drain(take);
    }
}

impl AsFd for PerfSamples {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.clock.as_fd()
    }
}
