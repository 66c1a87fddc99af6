//! The budget of the running agent: measures the overhead every few seconds, and chooses the
//! sampling rate.

use std::time::{Duration, Instant};

use crate::budget::{
    Assessment, BudgetLimits, BudgetRate, Cause, CauseRates, CpuByCause, Ladder, Lowered, Percent,
    UsageMeter,
};
use crate::session::SessionCpu;

/// Interval of two measurements, unless windows are shorter. With it, the full rate is back within
/// a minute after the cause of a lower one has ended, however long windows are.
pub(super) const INTERVAL_MAX: Duration = Duration::from_secs(10);

/// What a cause takes relative to what it may, above which the log says so.
const LIMITED: f64 = 2.0;
/// Least time between two warnings about one cause.
const WARN_INTERVAL: Duration = Duration::from_secs(600);

/// Measures and decides.
pub(super) struct Budget {
    meter: UsageMeter,
    ladder: Ladder,
    rates: CauseRates,
    limits: BudgetLimits,
    cpus: u32,
    measured: Instant,
    /// CPU time since the start.
    total: CpuByCause,
    window: WindowUsage,
    lowered: Option<Lowered>,
    /// When the log last said that a cause is limited, by cause.
    warned: [Option<Instant>; Cause::ALL.len()],
}

/// What the agent used while a window was sampled.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WindowUsage {
    pub cpu: CpuByCause,
    time: Duration,
    cpus: u32,
    /// Memory in use at the last measurement, in bytes.
    pub memory: u64,
}

impl WindowUsage {
    /// Returns the CPU time in % of total CPU capacity.
    pub fn cpu_percent(&self) -> f64 {
        let capacity = self.time.as_secs_f64() * f64::from(self.cpus.max(1));
        if capacity > 0.0 { 100.0 * self.cpu.total().as_secs_f64() / capacity } else { 0.0 }
    }
}

impl Budget {
    /// Starts at the full rate. The overhead of the start belongs to no window.
    pub fn new(limits: BudgetLimits, frequency: u32, cpus: u32) -> Self {
        let mut meter = UsageMeter::default();
        meter.measure(SessionCpu::default(), 0);
        let ladder = Ladder::new(limits, frequency, cpus);
        Self {
            meter,
            rates: CauseRates::at_start(ladder.allowed()),
            ladder,
            limits,
            cpus,
            measured: Instant::now(),
            total: CpuByCause::default(),
            window: WindowUsage { cpus, ..WindowUsage::default() },
            lowered: None,
            warned: [None; Cause::ALL.len()],
        }
    }

    /// Returns what each cause may use until the next assessment.
    pub fn rates(&self) -> CauseRates {
        self.rates
    }

    /// Returns the rate that the budget allows.
    pub fn rate(&self) -> BudgetRate {
        self.ladder.rate()
    }

    /// Returns why the rate is below the full one.
    pub fn lowered(&self) -> Option<Lowered> {
        self.lowered
    }

    /// Returns the CPU time since the start.
    pub fn total(&self) -> CpuByCause {
        self.total
    }

    /// Sets the number of online CPUs.
    pub fn set_cpus(&mut self, cpus: u32) {
        self.cpus = cpus;
        self.ladder.set_cpus(cpus);
    }

    /// Sets the limits and the frequency of the configuration.
    pub fn set_limits(&mut self, limits: BudgetLimits, frequency: u32) {
        self.limits = limits;
        self.ladder.set_limits(limits, frequency);
        self.rates = CauseRates::at_start(self.ladder.allowed());
    }

    /// Measures the overhead since the last call and chooses the rate from now on. `in_force`: the
    /// rate since then.
    pub fn assess(
        &mut self,
        session: SessionCpu,
        bpf_map_bytes: u64,
        in_force: BudgetRate,
    ) -> Assessment {
        let usage = self.meter.measure(session, bpf_map_bytes);
        let length = self.measured.elapsed();
        self.measured = Instant::now();
        self.total += usage.cpu;
        self.window.cpu += usage.cpu;
        self.window.time += length;
        (self.window.cpus, self.window.memory) = (self.cpus, usage.memory);
        self.warn_of_limited(&usage.cpu, length);
        self.rates = CauseRates::after(self.ladder.allowed(), &usage.cpu, length.as_secs_f64());
        let before = self.ladder.rate().frequency;
        let assessment = self.ladder.assess(&usage, length, in_force.frequency);
        self.lowered = assessment.lowered;
        if assessment.rate.frequency != before {
            self.log(&assessment);
        }
        assessment
    }

    /// Logs which causes took much more than they may, and are limited therefore.
    fn warn_of_limited(&mut self, used: &CpuByCause, length: Duration) {
        let seconds = length.as_secs_f64().max(1e-3);
        if used.total().as_secs_f64() / seconds <= self.ladder.allowed() {
            return;
        }
        for cause in Cause::ALL.into_iter().filter(|cause| !cause.follows_rate()) {
            let rate = used[cause].as_secs_f64() / seconds;
            let warned = &mut self.warned[cause as usize];
            let is_due = warned.is_none_or(|at| at.elapsed() >= WARN_INTERVAL);
            if rate > LIMITED * self.rates.of(cause) && is_due {
                *warned = Some(Instant::now());
                let percent = |rate: f64| Percent(100.0 * rate / f64::from(self.cpus.max(1)));
                let (took, may) = (percent(rate), percent(self.rates.of(cause)));
                let words = cause.words();
                tracing::warn!(
                    "limiting a cause of cost: {words} took {took} of total CPU capacity and may \
                     take {may}"
                );
            }
        }
    }

    /// Returns what was used since the last call.
    pub fn take_window(&mut self) -> WindowUsage {
        let WindowUsage { cpus, memory, .. } = self.window;
        std::mem::replace(&mut self.window, WindowUsage { cpus, memory, ..WindowUsage::default() })
    }

    fn log(&self, assessment: &Assessment) {
        let Assessment { rate, lowered, .. } = assessment;
        let BudgetLimits { cpu_percent, memory } = self.limits;
        match lowered {
            Some(lowered) => tracing::warn!(
                frequency = rate.frequency,
                frequency_configured = rate.full_frequency,
                cpu_percent_max = cpu_percent,
                memory_mib_max = memory >> 20,
                "sampling lowered to {} Hz: {lowered}",
                rate.frequency
            ),
            None => tracing::info!(frequency = rate.frequency, "sampling is back at the full rate"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_of_a_window_is_the_sum_of_its_measurements() {
        let limits = BudgetLimits { cpu_percent: 1.0, memory: 1 << 40 };
        let mut budget = Budget::new(limits, 19, 2);
        let session = |ms| SessionCpu {
            ticks: ms,
            ticks_in_kernel: Duration::from_millis(ms),
            ..SessionCpu::default()
        };
        budget.assess(session(1), 0, budget.rate());
        budget.assess(session(3), 1 << 30, budget.rate());
        let window = budget.take_window();
        assert!(window.cpu.total() >= Duration::from_millis(3), "{window:?}");
        assert!(window.memory > 1 << 30 && window.cpu_percent() > 0.0, "{window:?}");
        assert_eq!(budget.take_window().cpu, CpuByCause::default());
        assert_eq!(budget.total(), window.cpu);
    }
}
