//! The ladder of sampling rates: down by halves to 1 Hz on each CPU, and back up at once.
//!
//! The budget bounds the mean, not each window. What the causes that follow from the sampling rate
//! use beyond what is left for them becomes a debt, and the rate stays low until it is paid off.
//! The debt is bounded, so that the full rate is back within a minute after its cause has ended.
//! Other causes never lower the rate: each is limited by itself, to its share.

use std::fmt;
use std::time::Duration;

use profile::NotSampled;

use super::cause::Cause;
use super::usage::ResourceUsage;
use crate::kernel::SamplingRate;

/// Limits of the agent's overhead.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetLimits {
    /// CPU time in % of total CPU capacity.
    pub cpu_percent: f64,
    /// Memory of processes and BPF maps together, in bytes.
    pub memory: u64,
}

impl BudgetLimits {
    /// Returns the CPU seconds per second that the agent may use on so many CPUs.
    pub fn allowed(&self, cpus: u32) -> f64 {
        self.cpu_percent / 100.0 * f64::from(cpus)
    }
}

/// A sampling rate that the budget allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetRate {
    /// Ticks per second on each CPU, at least 1.
    pub frequency: u32,
    /// Ticks per second on each CPU that the configuration calls for.
    pub full_frequency: u32,
    /// Why it is lower than that.
    pub lowered: Option<NotSampled>,
}

impl BudgetRate {
    /// Returns the rate as the sampler takes it.
    pub fn sampling_rate(&self) -> SamplingRate {
        let period = SamplingRate::from_hz(self.frequency).period;
        let full = SamplingRate::from_hz(self.full_frequency);
        SamplingRate { period, lowered: self.lowered, ..full }
    }
}

/// Why the rate was lowered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lowered {
    /// The CPU budget was exceeded.
    Cpu {
        /// The cause that took most of its share.
        cause: Cause,
        /// What it took, in % of total CPU capacity.
        percent: f64,
    },
    /// The memory budget was nearly used up.
    Memory {
        /// Bytes in use.
        used: u64,
        /// The limit in bytes.
        limit: u64,
    },
}

impl Lowered {
    /// Returns the reason under which ticks that were not taken are counted.
    pub fn reason(&self) -> NotSampled {
        match self {
            Self::Cpu { .. } => NotSampled::Budget,
            Self::Memory { .. } => NotSampled::Memory,
        }
    }

    /// Returns the value of the label `cause` of metrics.
    pub fn cause_text(&self) -> &'static str {
        match self {
            Self::Cpu { cause, .. } => cause.text(),
            Self::Memory { .. } => NotSampled::Memory.text(),
        }
    }
}

/// Written as a sentence: `stacks finished in user space took 1.3 % of total CPU capacity`.
impl fmt::Display for Lowered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu { cause, percent } => {
                let percent = Percent(*percent);
                write!(f, "{} took {percent} of total CPU capacity", cause.words())
            }
            Self::Memory { used, limit } => {
                write!(f, "{} of {} MiB of memory were in use", used >> 20, limit >> 20)
            }
        }
    }
}

/// A percentage, written with two digits if it is small: `0.013 %`, `1.3 %`, `43 %`.
#[derive(Clone, Copy, Debug)]
pub struct Percent(pub f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(percent) = *self;
        let digits = (1.0 - percent.abs().max(1e-4).log10().floor()).clamp(0.0, 4.0) as usize;
        write!(f, "{percent:.digits$} %")
    }
}

/// The rate that follows from a measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Assessment {
    /// The rate from now on.
    pub rate: BudgetRate,
    /// Why it is below the full rate.
    pub lowered: Option<Lowered>,
    /// The frequency differs from the one in force.
    pub has_changed: bool,
}

/// Time for which unused CPU budget is saved.
const CREDIT: Duration = Duration::from_secs(10);
/// Time whose CPU budget is available at the start, when all processes are new.
const CREDIT_AT_START: Duration = Duration::from_secs(60);
/// Time whose CPU budget is owed at most. It is paid off in little more than this time once the
/// cause has ended, because at a low rate little is used.
const DEBT_MAX: Duration = Duration::from_secs(20);
/// Time at a lower rate before it is raised: doubled by each raise that had to be reverted.
const WAIT_MIN: Duration = Duration::from_secs(5);
/// Upper bound of that doubling.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// A raise failed if the rate is lowered again within this time.
const TRIAL: Duration = Duration::from_secs(21);
/// Time without a failed raise after which failures are forgotten.
const FORGET_FAILURES: Duration = Duration::from_secs(60);
/// The rate is raised if the predicted CPU time stays below this part of what is available.
const HEADROOM: f64 = 0.8;
/// The same after a failed raise.
const HEADROOM_AFTER_FAILURE: f64 = 0.5;
/// What a tick costs in all, relative to what is measured for each: the reader's part is not.
const PER_TICK: f64 = 1.25;
/// Part of the memory limit above which the rate is lowered, because memory is not freed at once.
const MEMORY_HIGH: f64 = 0.95;
/// Part of the memory limit below which the rate is raised again, and the time after which it is
/// enough to stay below [`MEMORY_HIGH`].
const MEMORY_LOW: f64 = 0.85;
const MEMORY_CALM: Duration = Duration::from_secs(30);

/// Chooses the sampling rate.
#[derive(Clone, Debug)]
pub struct Ladder {
    limits: BudgetLimits,
    full_frequency: u32,
    cpus: u32,
    /// How often the full frequency is halved.
    halvings: u32,
    lowered: Option<Lowered>,
    /// CPU seconds used above what was available; negative for unused budget.
    debt: f64,
    since_lowered: Duration,
    since_raised: Duration,
    since_memory_high: Duration,
    /// Raises in a row that had to be reverted.
    failures: u32,
}

impl Ladder {
    /// Starts at the full rate, on a machine with `cpus` CPUs.
    pub fn new(limits: BudgetLimits, frequency: u32, cpus: u32) -> Self {
        let mut this = Self {
            limits,
            full_frequency: frequency.max(1),
            cpus,
            halvings: 0,
            lowered: None,
            debt: 0.0,
            since_lowered: Duration::MAX,
            since_raised: Duration::MAX,
            since_memory_high: Duration::MAX,
            failures: 0,
        };
        this.debt = -this.allowed() * CREDIT_AT_START.as_secs_f64();
        this
    }

    /// Returns the rate in force.
    pub fn rate(&self) -> BudgetRate {
        BudgetRate {
            frequency: self.frequency(self.halvings),
            full_frequency: self.full_frequency,
            lowered: self.lowered.filter(|_| self.halvings > 0).map(|lowered| lowered.reason()),
        }
    }

    /// Returns the CPU seconds per second that the agent may use.
    pub fn allowed(&self) -> f64 {
        self.limits.allowed(self.cpus)
    }

    /// Sets the number of CPUs.
    pub fn set_cpus(&mut self, cpus: u32) {
        self.cpus = cpus;
    }

    /// Sets the limits and the full frequency. A lowered rate becomes one that is no higher.
    pub fn set_limits(&mut self, limits: BudgetLimits, frequency: u32) {
        let before = self.frequency(self.halvings);
        self.full_frequency = frequency.max(1);
        if self.halvings > 0 {
            let is_no_higher = |halvings: &u32| self.frequency(*halvings) <= before;
            self.halvings = (0..self.lowest()).find(is_no_higher).unwrap_or(self.lowest());
        }
        if limits.cpu_percent != self.limits.cpu_percent {
            self.debt = 0.0;
        }
        (self.limits, self.failures) = (limits, 0);
    }

    /// Charges the usage of a time of this `length`, and chooses the rate from now on. `in_force`:
    /// the frequency of that time. While an earlier choice is not in force yet, it stays.
    pub fn assess(&mut self, usage: &ResourceUsage, length: Duration, in_force: u32) -> Assessment {
        let is_chosen = self.rate().frequency == in_force;
        self.pass(length);
        let seconds = length.as_secs_f64().max(1e-3);
        let used = usage.cpu.following_rate().as_secs_f64() / seconds;
        let others = usage.cpu.total().as_secs_f64() / seconds - used;
        let available = self.available(others);
        self.charge((used - available) * seconds);

        let memory = usage.memory as f64 / self.limits.memory.max(1) as f64;
        if memory > MEMORY_HIGH {
            self.since_memory_high = Duration::ZERO;
        }
        if !is_chosen {
            // The usage says nothing about the rate that was chosen.
        } else if used > available && self.debt > 0.0 {
            // Others are limited by themselves; the rate's own causes use more than their share.
            let (cause, time) = usage.cpu.heaviest(Cause::follows_rate);
            let capacity = seconds * f64::from(self.cpus.max(1));
            let percent = 100.0 * time.as_secs_f64() / capacity;
            let halvings = (used / available).log2().ceil().clamp(1.0, 16.0) as u32;
            self.lower(Lowered::Cpu { cause, percent }, halvings);
        } else if memory > MEMORY_HIGH {
            let (used, limit) = (usage.memory, self.limits.memory);
            self.lower(Lowered::Memory { used, limit }, 1);
        } else {
            let per_tick = usage.cpu_per_tick.as_secs_f64() * PER_TICK;
            self.raise(used, available, per_tick, memory);
        }
        let rate = self.rate();
        let lowered = self.lowered.filter(|_| self.halvings > 0);
        Assessment { rate, lowered, has_changed: rate.frequency != in_force }
    }

    /// Returns the CPU seconds per second that are left for what follows from the sampling rate:
    /// its own share, and what the other causes leave of theirs.
    fn available(&self, others: f64) -> f64 {
        self.allowed() * (1.0 - (others / self.allowed()).clamp(0.0, 1.0 - own_share()))
    }

    fn pass(&mut self, time: Duration) {
        for since in [&mut self.since_lowered, &mut self.since_raised, &mut self.since_memory_high]
        {
            *since = since.saturating_add(time);
        }
        if self.since_raised >= FORGET_FAILURES && self.since_lowered >= FORGET_FAILURES {
            self.failures = 0;
        }
    }

    fn charge(&mut self, excess: f64) {
        // The credit of the start is spent once; it does not grow again.
        let credit = (-self.debt).max(self.allowed() * CREDIT.as_secs_f64());
        self.debt = (self.debt + excess).clamp(-credit, self.allowed() * DEBT_MAX.as_secs_f64());
    }

    fn lower(&mut self, why: Lowered, halvings: u32) {
        let lowest = self.lowest();
        if self.halvings == lowest {
            return;
        }
        if self.since_raised <= TRIAL {
            self.failures += 1;
        }
        (self.halvings, self.lowered) = ((self.halvings + halvings).min(lowest), Some(why));
        self.since_lowered = Duration::ZERO;
    }

    /// Raises the rate as far as the predicted CPU time allows.
    fn raise(&mut self, used: f64, available: f64, per_tick: f64, memory: f64) {
        let wait = (WAIT_MIN * (1 << self.failures.min(8))).min(WAIT_MAX);
        let has_memory = memory < MEMORY_LOW || self.since_memory_high >= MEMORY_CALM;
        if self.halvings == 0 || self.debt > 0.0 || self.since_lowered < wait || !has_memory {
            return;
        }
        let headroom = if self.failures == 0 { HEADROOM } else { HEADROOM_AFTER_FAILURE };
        let now = self.frequency(self.halvings);
        let fits = |halvings: &u32| {
            let more = f64::from(self.cpus) * f64::from(self.frequency(*halvings) - now);
            used + more * per_tick < headroom * available
        };
        if let Some(halvings) = (0..self.halvings).find(fits) {
            (self.halvings, self.since_raised) = (halvings, Duration::ZERO);
        }
    }

    /// Returns the frequency after so many halvings, at least 1.
    fn frequency(&self, halvings: u32) -> u32 {
        (self.full_frequency >> halvings).max(1)
    }

    /// Returns the number of halvings to 1 Hz.
    fn lowest(&self) -> u32 {
        self.full_frequency.ilog2()
    }
}

/// Returns the share of the causes that follow from the sampling rate.
fn own_share() -> f64 {
    Cause::ALL.into_iter().filter(|cause| cause.follows_rate()).map(Cause::share).sum()
}

#[cfg(test)]
mod tests;
