//! The sampling clocks and side bands of all CPUs: starts, stops, and changes of the rate.

use std::io;
use std::time::Instant;

use super::window_boundary::WindowBoundary;
use crate::events::now;
use crate::kernel::{LoadError, Sampler, SamplingRate, SideBandSwitch};

/// The clocks of a session. Side bands are off while nothing is sampled: reporting processes that
/// come and go would cost a paused agent more than its budget.
pub(super) struct SamplingClocks {
    pub sampler: Sampler,
    side_bands: Vec<SideBandSwitch>,
    rate: SamplingRate,
    /// When the last clock was started. What is due before follows from the clocks alone.
    started: Instant,
}

impl SamplingClocks {
    /// Takes clocks that do not run yet. `rate`: at which they will start.
    pub fn new(sampler: Sampler, side_bands: Vec<SideBandSwitch>, rate: SamplingRate) -> Self {
        Self { sampler, side_bands, rate, started: Instant::now() }
    }

    /// Starts the clocks. Returns the boundary at which the first window begins.
    ///
    /// # Errors
    /// [`LoadError`] when the kernel refuses.
    pub fn start(&mut self) -> Result<WindowBoundary, LoadError> {
        let begin = WindowBoundary::start(self.rate);
        self.sampler.start()?;
        self.started = Instant::now();
        Ok(begin)
    }

    /// Reads a boundary while the clocks go on.
    ///
    /// # Errors
    /// When a counter cannot be read.
    pub fn read_boundary(&self) -> io::Result<WindowBoundary> {
        WindowBoundary::read(&self.sampler, self.rate, self.started)
    }

    /// Stops the clocks. Returns the boundary at which the last window ends.
    ///
    /// # Errors
    /// When the kernel refuses or a counter cannot be read.
    pub fn stop(&self) -> io::Result<WindowBoundary> {
        self.sampler.stop()?;
        self.read_boundary()
    }

    /// Stops the clocks and starts them at another rate. Returns the boundary in between.
    ///
    /// # Errors
    /// When a counter cannot be read or the kernel refuses; the clocks go on at their old rate
    /// then.
    pub fn change_rate(&mut self, rate: SamplingRate) -> io::Result<WindowBoundary> {
        match self.try_change_rate(rate) {
            Ok(boundary) => {
                self.rate = rate;
                Ok(boundary)
            }
            Err(error) => {
                self.sampler.stop()?;
                self.resume(self.rate)?;
                Err(error)
            }
        }
    }

    fn try_change_rate(&mut self, rate: SamplingRate) -> io::Result<WindowBoundary> {
        self.sampler.stop()?;
        let mut boundary = WindowBoundary::read(&self.sampler, rate, self.started)?;
        boundary.are_clocks_restarted = true;
        if self.rate.period.is_none() {
            self.side_bands.iter().try_for_each(SideBandSwitch::on)?;
            boundary.missed_events_until = Some(now());
        }
        self.resume(rate)?;
        Ok(boundary)
    }

    /// Starts stopped clocks; switches the side bands off if nothing is to be sampled.
    fn resume(&mut self, rate: SamplingRate) -> io::Result<()> {
        self.sampler.resume(rate)?;
        if rate.period.is_none() {
            // A side band that stays on costs time, and does no other harm.
            self.side_bands.iter().for_each(|side_band| drop(side_band.off()));
        }
        Ok(())
    }
}
