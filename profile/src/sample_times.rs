//! The times of the samples of a window, within a bound of memory.

use crate::Cpu;

/// Index of a key in [`Window::samples`](crate::Window::samples).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SampleId(pub u32);

/// When and where a sample was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimedSample {
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub time_ns: u64,
    /// The CPU that ticked.
    pub cpu: Cpu,
    /// Task and stack.
    pub sample: SampleId,
}

/// The times of samples. Beyond the bound, samples are counted without a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SampleTimes {
    samples: Vec<TimedSample>,
    samples_max: usize,
    left_out: u64,
}

impl SampleTimes {
    /// Returns an empty list that takes at most `bytes_max` bytes of memory.
    pub fn new(bytes_max: usize) -> Self {
        let samples_max = bytes_max / size_of::<TimedSample>();
        Self { samples: Vec::new(), samples_max, left_out: 0 }
    }

    /// Adds a sample if it fits, else counts it as left out.
    pub fn add(&mut self, sample: TimedSample) {
        if self.samples.len() >= self.samples_max {
            self.left_out += 1;
            return;
        }
        if self.samples.len() == self.samples.capacity() {
            let double = (self.samples.len() * 2).clamp(1024, self.samples_max.max(1024));
            self.samples.reserve_exact(double - self.samples.len());
        }
        self.samples.push(sample);
    }

    /// Sorts by time: samples that waited for a table came late.
    pub fn sort(&mut self) {
        self.samples.sort_unstable();
    }

    /// Returns the samples.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &TimedSample> {
        self.samples.iter()
    }

    /// Returns the number of samples without a time.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_beyond_the_bound_are_counted() {
        let mut times = SampleTimes::new(10 * size_of::<TimedSample>());
        for time_ns in (0..15).rev() {
            times.add(TimedSample { time_ns, cpu: Cpu(0), sample: SampleId(0) });
        }
        assert_eq!((times.iter().len(), times.left_out()), (10, 5));
        times.sort();
        assert!(times.iter().map(|sample| sample.time_ns).eq(5..15));
        assert_eq!(size_of::<TimedSample>(), 16);
    }
}
