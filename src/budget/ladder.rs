//! The ladder of sampling steps: first fewer ticks, then shorter stacks, then a pause; and back up.
//!
//! The budget bounds the mean, not each window. CPU time above the limit becomes a debt, and at the
//! lowest step nothing is sampled until the idle time has paid it off.

use std::fmt;
use std::time::Duration;

use profile::NotSampled;

use crate::kernel::SamplingRate;

use super::ResourceUsage;

/// Limits of the agent's overhead.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetLimits {
    /// CPU time in % of total CPU capacity.
    pub cpu_percent: f64,
    /// Memory of processes and BPF maps together, in bytes.
    pub memory: u64,
}

/// One step of the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Steps below the full rate.
    pub number: u32,
    /// Ticks per second on each CPU; 0 during a pause.
    pub frequency: u32,
    /// Ticks per second on each CPU that the configuration calls for.
    pub full_frequency: u32,
    /// Maximum number of user frames in a stack; 0 for no limit.
    pub user_frames: u32,
    /// Why it is below the full rate.
    pub lowered: Option<NotSampled>,
}

impl Step {
    /// Returns the sampling rate of this step.
    pub fn rate(&self) -> SamplingRate {
        let Self { frequency, full_frequency, user_frames, lowered, .. } = *self;
        let full = SamplingRate::from_hz(full_frequency);
        let period = (frequency > 0).then(|| SamplingRate::from_hz(frequency).period).flatten();
        SamplingRate { period, user_frames, lowered, ..full }
    }
}

/// The overhead of a window, and the step that follows from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Assessment {
    /// CPU time of the window in % of total CPU capacity.
    pub cpu_percent: f64,
    /// Memory in use, in bytes.
    pub memory: u64,
    /// The step of the next window.
    pub step: Step,
    /// The step differs from the previous one.
    pub has_changed: bool,
}

impl Assessment {
    /// Returns the assessment that holds before anything was measured.
    pub fn before_first_window(step: Step) -> Self {
        Self { cpu_percent: 0.0, memory: 0, step, has_changed: false }
    }
}

/// The form in which the comments of a profile carry it.
impl fmt::Display for Assessment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu_percent, memory, step, .. } = self;
        let mib = memory >> 20;
        write!(f, "step {}, {cpu_percent:.3} % of total CPU capacity, {mib} MiB", step.number)
    }
}

/// Depths of user stacks at the lowest frequency, before the pause.
const DEPTHS: [u32; 2] = [64, 16];
/// Time for which unused CPU budget is saved.
const CREDIT: Duration = Duration::from_secs(10);
/// Time whose CPU budget is available at the start, when the tables of all processes are loaded.
const CREDIT_AT_START: Duration = Duration::from_secs(60);
/// Time from the start during which the debt is bounded by the budget of that time: loading large
/// tables at the start must not pause sampling for hours.
const START: Duration = Duration::from_secs(600);
/// Windows with headroom before a step up. Doubled after each step up that had to be reverted.
const HEADROOM_WINDOWS: u32 = 3;
/// Upper bound of that doubling.
const HEADROOM_WINDOWS_MAX: u32 = 96;
/// A step up may double the CPU time; it is tried while that stays below this part of the limit.
const HEADROOM: f64 = 0.8;
/// Part of the memory limit above which the ladder steps down, because memory is not freed at once.
const MEMORY_HIGH: f64 = 0.95;

/// Chooses the step of each window.
#[derive(Clone, Debug)]
pub struct Ladder {
    limits: BudgetLimits,
    steps: Vec<Step>,
    /// Index of the step in force.
    current: usize,
    cpus: u32,
    /// Why the ladder stepped down last.
    reason: NotSampled,
    /// CPU seconds used above the limit; negative for unused budget.
    debt: f64,
    /// Total length of the windows assessed so far.
    age: Duration,
    /// Consecutive windows with headroom.
    windows_with_headroom: u32,
    /// Windows with headroom that a step up needs.
    headroom_windows_needed: u32,
    /// Windows since the last step up.
    windows_since_step_up: u32,
}

impl Ladder {
    /// Starts at the full rate, on a machine with `cpus` CPUs.
    pub fn new(limits: BudgetLimits, frequency: u32, cpus: u32) -> Self {
        let credit = limits.cpu_percent / 100.0 * f64::from(cpus) * CREDIT_AT_START.as_secs_f64();
        Self {
            limits,
            steps: steps(frequency),
            current: 0,
            cpus,
            reason: NotSampled::Budget,
            debt: -credit,
            age: Duration::ZERO,
            windows_with_headroom: 0,
            headroom_windows_needed: HEADROOM_WINDOWS,
            windows_since_step_up: HEADROOM_WINDOWS_MAX,
        }
    }

    /// Returns the step in force.
    pub fn step(&self) -> Step {
        let step = self.steps[self.current];
        Step { lowered: step.lowered.map(|_| self.reason), ..step }
    }

    /// Returns the highest step.
    pub fn full_rate(&self) -> Step {
        self.steps[0]
    }

    /// Sets the number of CPUs.
    pub fn set_cpus(&mut self, cpus: u32) {
        self.cpus = cpus;
    }

    /// Sets the limits and the full rate. The step becomes one of about the same frequency.
    pub fn set_limits(&mut self, limits: BudgetLimits, frequency: u32) {
        let before = self.step();
        self.steps = steps(frequency);
        if self.current > 0 {
            let is_no_higher = |step: &Step| {
                step.frequency <= before.frequency && step.user_frames == before.user_frames
            };
            let lowest = self.steps.len() - 1;
            self.current = self.steps.iter().position(is_no_higher).unwrap_or(lowest);
        }
        if limits.cpu_percent != self.limits.cpu_percent {
            self.debt = 0.0;
        }
        (self.limits, self.headroom_windows_needed) = (limits, HEADROOM_WINDOWS);
    }

    /// Charges the usage of a window of this `length`, and chooses the step of the next window.
    pub fn assess(&mut self, usage: &ResourceUsage, length: Duration) -> Assessment {
        let seconds = length.as_secs_f64().max(1e-3);
        let allowed = self.limits.cpu_percent / 100.0 * f64::from(self.cpus);
        let used = usage.cpu.as_secs_f64();
        // The credit of the start is spent once; it does not grow again.
        let credit = (-self.debt).max(allowed * CREDIT.as_secs_f64());
        self.debt = (self.debt + used - allowed * seconds).max(-credit);
        self.age = self.age.saturating_add(length);
        if self.age <= START {
            self.debt = self.debt.min(allowed * START.as_secs_f64());
        }
        let load = used / seconds / allowed;
        let before = self.current;
        let memory = usage.memory as f64 / self.limits.memory as f64;
        if load > 1.0 && self.debt > 0.0 || memory > MEMORY_HIGH {
            let is_memory = memory > MEMORY_HIGH;
            self.reason = if is_memory { NotSampled::Memory } else { NotSampled::Budget };
            self.step_down(load);
        } else {
            self.step_up_with_headroom(load, memory);
        }
        self.windows_since_step_up = self.windows_since_step_up.saturating_add(1);
        Assessment {
            cpu_percent: 100.0 * used / seconds / f64::from(self.cpus),
            memory: usage.memory,
            step: self.step(),
            has_changed: self.current != before,
        }
    }

    /// Steps down once for each halving that `load` needs; to the pause only from the step above.
    fn step_down(&mut self, load: f64) {
        let pause = self.steps.len() - 1;
        let halvings = load.log2().ceil().clamp(1.0, 16.0) as usize;
        let lowest = if self.current + 1 >= pause { pause } else { pause - 1 };
        self.current = (self.current + halvings).min(lowest);
        if self.windows_since_step_up <= 2 {
            // The last step up was too high.
            self.headroom_windows_needed =
                (self.headroom_windows_needed * 2).min(HEADROOM_WINDOWS_MAX);
        }
        self.windows_with_headroom = 0;
    }

    /// Steps up after enough windows with headroom, or out of the pause once the debt is paid off.
    fn step_up_with_headroom(&mut self, load: f64, memory: f64) {
        if self.current == 0 {
            self.headroom_windows_needed = HEADROOM_WINDOWS;
            return;
        }
        let is_pause = self.current == self.steps.len() - 1;
        let is_paid_off = self.debt <= 0.0;
        let has_cpu = is_paid_off && (is_pause || load * 2.0 < HEADROOM);
        let has_headroom = has_cpu && memory < MEMORY_HIGH * HEADROOM;
        self.windows_with_headroom = if has_headroom { self.windows_with_headroom + 1 } else { 0 };
        if self.windows_with_headroom >= if is_pause { 1 } else { self.headroom_windows_needed } {
            (self.current, self.windows_with_headroom) = (self.current - 1, 0);
            self.windows_since_step_up = 0;
        }
    }
}

/// Returns all steps: frequencies halved down to 1 Hz, then lower depths, then the pause.
fn steps(frequency: u32) -> Vec<Step> {
    let frequencies =
        std::iter::successors(Some(frequency.max(1)), |hz| (*hz > 1).then_some(hz / 2));
    let mut steps: Vec<(u32, u32)> = frequencies.map(|hz| (hz, 0)).collect();
    steps.extend(DEPTHS.map(|frames| (1, frames)));
    steps.push((0, 0));
    let step = |(number, (hz, user_frames))| Step {
        number,
        frequency: hz,
        full_frequency: frequency.max(1),
        user_frames,
        lowered: (number > 0).then_some(NotSampled::Budget),
    };
    (0..).zip(steps).map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn ladder(cpu_percent: f64) -> Ladder {
        Ladder::new(BudgetLimits { cpu_percent, memory: 100 << 20 }, 19, 2)
    }

    /// Runs windows that take `fixed` seconds of CPU time plus `tick` for each tick. Returns the
    /// mean % of total CPU capacity after the first six windows, and the steps.
    fn run(ladder: &mut Ladder, fixed: f64, tick: f64, windows: usize) -> (f64, Vec<u32>) {
        let (mut sum, mut steps) = (0.0, Vec::new());
        for number in 0..windows {
            let step = ladder.step();
            let depth = if step.user_frames > 0 { 0.5 } else { 1.0 };
            let cpu = fixed + f64::from(step.frequency) * 20.0 * tick * depth;
            if number >= 6 {
                sum += cpu;
            }
            steps.push(step.number);
            let usage = ResourceUsage { cpu: Duration::from_secs_f64(cpu), memory: 1 << 20 };
            ladder.assess(&usage, WINDOW);
        }
        (100.0 * sum / (10.0 * 2.0 * (windows - 6) as f64), steps)
    }

    #[test]
    fn stays_at_the_full_rate_within_the_budget() {
        let (mean, steps) = run(&mut ladder(1.0), 0.01, 10e-6, 100);
        assert!(steps.iter().all(|step| *step == 0), "{steps:?} at {mean}");
    }

    #[test]
    fn holds_the_mean_to_the_limit() {
        for (limit, fixed, tick) in
            [(0.05, 0.002, 100e-6), (0.05, 0.004, 1e-3), (1.0, 0.05, 1e-2), (0.05, 0.009, 0.01)]
        {
            let (mean, steps) = run(&mut ladder(limit), fixed, tick, 60);
            assert!(mean <= limit * 1.1, "{mean} of {limit}: {steps:?}");
            assert!(mean >= limit * 0.2, "{mean} of {limit} leaves too much unused: {steps:?}");
        }
    }

    #[test]
    fn overhead_of_the_start_pauses_for_minutes_not_hours() {
        let mut ladder = ladder(0.05);
        let burst = ResourceUsage { cpu: Duration::from_secs(10), memory: 1 << 20 };
        ladder.assess(&burst, WINDOW);
        let (_, steps) = run(&mut ladder, 0.001, 1e-6, 100);
        let paying = steps.iter().take_while(|step| **step == steps[0]).count();
        assert!(steps[0] > 5 && (60..80).contains(&paying), "{steps:?}");
    }

    #[test]
    fn debt_survives_a_reload_with_the_same_limits() {
        let mut ladder = ladder(0.05);
        ladder.assess(&ResourceUsage { cpu: Duration::from_secs(10), memory: 1 << 20 }, WINDOW);
        let debt = ladder.debt;
        ladder.set_limits(ladder.limits, 19);
        assert_eq!(ladder.debt, debt);
        ladder.set_limits(BudgetLimits { cpu_percent: 1.0, ..ladder.limits }, 19);
        assert_eq!(ladder.debt, 0.0);
    }

    #[test]
    fn steps_up_when_there_is_headroom() {
        let mut ladder = ladder(0.5);
        let (_, steps) = run(&mut ladder, 0.01, 5e-3, 20);
        assert!(*steps.last().expect("steps") > 0);
        let (_, steps) = run(&mut ladder, 0.001, 1e-6, 200);
        assert_eq!(steps.last(), Some(&0), "{steps:?}");
    }

    #[test]
    fn memory_above_its_limit_pauses_sampling() {
        let mut ladder = ladder(1.0);
        let usage = |mib: u64| ResourceUsage { cpu: Duration::ZERO, memory: mib << 20 };
        for _ in 0..20 {
            ladder.assess(&usage(99), WINDOW);
        }
        assert_eq!(ladder.step().frequency, 0);
        for _ in 0..200 {
            ladder.assess(&usage(20), WINDOW);
        }
        assert_eq!(ladder.step().number, 0);
    }

    #[test]
    fn steps_lower_the_frequency_then_the_depth_then_pause() {
        let steps: Vec<_> =
            steps(19).iter().map(|step| (step.frequency, step.user_frames)).collect();
        assert_eq!(steps, [(19, 0), (9, 0), (4, 0), (2, 0), (1, 0), (1, 64), (1, 16), (0, 0)]);
    }
}
