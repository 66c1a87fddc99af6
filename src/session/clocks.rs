//! The sampling clocks and side bands of all CPUs: starts, stops, and changes of the rate.
//!
//! A clock and a side band end with their CPU: they are retired when it goes offline, and it gets
//! new ones when it comes online again. `cpu_watcher.rs` sees to both.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use profile::Cpu;

use super::cpu_ticks::{ClockTime, CpuReadings};
use super::cpu_times::CpuTimes;
use super::results::CpuCounts;
use super::window_boundary::WindowBoundary;
use crate::events::{CpuRings, now};
use crate::kernel::{
    CpuClock, CpuSelection, LoadError, PerfError, Sampler, SamplerConfig, SamplingRate, SideBand,
};

/// Starting all clocks takes at most this long.
const STAGGER_MAX: Duration = Duration::from_millis(50);
/// A clock that runs shows that by its time after this, in nanoseconds.
const LIVENESS_NS: u64 = 1_000_000;

/// The clock of one CPU.
pub(super) struct SampledCpu {
    /// Identifies this clock: the one that the CPU gets when it comes online again is another.
    number: u64,
    clock: CpuClock,
    /// Its last reading while it ran.
    reading: Option<Reading>,
}

/// A reading of a clock that runs. All values are nanoseconds, of CLOCK_MONOTONIC or of its time.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at: u64,
    on_ns: u64,
    /// The clock's time accounts for everything up to here.
    ran_until: u64,
}

impl Reading {
    /// Returns until when the clock has run, by a later reading of its time. If that has advanced
    /// the clock was running at this reading: what its time lacks before is none of its end.
    fn ran_until(&self, on_ns: u64) -> u64 {
        match on_ns.saturating_sub(self.on_ns) {
            0 => self.ran_until,
            advance => self.at + advance,
        }
    }
}

impl SampledCpu {
    /// Opens the side band and the clock of a CPU, in this order. The clock does not run yet, the
    /// side band does. `number`: differs for each call.
    ///
    /// A CPU that is not sampled has a side band all the same, because processes that are may map
    /// their memory there, and a clock that never ticks.
    ///
    /// # Errors
    /// [`PerfError`] when the kernel refuses; ENODEV when the CPU is offline.
    pub fn open(
        number: u64,
        cpu: Cpu,
        config: &SamplerConfig,
    ) -> Result<(Self, CpuRings), PerfError> {
        let side_band = SideBand::open(cpu, config.side_band_bytes)?;
        let is_sampled = config.cpus.contains(cpu);
        let clock = match is_sampled {
            true => CpuClock::open(cpu, config.frequency, config.perf_samples)?,
            false => CpuClock::silent(cpu)?,
        };
        let has_records = config.perf_samples && is_sampled;
        let perf_samples = has_records.then(|| clock.perf_samples()).transpose()?;
        let sampled = Self { number, clock, reading: None };
        Ok((sampled, CpuRings { number, side_band, perf_samples, task_samples: None }))
    }

    /// Returns the number of the clock and its rings.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns whether its clock ticks.
    pub fn is_sampled(&self) -> bool {
        !self.clock.is_silent()
    }

    fn time(&self) -> io::Result<ClockTime> {
        let on_ns = self.clock.running_ns()?;
        Ok(ClockTime { number: self.number, cpu: self.clock.cpu(), on_ns })
    }

    /// Notes that the clock runs from now on.
    fn has_started(&mut self) {
        let at = now();
        let reading = |time: ClockTime| Reading { at, on_ns: time.on_ns, ran_until: at };
        self.reading = self.time().ok().map(reading);
    }

    /// Reads the time of a clock that should run. Returns whether it may still run: its time has
    /// advanced since the last reading, or that was just now.
    fn is_alive(&mut self) -> bool {
        let (Ok(time), at) = (self.time(), now()) else { return false };
        match self.reading {
            Some(last) if at.saturating_sub(last.at) < LIVENESS_NS => true,
            Some(last) if time.on_ns == last.on_ns => false,
            Some(last) => {
                let ran_until = last.ran_until(time.on_ns).min(at);
                self.reading = Some(Reading { at, on_ns: time.on_ns, ran_until });
                true
            }
            None => true,
        }
    }

    /// Returns the final time of a clock that has ended, and when that was; `at` if unknown.
    fn end(&self, at: u64) -> (Option<ClockTime>, u64) {
        let time = self.time().ok();
        let ended =
            self.reading.map(|last| last.ran_until(time.map_or(last.on_ns, |time| time.on_ns)));
        (time, ended.unwrap_or(at).min(at))
    }
}

/// The clocks of a session.
pub(super) struct SamplingClocks {
    cpus: Vec<SampledCpu>,
    /// Which CPUs are sampled.
    selection: CpuSelection,
    /// Final times of clocks that were retired since the last boundary.
    retired: Vec<ClockTime>,
    /// Since when CPUs are online, and which of them have no clock.
    pub times: CpuTimes,
    rate: SamplingRate,
    came_online: u64,
    went_offline: u64,
    pub sampler: Sampler,
}

/// The clocks, shared by the session and the CPU watcher.
#[derive(Clone)]
pub(super) struct SharedClocks(Arc<Mutex<SamplingClocks>>);

impl SharedClocks {
    pub fn new(clocks: SamplingClocks) -> Self {
        Self(Arc::new(Mutex::new(clocks)))
    }

    /// Locks the clocks. They stay consistent when a thread panics meanwhile.
    pub fn lock(&self) -> MutexGuard<'_, SamplingClocks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SamplingClocks {
    /// Takes clocks that do not run yet. `rate`: at which they will start.
    pub fn new(
        sampler: Sampler,
        cpus: Vec<SampledCpu>,
        selection: CpuSelection,
        rate: SamplingRate,
    ) -> Self {
        let (retired, times) = (Vec::new(), CpuTimes::default());
        Self { cpus, selection, retired, times, rate, came_online: 0, went_offline: 0, sampler }
    }

    /// Starts the clocks one after the other within a period, so that CPUs do not tick together.
    /// Returns the boundary at which the first window begins.
    ///
    /// # Errors
    /// [`LoadError`] when the kernel refuses.
    pub fn start(&mut self) -> Result<WindowBoundary, LoadError> {
        let begin = WindowBoundary::start(self.rate);
        let stagger = self.stagger(self.rate);
        for (number, cpu) in self.cpus.iter_mut().filter(|cpu| cpu.is_sampled()).enumerate() {
            if number > 0 {
                thread::sleep(stagger);
            }
            self.sampler.start_clock(&mut cpu.clock, self.rate.period)?;
            cpu.has_started();
            self.times.got_clock(cpu.clock.cpu(), now());
        }
        Ok(begin)
    }

    /// Returns the time between the starts of two clocks.
    fn stagger(&self, rate: SamplingRate) -> Duration {
        let period = Duration::from_nanos(rate.period.get());
        period.min(STAGGER_MAX) / self.sampled().count().max(1) as u32
    }

    fn sampled(&self) -> impl Iterator<Item = &SampledCpu> {
        self.cpus.iter().filter(|cpu| cpu.is_sampled())
    }

    /// Reads a boundary while the clocks go on.
    ///
    /// # Errors
    /// When a counter cannot be read.
    pub fn read_boundary(&mut self) -> io::Result<WindowBoundary> {
        self.boundary_to(self.rate)
    }

    /// Reads a boundary. `rate`: from here on.
    fn boundary_to(&mut self, rate: SamplingRate) -> io::Result<WindowBoundary> {
        let Self { sampler, cpus, retired, times, .. } = self;
        let mut boundary = WindowBoundary::read(sampler, rate, |at| {
            let clocks = cpus.iter().filter(|cpu| cpu.is_sampled()).map(SampledCpu::time);
            let clocks = clocks.collect::<io::Result<Vec<_>>>()?;
            Ok(CpuReadings::new(clocks, std::mem::take(retired), times.until(at)))
        })?;
        boundary.cpu_counts = self.counts();
        Ok(boundary)
    }

    fn counts(&self) -> CpuCounts {
        CpuCounts {
            sampled: self.sampled().count() as u64,
            without_clock: self.times.counts(),
            came_online: self.came_online,
            went_offline: self.went_offline,
        }
    }

    /// Stops the clocks. Returns the boundary at which the last window ends.
    ///
    /// # Errors
    /// When the kernel refuses or a counter cannot be read.
    pub fn stop(&mut self) -> io::Result<WindowBoundary> {
        self.stop_clocks()?;
        self.read_boundary()
    }

    /// Stops every clock. All ticks that are due by then have come.
    fn stop_clocks(&mut self) -> io::Result<()> {
        let mut sampled = self.cpus.iter_mut().filter(|cpu| cpu.is_sampled());
        sampled.by_ref().for_each(|cpu| cpu.reading = None);
        self.sampled().try_for_each(|cpu| cpu.clock.stop())
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
                self.stop_clocks()?;
                self.resume(self.rate)?;
                Err(error)
            }
        }
    }

    fn try_change_rate(&mut self, rate: SamplingRate) -> io::Result<WindowBoundary> {
        self.stop_clocks()?;
        let mut boundary = self.boundary_to(rate)?;
        boundary.are_clocks_restarted = true;
        self.resume(rate)?;
        Ok(boundary)
    }

    /// Starts stopped clocks.
    fn resume(&mut self, rate: SamplingRate) -> io::Result<()> {
        let stagger = self.stagger(rate);
        for (number, cpu) in self.cpus.iter_mut().filter(|cpu| cpu.is_sampled()).enumerate() {
            if number > 0 {
                thread::sleep(stagger);
            }
            cpu.clock.resume(rate.period.get())?;
            cpu.has_started();
        }
        Ok(())
    }

    /// Starts the clock of a CPU that came online.
    ///
    /// # Errors
    /// [`LoadError`] when the kernel refuses.
    pub fn add(&mut self, mut cpu: SampledCpu) -> Result<(), LoadError> {
        if cpu.is_sampled() {
            self.sampler.start_clock(&mut cpu.clock, self.rate.period)?;
            self.times.got_clock(cpu.clock.cpu(), now());
            self.came_online += 1;
        }
        cpu.has_started();
        self.cpus.push(cpu);
        Ok(())
    }

    /// Retires the clocks that have ended with their CPU, also if it is online again. Returns their
    /// numbers. A clock is found to have ended by two calls at least a millisecond apart. `at`:
    /// now, nanoseconds of CLOCK_MONOTONIC.
    pub fn retire_ended(&mut self, online: &BTreeSet<Cpu>, at: u64) -> Vec<u64> {
        let ended =
            self.cpus.extract_if(.., |cpu| !online.contains(&cpu.clock.cpu()) || !cpu.is_alive());
        let mut numbers = Vec::new();
        for cpu in ended {
            if cpu.is_sampled() {
                let (time, ended) = cpu.end(at);
                self.retired.extend(time);
                self.times.went_offline(cpu.clock.cpu(), ended);
                self.went_offline += 1;
            }
            numbers.push(cpu.number); // the clock is dropped
        }
        numbers
    }

    /// Notes which CPUs without a clock are online. `at`: when that was noticed, nanoseconds of
    /// CLOCK_MONOTONIC. Returns those that are, also if they are not sampled.
    pub fn update_online(&mut self, online: &BTreeSet<Cpu>, at: u64) -> Vec<Cpu> {
        let open: BTreeSet<Cpu> = self.cpus.iter().map(|cpu| cpu.clock.cpu()).collect();
        let gone: Vec<Cpu> =
            self.times.without_clock().filter(|cpu| !online.contains(cpu)).collect();
        gone.into_iter().for_each(|cpu| self.times.went_offline(cpu, at));
        let missing: Vec<Cpu> = online.difference(&open).copied().collect();
        let sampled = missing.iter().filter(|cpu| self.selection.contains(**cpu));
        sampled.for_each(|cpu| self.times.came_online(*cpu, at));
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_of_a_clock_follows_from_its_time() {
        let reading = Reading { at: 1000, on_ns: 900, ran_until: 990 };
        assert_eq!(reading.ran_until(900), 990, "it had ended before");
        assert_eq!(reading.ran_until(950), 1050, "its time lags, and that does not add up");
    }
}
