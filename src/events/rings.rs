//! The rings that the reader drains, and their changes when CPUs come and go.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use super::batch::EventBatch;
use super::task_samples::TaskSamples;
use super::wakeup::Wakeup;
use crate::kernel::{PerfSamples, SampleReader, SideBand};

/// How long a change of the rings waits until the reader has applied it. While the processor is
/// behind, the reader waits too.
const APPLY_MAX: Duration = Duration::from_secs(1);

/// The rings that the kernel fills.
pub struct Rings {
    /// The sampler's, of all CPUs; `None` if there is no BPF program.
    pub samples: Option<SampleReader>,
    /// Those of each CPU.
    pub cpus: Vec<CpuRings>,
}

/// The rings of one CPU. The kernel takes them out of use with their CPU.
#[derive(Debug)]
pub struct CpuRings {
    /// Identifies these rings: those that the CPU gets when it comes online again are others.
    pub number: u64,
    /// Process events.
    pub side_band: SideBand,
    /// perf's own records of ticks, if they were requested.
    pub perf_samples: Option<PerfSamples>,
    /// Samples of tasks, if there is no BPF program.
    pub task_samples: Option<TaskSamples>,
}

impl CpuRings {
    fn drain(&mut self, batch: &mut EventBatch) {
        self.side_band.drain(|record| batch.add_side_band_record(record));
        if let Some(ring) = &mut self.perf_samples {
            ring.drain(|record| batch.add_perf_sample_record(record));
        }
        if let Some(samples) = &mut self.task_samples {
            samples.drain(batch);
        }
    }
}

/// A change of the rings.
enum RingChange {
    Add(Box<CpuRings>),
    Remove(u64),
}

/// Adds and removes rings of a running reader.
#[derive(Debug)]
pub struct RingChanges {
    changes: Sender<RingChange>,
    wakeup: OwnedFd,
    applied: Receiver<()>,
}

impl RingChanges {
    /// Has the reader drain these rings too. Waits until it does, a second at most.
    pub fn add(&self, rings: CpuRings) {
        self.apply(RingChange::Add(Box::new(rings)));
    }

    /// Has the reader drain the rings with this number for the last time and drop them. Waits until
    /// it has, a second at most.
    pub fn remove(&self, number: u64) {
        self.apply(RingChange::Remove(number));
    }

    fn apply(&self, change: RingChange) {
        while self.applied.try_recv().is_ok() {} // a change that took longer than the limit
        if self.changes.send(change).is_ok() && rustix::io::write(&self.wakeup, &ONE).is_ok() {
            let _ = self.applied.recv_timeout(APPLY_MAX);
        }
    }
}

/// What an eventfd is incremented by.
const ONE: [u8; 8] = 1u64.to_ne_bytes();

/// The rings of all CPUs, as the reader has them.
pub(super) struct ReaderRings {
    cpus: Vec<CpuRings>,
    changes: Receiver<RingChange>,
    wakeup: OwnedFd,
    applied: Sender<()>,
}

impl ReaderRings {
    /// Returns the rings with the handle that changes them.
    ///
    /// # Errors
    /// When the kernel refuses a descriptor.
    pub fn new(cpus: Vec<CpuRings>) -> io::Result<(Self, RingChanges)> {
        let wakeup = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (changes, received) = mpsc::channel();
        let (sent, applied) = mpsc::channel();
        let handle = RingChanges { changes, wakeup: wakeup.try_clone()?, applied };
        Ok((Self { cpus, changes: received, wakeup, applied: sent }, handle))
    }

    /// Makes a wakeup wait for these rings and for their changes.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn register(&self, wakeup: &Wakeup) -> io::Result<()> {
        wakeup.add_ring(&self.wakeup)?;
        self.cpus.iter().try_for_each(|cpu| register(cpu, wakeup))
    }

    /// Applies the changes that are waiting, then drains the rings.
    ///
    /// Around a change process events have been missed: those of a CPU that went offline after its
    /// ring was out of use, or those of a CPU that came online before it had a ring.
    ///
    /// # Errors
    /// When the kernel refuses to wait for a new ring.
    pub fn drain(&mut self, batch: &mut EventBatch, wakeup: &Wakeup) -> io::Result<()> {
        let _ = rustix::io::read(&self.wakeup, &mut [0u8; 8]); // empty unless there is a change
        while let Ok(change) = self.changes.try_recv() {
            batch.has_missed_events = true;
            match change {
                RingChange::Add(rings) => {
                    register(&rings, wakeup)?;
                    self.cpus.push(*rings);
                }
                RingChange::Remove(number) => self.remove(number, batch, wakeup),
            }
            let _ = self.applied.send(()); // the other end may have stopped waiting
        }
        self.cpus.iter_mut().for_each(|cpu| cpu.drain(batch));
        Ok(())
    }

    fn remove(&mut self, number: u64, batch: &mut EventBatch, wakeup: &Wakeup) {
        let Some(at) = self.cpus.iter().position(|cpu| cpu.number == number) else { return };
        let mut rings = self.cpus.swap_remove(at);
        rings.drain(batch);
        descriptors(&rings).for_each(|ring| wakeup.remove_ring(ring));
    }
}

fn register(rings: &CpuRings, wakeup: &Wakeup) -> io::Result<()> {
    descriptors(rings).try_for_each(|ring| wakeup.add_ring(ring))
}

fn descriptors(rings: &CpuRings) -> impl Iterator<Item = BorrowedFd<'_>> {
    let perf_samples = rings.perf_samples.as_ref().map(AsFd::as_fd);
    let task_samples = rings.task_samples.as_ref().map(AsFd::as_fd);
    std::iter::once(rings.side_band.as_fd()).chain(perf_samples).chain(task_samples)
}
