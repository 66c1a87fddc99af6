//! The ring of one perf event, read as the kernel writes it.

use std::os::fd::{AsFd, AsRawFd};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use memmap2::{MmapMut, MmapOptions};
use perf_event_open_sys::bindings::perf_event_mmap_page;
use profile::Cpu;

use super::perf::{PerfError, PerfEvent};

/// `struct perf_event_header`: u32 type, u16 misc, u16 size.
const RECORD_HEADER_BYTES: usize = 8;

/// Memory that the kernel writes an event's records to.
#[derive(Debug)]
pub(super) struct PerfRing {
    memory: MmapMut,
    page: usize,
    bytes: usize,
    record: Vec<u8>,
}

impl PerfRing {
    /// Maps the ring of an event. `bytes`: whole pages, a power of two of them.
    ///
    /// # Errors
    /// [`PerfError`] when the kernel refuses the memory.
    pub fn map(cpu: Cpu, event: &PerfEvent, bytes: usize) -> Result<Self, PerfError> {
        let page = rustix::param::page_size();
        // SAFETY: the memory is the kernel's ring. Nobody truncates it, and the kernel
        // writes to it under the protocol that `drain` follows.
        let memory =
            unsafe { MmapOptions::new().len(page + bytes).map_mut(event.as_fd().as_raw_fd()) }
                .map_err(|source| PerfError { cpu, source })?;
        Ok(Self { memory, page, bytes, record: Vec::new() })
    }

    /// Gives each unread record to `take`, header included, and frees its room.
    pub fn drain(&mut self, mut take: impl FnMut(&[u8])) {
        let head = self.head().load(Ordering::Acquire);
        let mut tail = self.tail().load(Ordering::Relaxed);
        while tail < head {
            self.copy(tail, RECORD_HEADER_BYTES);
            let size = usize::from(u16::from_ne_bytes([self.record[6], self.record[7]]));
            if size < RECORD_HEADER_BYTES || tail + size as u64 > head {
                tail = head; // no record the kernel writes; give up what is here
                break;
            }
            self.copy(tail, size);
            take(&self.record);
            tail += size as u64;
        }
        fence(Ordering::SeqCst); // our reads come before the kernel may write there again
        self.tail().store(tail, Ordering::Release);
    }

    /// Copies bytes of the ring from position `at` into `record`.
    fn copy(&mut self, at: u64, bytes: usize) {
        let start = at as usize % self.bytes;
        let first = bytes.min(self.bytes - start);
        self.record.resize(bytes, 0);
        let ring = self.memory[self.page..].as_ptr();
        // SAFETY: both ranges lie inside the mapped ring and `record` has `bytes` bytes. The
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
        // SAFETY: the first page is a perf_event_mmap_page, in which `offset` is an aligned
        // u64 that the kernel and we access atomically only. It lives as long as `memory`.
        unsafe { &*self.memory.as_ptr().add(offset).cast::<AtomicU64>() }
    }
}
