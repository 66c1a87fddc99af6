//! The samples of tasks on one CPU, as perf writes them.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::batch::EventBatch;
use super::parse::{self, TaskRecord};
use crate::kernel::PerfSamples;

/// The ring of one CPU. Samples get their numbers here: perf reports losses where they occurred.
#[derive(Debug)]
pub struct TaskSamples {
    ring: PerfSamples,
    kernel_frames_limit: u32,
    counts: Arc<SampleCounts>,
}

/// What the reader has found in the ring of one CPU.
#[derive(Debug, Default)]
pub struct SampleCounts {
    delivered: AtomicU64,
    lost: AtomicU64,
    throttled: AtomicU64,
}

impl SampleCounts {
    /// Returns the number of samples that were read.
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Returns the number of samples that did not fit into the ring, as far as perf has reported
    /// them: it does before the next sample that fits.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Returns how often the kernel stopped a clock for a while.
    pub fn throttled(&self) -> u64 {
        self.throttled.load(Ordering::Relaxed)
    }

    fn add(count: &AtomicU64, more: u64) {
        count.fetch_add(more, Ordering::Relaxed);
    }
}

impl TaskSamples {
    /// Returns the samples in a ring, with their counts. `kernel_frames_limit`: frames at which a
    /// kernel stack counts as cut; 0 if kernel stacks were not requested.
    pub fn new(ring: PerfSamples, kernel_frames_limit: u32) -> (Self, Arc<SampleCounts>) {
        let counts = Arc::<SampleCounts>::default();
        (Self { ring, kernel_frames_limit, counts: Arc::clone(&counts) }, counts)
    }

    /// Moves what the ring holds into a batch.
    pub(super) fn drain(&mut self, batch: &mut EventBatch) {
        let Self { ring, kernel_frames_limit, counts } = self;
        ring.drain(|record| {
            let sequence = counts.delivered() + counts.lost();
            match parse::task_record(record, sequence, *kernel_frames_limit) {
                TaskRecord::Sample(timed) => {
                    SampleCounts::add(&counts.delivered, 1);
                    batch.events.push(timed);
                }
                TaskRecord::Malformed => {
                    SampleCounts::add(&counts.delivered, 1);
                    batch.malformed += 1;
                }
                TaskRecord::Lost(samples) => SampleCounts::add(&counts.lost, samples),
                TaskRecord::Throttled => SampleCounts::add(&counts.throttled, 1),
                TaskRecord::Ignored => {}
            }
        });
    }
}

impl AsFd for TaskSamples {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}
