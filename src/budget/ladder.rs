//! The ladder: fewer ticks first, then shorter stacks, then none at all; and back up when there is room.
//!
//! The mean is what is promised, not each window: what windows took more than their share of is a debt, and at the lowest
//! step nothing is sampled until the debt is paid off by standing still.

use std::fmt;
use std::time::Duration;

use crate::kernel::SamplingRate;

use super::Spent;

/// What the agent may cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Per cent of the machine's CPU time.
    pub cpu_percent: f64,
    /// Bytes of memory, of processes and BPF maps together.
    pub memory: u64,
}

/// One step of the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Steps below the full pace.
    pub number: u32,
    /// Ticks a second on each CPU; 0 while nothing is sampled.
    pub frequency: u32,
    /// Frames of a user stack; 0 for as many as there are.
    pub user_frames: u32,
}

impl Step {
    /// The pace of the sampler at this step.
    pub fn pace(&self) -> SamplingRate {
        match self.frequency {
            0 => SamplingRate { period: None, user_frames: self.user_frames },
            frequency => {
                SamplingRate { user_frames: self.user_frames, ..SamplingRate::from_hz(frequency) }
            }
        }
    }
}

/// What was found of a window, and what follows from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Per cent of the machine that the window took.
    pub cpu_percent: f64,
    /// Bytes that are in use.
    pub memory: u64,
    /// The step of the next window.
    pub step: Step,
    /// It is not that of the one before.
    pub has_changed: bool,
}

impl Verdict {
    /// What is said before anything was measured.
    pub fn at(step: Step) -> Self {
        Self { cpu_percent: 0.0, memory: 0, step, has_changed: false }
    }
}

/// Says it for people, as profiles carry it.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu_percent, memory, step, .. } = self;
        let mib = memory >> 20;
        write!(f, "step {}, {cpu_percent:.3} % of the machine, {mib} MiB", step.number)
    }
}

/// Depths of user stacks at the lowest frequency, before nothing is sampled.
const DEPTHS: [u32; 2] = [64, 16];
/// Time for which unused budget is kept for later.
const CREDIT: Duration = Duration::from_secs(10);
/// The same at the start, when the tables of all that runs are read once.
const CREDIT_AT_START: Duration = Duration::from_secs(60);
/// Time within which no more is owed than its budget: what reading large tables at the start takes is not paid for by hours.
const START: Duration = Duration::from_secs(600);
/// Going up is tried after so many windows with room, and after twice as many each time that it was in vain.
const PATIENCE: u32 = 3;
const PATIENCE_MAX: u32 = 96;
/// A step up may take twice as much; it is tried when that is less than this part of the limit.
const ROOM: f64 = 0.8;
/// Memory is given up for at this part of its limit, because it cannot be taken back at once.
const MEMORY_ROOM: f64 = 0.95;

/// Decides how much is sampled.
#[derive(Clone, Debug)]
pub struct Ladder {
    limits: Limits,
    steps: Vec<Step>,
    at: usize,
    cpus: u32,
    /// CPU time taken on top of what was allowed, in seconds; below 0 when there is some left.
    debt: f64,
    /// How long it has judged windows.
    age: Duration,
    /// Windows with room, one after the other.
    calm: u32,
    patience: u32,
    /// Windows since the last step up.
    since_up: u32,
}

impl Ladder {
    /// Begins at the full pace. `cpus`: of the machine.
    pub fn new(limits: Limits, frequency: u32, cpus: u32) -> Self {
        let steps = steps(frequency);
        let (calm, patience, since_up) = (0, PATIENCE, PATIENCE_MAX);
        let debt = -limits.cpu_percent / 100.0 * f64::from(cpus) * CREDIT_AT_START.as_secs_f64();
        let age = Duration::ZERO;
        Self { limits, steps, at: 0, cpus, debt, age, calm, patience, since_up }
    }

    /// The step that is in force.
    pub fn step(&self) -> Step {
        self.steps[self.at]
    }

    /// The full pace.
    pub fn full(&self) -> Step {
        self.steps[0]
    }

    /// Goes by another number of CPUs of the machine from now on.
    pub fn resize(&mut self, cpus: u32) {
        self.cpus = cpus;
    }

    /// Goes by other limits and another full pace from now on, at a step of about the same frequency.
    pub fn change(&mut self, limits: Limits, frequency: u32) {
        let now = self.step();
        self.steps = steps(frequency);
        let is_no_more =
            |step: &Step| step.frequency <= now.frequency && step.user_frames == now.user_frames;
        let last = self.steps.len() - 1;
        self.at =
            if self.at == 0 { 0 } else { self.steps.iter().position(is_no_more).unwrap_or(last) };
        if limits.cpu_percent != self.limits.cpu_percent {
            self.debt = 0.0;
        }
        (self.limits, self.patience) = (limits, PATIENCE);
    }

    /// Learns what a window took, and says at which step the next is sampled. `wall`: its length.
    pub fn judge(&mut self, spent: &Spent, wall: Duration) -> Verdict {
        let seconds = wall.as_secs_f64().max(1e-3);
        let allowed = self.limits.cpu_percent / 100.0 * f64::from(self.cpus);
        let used = spent.cpu.as_secs_f64();
        // What is left of the credit of the start is used up, and not filled again.
        let credit = (-self.debt).max(allowed * CREDIT.as_secs_f64());
        self.debt = (self.debt + used - allowed * seconds).max(-credit);
        self.age = self.age.saturating_add(wall);
        if self.age <= START {
            self.debt = self.debt.min(allowed * START.as_secs_f64());
        }
        let share = used / seconds / allowed;
        let before = self.at;
        let memory = spent.memory as f64 / self.limits.memory as f64;
        if share > 1.0 && self.debt > 0.0 || memory > MEMORY_ROOM {
            self.go_down(share);
        } else {
            self.go_up(share, memory);
        }
        self.since_up = self.since_up.saturating_add(1);
        Verdict {
            cpu_percent: 100.0 * used / seconds / f64::from(self.cpus),
            memory: spent.memory,
            step: self.step(),
            has_changed: self.at != before,
        }
    }

    /// Goes down as many steps as it takes to halve what is too much; the last one only when nothing else is left.
    fn go_down(&mut self, share: f64) {
        let pause = self.steps.len() - 1;
        let halvings = share.log2().ceil().clamp(1.0, 16.0) as usize;
        let lowest = if self.at + 1 >= pause { pause } else { pause - 1 };
        self.at = (self.at + halvings).min(lowest);
        if self.since_up <= 2 {
            self.patience = (self.patience * 2).min(PATIENCE_MAX); // the last step up was one too many
        }
        self.calm = 0;
    }

    /// Goes up a step when there has been room for it long enough, or when a debt is paid off.
    fn go_up(&mut self, share: f64, memory: f64) {
        if self.at == 0 {
            self.patience = PATIENCE;
            return;
        }
        let is_pause = self.at == self.steps.len() - 1;
        let has_room =
            if is_pause { self.debt <= 0.0 } else { share * 2.0 < ROOM && self.debt <= 0.0 };
        self.calm = if has_room && memory < MEMORY_ROOM * ROOM { self.calm + 1 } else { 0 };
        if self.calm >= if is_pause { 1 } else { self.patience } {
            (self.at, self.calm, self.since_up) = (self.at - 1, 0, 0);
        }
    }
}

/// Frequencies by halves down to one tick a second, depths, and nothing.
fn steps(frequency: u32) -> Vec<Step> {
    let frequencies =
        std::iter::successors(Some(frequency.max(1)), |hz| (*hz > 1).then_some(hz / 2));
    let mut all: Vec<(u32, u32)> = frequencies.map(|hz| (hz, 0)).collect();
    all.extend(DEPTHS.map(|frames| (1, frames)));
    all.push((0, 0));
    let step = |(number, (frequency, user_frames)): (usize, (u32, u32))| Step {
        number: number as u32,
        frequency,
        user_frames,
    };
    all.into_iter().enumerate().map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn ladder(cpu_percent: f64) -> Ladder {
        Ladder::new(Limits { cpu_percent, memory: 100 << 20 }, 19, 2)
    }

    /// Runs windows whose cost is `fixed` plus `tick` for each tick of the step in force; gives the mean per cent of the
    /// machine over the windows after the first six, and the steps.
    fn run(ladder: &mut Ladder, fixed: f64, tick: f64, windows: usize) -> (f64, Vec<u32>) {
        let (mut spent, mut steps) = (0.0, Vec::new());
        for number in 0..windows {
            let step = ladder.step();
            let depth = if step.user_frames > 0 { 0.5 } else { 1.0 };
            let cpu = fixed + f64::from(step.frequency) * 20.0 * tick * depth;
            if number >= 6 {
                spent += cpu;
            }
            steps.push(step.number);
            let taken = Spent { cpu: Duration::from_secs_f64(cpu), memory: 1 << 20 };
            ladder.judge(&taken, WINDOW);
        }
        (100.0 * spent / (10.0 * 2.0 * (windows - 6) as f64), steps)
    }

    #[test]
    fn what_is_within_the_budget_is_sampled_in_full() {
        let (mean, steps) = run(&mut ladder(1.0), 0.01, 10e-6, 100);
        assert!(steps.iter().all(|step| *step == 0), "{steps:?} at {mean}");
    }

    #[test]
    fn a_load_that_needs_more_is_held_to_the_limit() {
        for (limit, fixed, tick) in
            [(0.05, 0.002, 100e-6), (0.05, 0.004, 1e-3), (1.0, 0.05, 1e-2), (0.05, 0.009, 0.01)]
        {
            let (mean, steps) = run(&mut ladder(limit), fixed, tick, 60);
            assert!(mean <= limit * 1.1, "{mean} of {limit}: {steps:?}");
            assert!(mean >= limit * 0.2, "{mean} of {limit} leaves too much unused: {steps:?}");
        }
    }

    #[test]
    fn what_starting_takes_is_not_paid_for_by_hours() {
        let mut ladder = ladder(0.05);
        let burst = Spent { cpu: Duration::from_secs(10), memory: 1 << 20 };
        ladder.judge(&burst, WINDOW);
        let (_, steps) = run(&mut ladder, 0.001, 1e-6, 100);
        let paying = steps.iter().take_while(|step| **step == steps[0]).count();
        assert!(steps[0] > 5 && (60..80).contains(&paying), "{steps:?}");
    }

    #[test]
    fn the_same_limits_again_forgive_nothing() {
        let mut ladder = ladder(0.05);
        ladder.judge(&Spent { cpu: Duration::from_secs(10), memory: 1 << 20 }, WINDOW);
        let owed = ladder.debt;
        ladder.change(ladder.limits, 19);
        assert_eq!(ladder.debt, owed);
        ladder.change(Limits { cpu_percent: 1.0, ..ladder.limits }, 19);
        assert_eq!(ladder.debt, 0.0);
    }

    #[test]
    fn it_comes_back_when_there_is_room() {
        let mut ladder = ladder(0.5);
        let (_, steps) = run(&mut ladder, 0.01, 5e-3, 20);
        assert!(*steps.last().expect("steps") > 0);
        let (_, steps) = run(&mut ladder, 0.001, 1e-6, 200);
        assert_eq!(steps.last(), Some(&0), "{steps:?}");
    }

    #[test]
    fn memory_over_its_limit_leads_down_to_nothing_and_back() {
        let mut ladder = ladder(1.0);
        let full = Spent { cpu: Duration::ZERO, memory: 99 << 20 };
        for _ in 0..20 {
            ladder.judge(&full, WINDOW);
        }
        assert_eq!(ladder.step().frequency, 0);
        for _ in 0..200 {
            ladder.judge(&Spent { cpu: Duration::ZERO, memory: 20 << 20 }, WINDOW);
        }
        assert_eq!(ladder.step().number, 0);
    }

    #[test]
    fn steps_lower_the_frequency_then_the_depth_then_stop() {
        let steps: Vec<_> =
            steps(19).iter().map(|step| (step.frequency, step.user_frames)).collect();
        assert_eq!(steps, [(19, 0), (9, 0), (4, 0), (2, 0), (1, 0), (1, 64), (1, 16), (0, 0)]);
    }
}
