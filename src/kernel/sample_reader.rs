//! Reads the sampler's ring of samples.

use std::io;
use std::os::fd::BorrowedFd;

use libbpf_rs::{MapHandle, RingBuffer, RingBufferBuilder};

/// Takes records out of the sampler's ring.
pub struct SampleReader {
    ring: MapHandle,
}

impl SampleReader {
    pub(super) fn new(ring: MapHandle) -> Self {
        Self { ring }
    }

    /// Passes each record to `take`, for as long as `run` runs. `run` gets the descriptor that
    /// becomes readable when the ring fills up, and a function that drains the ring.
    ///
    /// # Errors
    /// If the ring cannot be mapped.
    pub fn read(
        self,
        mut take: impl FnMut(&[u8]),
        run: impl FnOnce(BorrowedFd<'_>, &dyn Fn()),
    ) -> io::Result<()> {
        let mut builder = RingBufferBuilder::new();
        let callback = move |record: &[u8]| {
            take(record);
            0
        };
        builder.add(&self.ring, callback).map_err(io::Error::other)?;
        let ring: RingBuffer<'_> = builder.build().map_err(io::Error::other)?;
        // SAFETY: the epoll descriptor belongs to `ring`, which lives until this function ends.
        let readable = unsafe { BorrowedFd::borrow_raw(ring.epoll_fd()) };
        run(readable, &|| {
            // This cannot fail, because the callback never does.
            ring.consume_raw();
        });
        Ok(())
    }
}
