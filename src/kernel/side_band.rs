//! The side band: the process events of one CPU.

use std::os::fd::{AsFd, BorrowedFd};

use profile::Cpu;

use super::perf::{PerfError, PerfEvent};
use super::perf_ring::PerfRing;

/// Bytes of one CPU's ring, which no storm of short processes has filled yet. An exec with ten
/// libraries writes about 1.5 KB.
pub const SIDE_BAND_BYTES: u32 = 256 << 10;

/// The process events of one CPU, from the moment it is opened: exec, fork, exit, names and
/// executable mappings; and code that comes into the kernel or leaves it.
#[derive(Debug)]
pub struct SideBand {
    event: PerfEvent,
    ring: PerfRing,
}

impl SideBand {
    /// Opens the side band of a CPU. `bytes`: size of its ring, a power of two and whole pages.
    ///
    /// # Errors
    /// [`PerfError`] if the kernel refuses the event or its memory.
    pub fn open(cpu: Cpu, bytes: u32) -> Result<Self, PerfError> {
        Self::with_ring(cpu, PerfEvent::side_band(cpu)?, bytes as usize)
    }

    /// Maps the ring of an event to which the side bands of tasks write.
    pub(super) fn with_ring(cpu: Cpu, event: PerfEvent, bytes: usize) -> Result<Self, PerfError> {
        let ring = PerfRing::map(cpu, &event, bytes)?;
        Ok(Self { event, ring })
    }

    /// Passes each unread record to `take`, header included, and frees its space.
    pub fn drain(&mut self, take: impl FnMut(&[u8])) {
        self.ring.drain(take);
    }
}

impl AsFd for SideBand {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
