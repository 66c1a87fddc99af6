//! The ladder with simulated causes of cost.

use super::*;
use crate::budget::CpuByCause;

const MIB: u64 = 1 << 20;

/// A machine of two CPUs with an agent whose cost follows from its rate.
struct Machine {
    ladder: Ladder,
    /// Length of a window in seconds.
    window: f64,
    /// CPU seconds of a tick.
    tick: f64,
    /// CPU seconds per second of the reader, whatever the rate.
    fixed: f64,
    /// CPU seconds per second of other causes.
    others: Vec<(Cause, f64)>,
    memory: u64,
}

impl Machine {
    fn new(cpu_percent: f64, frequency: u32, window: f64) -> Self {
        let limits = BudgetLimits { cpu_percent, memory: 100 * MIB };
        let ladder = Ladder::new(limits, frequency, 2);
        let allowed = ladder.allowed();
        Self {
            ladder,
            window,
            tick: allowed * 0.2 / f64::from(frequency * 2),
            fixed: allowed * 0.1,
            others: Vec::new(),
            memory: MIB,
        }
    }

    /// Returns the CPU seconds per second of what follows from the rate.
    fn following_rate(&self) -> f64 {
        self.fixed + f64::from(self.ladder.rate().frequency * 2) * self.tick
    }

    /// Runs a window. Returns its assessment.
    fn run_window(&mut self) -> Assessment {
        let seconds = |rate: f64| Duration::from_secs_f64(rate * self.window);
        let mut cpu = CpuByCause::default();
        cpu[Cause::Sampling] = seconds(self.fixed + 0.2 * (self.following_rate() - self.fixed));
        cpu[Cause::Stacks] = seconds(0.8 * (self.following_rate() - self.fixed));
        self.others.iter().for_each(|(cause, rate)| cpu[*cause] += seconds(*rate));
        let cpu_per_tick = Duration::from_secs_f64(self.tick);
        let usage = ResourceUsage { cpu, cpu_per_tick, memory: self.memory };
        let in_force = self.ladder.rate().frequency;
        self.ladder.assess(&usage, Duration::from_secs_f64(self.window), in_force)
    }

    /// Runs for a time. Returns the frequencies.
    fn run(&mut self, seconds: f64) -> Vec<u32> {
        let windows = (seconds / self.window).ceil() as u32;
        (0..windows).map(|_| self.run_window().rate.frequency).collect()
    }

    /// Runs until the full rate is in force. Returns the seconds that it took.
    fn recover(&mut self) -> f64 {
        let full = self.ladder.full_frequency;
        let mut seconds = 0.0;
        while self.ladder.rate().frequency < full {
            assert!(seconds < 300.0, "{:?}", self.ladder);
            self.run_window();
            seconds += self.window;
        }
        seconds
    }
}

/// Every budget, frequency and length of a window that the tests try.
fn machines() -> impl Iterator<Item = Machine> {
    let settings = [0.02, 0.3, 1.0].into_iter().flat_map(|cpu_percent| {
        [1, 19, 99, 999].into_iter().map(move |frequency| (cpu_percent, frequency))
    });
    settings.flat_map(|(cpu_percent, frequency)| {
        [1.0, 7.0, 10.0].map(|window| Machine::new(cpu_percent, frequency, window))
    })
}

#[test]
fn quiet_machine_stays_at_the_full_rate() {
    for mut machine in machines() {
        let full = machine.ladder.full_frequency;
        assert!(machine.run(600.0).iter().all(|frequency| *frequency == full));
    }
}

#[test]
fn no_cost_takes_the_last_hertz_and_the_full_rate_is_back_within_a_minute() {
    for mut machine in machines() {
        let (tick, fixed) = (machine.tick, machine.fixed);
        for (tick_factor, fixed_factor) in [(1e4, 1.0), (100.0, 1.0), (8.0, 1.0), (1.0, 1e3)] {
            (machine.tick, machine.fixed) = (tick * tick_factor, fixed * fixed_factor);
            let frequencies = machine.run(3600.0);
            assert!(frequencies.iter().all(|frequency| *frequency >= 1));
            let owed = machine.ladder.debt / machine.ladder.allowed();
            assert!(owed <= DEBT_MAX.as_secs_f64() + 1e-6, "{owed} s of the budget are owed");
            (machine.tick, machine.fixed) = (tick, fixed);
            // The window in which the cause ends counts for it.
            let seconds = machine.recover() + machine.window;
            assert!(seconds < 60.0, "{seconds} s after {tick_factor} x: {:?}", machine.ladder);
        }
    }
}

#[test]
fn mean_stays_within_the_budget() {
    for mut machine in machines().filter(|machine| machine.ladder.full_frequency >= 19) {
        machine.tick *= 12.0;
        machine.run(60.0); // the credit of the start
        let (mut sum, mut changes, windows) = (0.0, 0, (3600.0 / machine.window) as u32);
        for _ in 0..windows {
            sum += machine.following_rate();
            changes += u32::from(machine.run_window().has_changed);
        }
        let mean = sum / f64::from(windows) / machine.ladder.allowed();
        assert!(mean <= 1.05, "{mean} of the budget: {:?}", machine.ladder);
        assert!(mean >= 0.2, "{mean} of the budget are used: {:?}", machine.ladder);
        assert!(changes <= 120, "{changes} changes an hour: {:?}", machine.ladder);
    }
}

#[test]
fn other_causes_never_lower_a_rate_within_its_share() {
    let others = Cause::ALL.into_iter().filter(|cause| !cause.follows_rate());
    for cause in others {
        for mut machine in machines() {
            let full = machine.ladder.full_frequency;
            machine.others = vec![(cause, 2.0)]; // both CPUs
            assert!(machine.run(600.0).iter().all(|frequency| *frequency == full), "{cause:?}");
        }
    }
}

#[test]
fn rate_takes_what_others_leave_and_no_more() {
    let mut machine = Machine::new(1.0, 99, 10.0);
    machine.tick *= 3.5; // 80 % of the budget with the fixed part
    assert!(machine.run(600.0).iter().all(|frequency| *frequency == 99));
    machine.others = vec![(Cause::Names, 0.4 * machine.ladder.allowed())];
    let frequencies = machine.run(600.0);
    assert!(frequencies.contains(&49), "{frequencies:?}");
    assert!(frequencies.iter().all(|frequency| *frequency >= 24), "{frequencies:?}");
}

#[test]
fn lowering_names_the_cause_that_took_most_of_its_share() {
    let mut machine = Machine::new(1.0, 19, 10.0);
    machine.tick *= 1000.0;
    let mut assessment = machine.run_window();
    while assessment.lowered.is_none() {
        assessment = machine.run_window();
    }
    assert_eq!(assessment.rate.lowered, Some(NotSampled::Budget));
    let text = assessment.lowered.expect("it is lowered").to_string();
    assert!(text.starts_with("stacks finished in user space took "), "{text}");
    assert!(text.ends_with(" % of total CPU capacity"), "{text}");
}

#[test]
fn rate_is_lowered_for_its_own_causes_only() {
    let mut ladder = Machine::new(1.0, 99, 10.0).ladder;
    ladder.debt = 0.0;
    // Of 200 ms in 10 s, 90 are the share of what follows from the rate.
    let lowered_for = |sampling: u64, stacks: u64, names: u64| {
        let mut cpu = CpuByCause::default();
        cpu[Cause::Sampling] = Duration::from_millis(sampling);
        cpu[Cause::Stacks] = Duration::from_millis(stacks);
        cpu[Cause::Names] = Duration::from_millis(names);
        let usage = ResourceUsage { cpu, ..ResourceUsage::default() };
        let assessment = ladder.clone().assess(&usage, Duration::from_secs(10), 99);
        assessment.lowered.map(|lowered| lowered.cause_text())
    };
    assert_eq!(lowered_for(30, 70, 500), Some("stacks"));
    assert_eq!(lowered_for(30, 70, 50), None, "150 ms are left by the others");
    assert_eq!(lowered_for(40, 49, 500), None, "within their share");
}

#[test]
fn choice_that_is_not_in_force_yet_stays() {
    let mut machine = Machine::new(1.0, 99, 10.0);
    machine.tick *= 30.0;
    machine.run(60.0);
    let chosen = machine.ladder.rate().frequency;
    assert!((2..99).contains(&chosen), "{chosen}");
    let mut cpu = CpuByCause::default();
    cpu[Cause::Stacks] = Duration::from_secs(5);
    let usage = ResourceUsage { cpu, ..ResourceUsage::default() };
    for _ in 0..10 {
        let assessment = machine.ladder.assess(&usage, Duration::from_secs(10), 99);
        assert!(assessment.has_changed && assessment.rate.frequency == chosen, "{assessment:?}");
    }
}

#[test]
fn percentages_have_two_digits() {
    let text = |percent| Lowered::Cpu { cause: Cause::Names, percent }.to_string();
    assert_eq!(text(1.28), "symbolizing took 1.3 % of total CPU capacity");
    assert_eq!(text(0.0128), "symbolizing took 0.013 % of total CPU capacity");
    assert_eq!(text(43.2), "symbolizing took 43 % of total CPU capacity");
}

#[test]
fn memory_lowers_the_rate_to_one_hertz_and_back() {
    let mut machine = Machine::new(1.0, 19, 10.0);
    machine.memory = 99 * MIB;
    assert_eq!(machine.run(100.0)[..5], [9, 4, 2, 1, 1]);
    assert_eq!(machine.ladder.rate().lowered, Some(NotSampled::Memory));
    let text = machine.run_window().lowered.expect("it is lowered").to_string();
    assert_eq!(text, "99 of 100 MiB of memory were in use");
    for memory in [20 * MIB, 94 * MIB] {
        let mut later = Machine { ladder: machine.ladder.clone(), memory, ..machine };
        let seconds = later.recover();
        assert!(seconds < 60.0, "{seconds} s with {memory} bytes");
        machine = Machine { memory: 99 * MIB, ..later };
        machine.run(100.0);
    }
}

#[test]
fn debt_survives_a_reload_with_the_same_limits() {
    let mut machine = Machine::new(0.05, 19, 10.0);
    machine.tick *= 1000.0;
    machine.run(100.0);
    let (debt, limits) = (machine.ladder.debt, machine.ladder.limits);
    machine.ladder.set_limits(limits, 19);
    assert!(debt > 0.0 && machine.ladder.debt == debt);
    machine.ladder.set_limits(BudgetLimits { cpu_percent: 1.0, ..limits }, 19);
    assert_eq!(machine.ladder.debt, 0.0);
}

#[test]
fn lowered_rate_stays_as_low_when_the_frequency_is_changed() {
    let mut machine = Machine::new(0.05, 99, 10.0);
    machine.tick *= 1000.0;
    machine.run(100.0);
    let limits = machine.ladder.limits;
    assert_eq!(machine.ladder.rate().frequency, 1);
    machine.ladder.set_limits(limits, 999);
    assert_eq!(machine.ladder.rate().frequency, 1);
    machine.ladder.set_limits(limits, 1);
    let rate = machine.ladder.rate();
    assert_eq!((rate.frequency, rate.lowered), (1, None));
}
