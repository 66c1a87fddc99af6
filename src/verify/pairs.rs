//! Two streams tell of the same ticks; either may miss some, and either may be late.

use std::collections::{HashMap, VecDeque};

use profile::{Cpu, Tid};

/// Nanoseconds that a tick waits for its other half: a sample whose tables are still read is late.
const PATIENCE_NS: u64 = 20_000_000_000;
/// Halves that wait on one CPU; the oldest make room. Records of the deepest stacks are 64 KiB.
const WAITING_MAX: usize = 1024;

/// What tells a tick from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tick {
    pub cpu: Cpu,
    pub tid: Tid,
    /// The user instruction: from before a system call or an interrupt.
    pub ip: u64,
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
}

/// Halves of ticks that have not met yet.
#[derive(Debug)]
pub(super) struct Pairs<L, R> {
    /// Nanoseconds that the two halves of a tick can be apart.
    apart_max: u64,
    lefts: Waiting<L>,
    rights: Waiting<R>,
}

#[derive(Debug)]
struct Waiting<T>(HashMap<Cpu, VecDeque<(Tick, T)>>);

impl<L, R> Pairs<L, R> {
    /// Knows none yet.
    pub fn new(apart_max: u64) -> Self {
        Self { apart_max, lefts: Waiting(HashMap::new()), rights: Waiting(HashMap::new()) }
    }

    /// Takes a left half; gives the pair if the right one was there.
    pub fn left(&mut self, tick: Tick, left: L) -> Option<(L, R)> {
        match self.rights.take(tick, self.apart_max) {
            Some(right) => Some((left, right)),
            None => {
                self.lefts.add(tick, left);
                None
            }
        }
    }

    /// Takes a right half; gives the pair if the left one was there.
    pub fn right(&mut self, tick: Tick, right: R) -> Option<(L, R)> {
        match self.lefts.take(tick, self.apart_max) {
            Some(left) => Some((left, right)),
            None => {
                self.rights.add(tick, right);
                None
            }
        }
    }
}

impl<T> Waiting<T> {
    fn add(&mut self, tick: Tick, half: T) {
        let waiting = self.0.entry(tick.cpu).or_default();
        let is_old = |(old, _): &(Tick, T)| old.time.saturating_add(PATIENCE_NS) < tick.time;
        while waiting.len() >= WAITING_MAX || waiting.front().is_some_and(is_old) {
            waiting.pop_front();
        }
        waiting.push_back((tick, half));
    }

    /// Takes out the half of this tick: of those that could be, the nearest in time.
    fn take(&mut self, tick: Tick, apart_max: u64) -> Option<T> {
        let waiting = self.0.get_mut(&tick.cpu)?;
        let apart = |other: &Tick| other.time.abs_diff(tick.time);
        let is_it = |other: &Tick| {
            (other.tid, other.ip) == (tick.tid, tick.ip) && apart(other) <= apart_max
        };
        let candidates = waiting.iter().enumerate().filter(|(_, (other, _))| is_it(other));
        let (place, _) = candidates.min_by_key(|(_, (other, _))| apart(other))?;
        waiting.remove(place).map(|(_, half)| half)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(cpu: u32, tid: u32, ip: u64, time: u64) -> Tick {
        Tick { cpu: Cpu(cpu), tid: Tid(tid), ip, time }
    }

    #[test]
    fn halves_meet_in_either_order() {
        let mut pairs = Pairs::new(10);
        assert_eq!(pairs.left(tick(0, 1, 5, 100), 'a'), None);
        assert_eq!(pairs.right(tick(0, 1, 5, 103), 'A'), Some(('a', 'A')));
        assert_eq!(pairs.right(tick(0, 1, 5, 203), 'B'), None);
        assert_eq!(pairs.left(tick(0, 1, 5, 200), 'b'), Some(('b', 'B')));
        assert_eq!(pairs.left(tick(0, 1, 5, 103), 'c'), None, "a half is used once");
    }

    #[test]
    fn another_cpu_thread_instruction_or_time_is_another_tick() {
        let mut pairs = Pairs::new(10);
        pairs.left(tick(0, 1, 5, 100), ());
        for other in
            [tick(1, 1, 5, 100), tick(0, 2, 5, 100), tick(0, 1, 6, 100), tick(0, 1, 5, 111)]
        {
            assert_eq!(pairs.right(other, ()), None, "{other:?}");
        }
    }

    #[test]
    fn what_waited_too_long_is_given_up() {
        let mut pairs = Pairs::new(u64::MAX);
        pairs.left(tick(0, 1, 5, 100), 'a');
        pairs.left(tick(0, 1, 5, 101 + PATIENCE_NS), 'b');
        assert_eq!(pairs.right(tick(0, 1, 5, 100), 'A'), Some(('b', 'A')));
    }

    #[test]
    fn a_missing_half_does_not_shift_those_behind_it() {
        let mut pairs = Pairs::new(40);
        for time in [100, 200, 300] {
            pairs.left(tick(0, 1, 5, time), time);
        }
        assert_eq!(pairs.right(tick(0, 1, 5, 301), 'C'), Some((300, 'C')));
        assert_eq!(pairs.right(tick(0, 1, 5, 101), 'A'), Some((100, 'A')));
    }
}
