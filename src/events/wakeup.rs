//! What the reader sleeps on.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

const STOP: u64 = 0;
const READABLE: u64 = 1;
/// Sleep after a wake-up: a burst of process events costs one wake-up per pause, not one each.
const PAUSE: Duration = Duration::from_millis(1);

/// The rings that wake the reader, and the pipe that stops it.
pub struct Wakeup {
    epoll: OwnedFd,
}

impl Wakeup {
    /// Waits on a pipe: the reader is to stop once its other end is closed.
    ///
    /// # Errors
    /// When the kernel refuses the descriptor.
    pub fn new(stop: &OwnedFd) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, stop, EventData::new_u64(STOP), EventFlags::IN)?;
        Ok(Self { epoll })
    }

    /// Also waits on a ring.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add_ring(&self, ring: impl AsFd) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, ring, EventData::new_u64(READABLE), EventFlags::IN)?)
    }

    /// Waits on a ring no more.
    pub fn remove_ring(&self, ring: impl AsFd) {
        let _ = epoll::delete(&self.epoll, ring); // it was added
    }

    /// Sleeps until a ring is readable or `timeout`, less than a second, has passed. Returns
    /// whether to stop.
    ///
    /// # Errors
    /// When the kernel cannot wait.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let mut ready = Vec::with_capacity(8);
        let timeout = rustix::time::Timespec { tv_sec: 0, tv_nsec: timeout.subsec_nanos().into() };
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut ready), Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(false),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        if ready.iter().any(|event| event.data.u64() == STOP) {
            return Ok(true);
        }
        thread::sleep(PAUSE);
        Ok(false)
    }
}
