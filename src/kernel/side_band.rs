//! The process events of one CPU.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use profile::Cpu;

use super::perf::{PerfError, PerfEvent};
use super::perf_ring::PerfRing;

/// Bytes of one CPU's ring that no storm of short processes has filled yet. An exec with ten libraries writes about 1.5 KB.
pub const SIDE_BAND_BYTES: u32 = 256 << 10;

/// Process events of one CPU: exec, fork, exit, names and executable mappings, from
/// the moment it is opened.
#[derive(Debug)]
pub struct SideBand {
    event: Arc<PerfEvent>,
    ring: PerfRing,
}

/// Switches a side band off and on while somebody else reads it.
#[derive(Debug)]
pub struct SideBandSwitch(Arc<PerfEvent>);

impl SideBand {
    /// Opens the side band of a CPU. `bytes`: of its ring, a power of two and whole pages.
    ///
    /// # Errors
    /// [`PerfError`] when the kernel refuses the event or its memory.
    pub fn open(cpu: Cpu, bytes: u32) -> Result<Self, PerfError> {
        let event = PerfEvent::side_band(cpu)?;
        let ring = PerfRing::map(cpu, &event, bytes as usize)?;
        Ok(Self { event: Arc::new(event), ring })
    }

    /// Gives its switch.
    pub fn switch(&self) -> SideBandSwitch {
        SideBandSwitch(Arc::clone(&self.event))
    }

    /// Gives each unread record to `take`, header included, and frees its room.
    pub fn drain(&mut self, take: impl FnMut(&[u8])) {
        self.ring.drain(take);
    }
}

impl SideBandSwitch {
    /// Has the kernel tell of what happens from now on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn on(&self) -> io::Result<()> {
        self.0.enable()
    }

    /// Has the kernel tell of nothing any more; what it has told stays in the ring.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn off(&self) -> io::Result<()> {
        self.0.disable()
    }
}

impl AsFd for SideBand {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
