//! What takes the samples of a session: clocks of CPUs or of tasks.

use std::io;

use super::results::SamplerProgress;
use super::window_boundary::WindowBoundary;
use crate::events::Reader;
use crate::kernel::LoadError;

/// Clocks that run, with what counts their ticks.
pub trait Capture {
    /// Runs `spawn`. A process that it starts is sampled with all its descendants.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn launch<T: Send>(&mut self, spawn: impl FnOnce() -> T + Send) -> Result<T, LoadError>;

    /// Returns the losses and the overhead so far.
    ///
    /// # Errors
    /// When the counters cannot be read.
    fn progress(&self) -> io::Result<SamplerProgress>;

    /// Stops the clocks, and has the reader drain what they wrote. Returns the boundary at which
    /// the last window ends.
    ///
    /// # Errors
    /// When a ring or a counter cannot be read.
    fn finish(self, reader: Reader) -> io::Result<WindowBoundary>;
}
