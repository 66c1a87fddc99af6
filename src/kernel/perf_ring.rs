//! Reads the ring of one perf event.

use std::os::fd::{AsFd, AsRawFd};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use memmap2::{MmapMut, MmapOptions};
use perf_event_open_sys::bindings::perf_event_mmap_page;
use profile::Cpu;

use super::perf::{PerfError, PerfEvent};

/// `struct perf_event_header`: u32 type, u16 misc, u16 size.
const RECORD_HEADER_BYTES: usize = 8;

/// Memory to which the kernel writes an event's records.
#[derive(Debug)]
pub(super) struct PerfRing {
    memory: MmapMut,
    page: usize,
    bytes: usize,
    record: Vec<u8>,
}

impl PerfRing {
    /// Maps the ring of an event. `bytes`: a power of two, and whole pages.
    ///
    /// # Errors
    /// [`PerfError`] if the kernel refuses the memory.
    pub fn map(cpu: Cpu, event: &PerfEvent, bytes: usize) -> Result<Self, PerfError> {
        let page = rustix::param::page_size();
        // SAFETY: the memory is the kernel's ring. It is never truncated, and the kernel writes to
        // it by the protocol that `drain` follows.
        let memory =
            unsafe { MmapOptions::new().len(page + bytes).map_mut(event.as_fd().as_raw_fd()) }
                .map_err(|source| PerfError { cpu, task: None, source })?;
        Ok(Self { memory, page, bytes, record: Vec::new() })
    }

    /// Passes each unread record to `take`, header included, and frees its space.
    pub fn drain(&mut self, mut take: impl FnMut(&[u8])) {
        let head = self.head().load(Ordering::Acquire);
        let mut tail = self.tail().load(Ordering::Relaxed);
        while tail < head {
            self.copy(tail, RECORD_HEADER_BYTES);
            let size = usize::from(u16::from_ne_bytes([self.record[6], self.record[7]]));
            if size < RECORD_HEADER_BYTES || tail + size as u64 > head {
                tail = head; // the kernel writes no such record: skip everything
                break;
            }
            self.copy(tail, size);
            take(&self.record);
            tail += size as u64;
        }
        fence(Ordering::SeqCst); // reads happen before the kernel may write there again
        self.tail().store(tail, Ordering::Release);
    }

    /// Copies bytes from a position in the ring into `record`.
    fn copy(&mut self, position: u64, bytes: usize) {
        let start = position as usize % self.bytes;
        let first = bytes.min(self.bytes - start);
        self.record.resize(bytes, 0);
        let ring = self.memory[self.page..].as_ptr();
        // SAFETY: both ranges are within the mapped ring, and `record` has `bytes` bytes. The
        // kernel does not write between tail and head until `drain` moves the tail.
        unsafe {
            ptr::copy_nonoverlapping(ring.add(start), self.record.as_mut_ptr(), first);
            ptr::copy_nonoverlapping(ring, self.record.as_mut_ptr().add(first), bytes - first);
        }
    }

    fn head(&self) -> &AtomicU64 {
        self.position(std::mem::offset_of!(perf_event_mmap_page, data_head))
    }

    fn tail(&self) -> &AtomicU64 {
        self.position(std::mem::offset_of!(perf_event_mmap_page, data_tail))
    }

    fn position(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: the first page is a perf_event_mmap_page, in which `offset` is an aligned u64
        // that the kernel and this process access atomically only. It lives as long as `memory`.
        unsafe { &*self.memory.as_ptr().add(offset).cast::<AtomicU64>() }
    }
}
