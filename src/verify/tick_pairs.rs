//! Pairs the records of two streams about the same ticks. Either stream may miss ticks or be late.

use std::collections::{HashMap, VecDeque};

use profile::{Cpu, Tid};

/// Nanoseconds that a record waits for its counterpart: a sample is late while its tables are read.
const WAIT_MAX_NS: u64 = 20_000_000_000;
/// Records waiting per CPU; the oldest are evicted. Those of the deepest stacks are 64 KiB.
const WAITING_MAX: usize = 1024;

/// What identifies a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tick {
    pub cpu: Cpu,
    pub tid: Tid,
    /// The user instruction, from before a system call or an interrupt.
    pub ip: u64,
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
}

/// Records that wait for their counterpart.
#[derive(Debug)]
pub(super) struct TickPairs<L, R> {
    /// Nanoseconds between the two records of a tick at most.
    distance_max: u64,
    lefts: Waiting<L>,
    rights: Waiting<R>,
}

#[derive(Debug)]
struct Waiting<T>(HashMap<Cpu, VecDeque<(Tick, T)>>);

impl<L, R> TickPairs<L, R> {
    pub fn new(distance_max: u64) -> Self {
        Self { distance_max, lefts: Waiting(HashMap::new()), rights: Waiting(HashMap::new()) }
    }

    /// Adds a left record; returns the pair if the right one is there.
    pub fn add_left(&mut self, tick: Tick, left: L) -> Option<(L, R)> {
        match self.rights.take(tick, self.distance_max) {
            Some(right) => Some((left, right)),
            None => {
                self.lefts.add(tick, left);
                None
            }
        }
    }

    /// Adds a right record; returns the pair if the left one is there.
    pub fn add_right(&mut self, tick: Tick, right: R) -> Option<(L, R)> {
        match self.lefts.take(tick, self.distance_max) {
            Some(left) => Some((left, right)),
            None => {
                self.rights.add(tick, right);
                None
            }
        }
    }
}

impl<T> Waiting<T> {
    fn add(&mut self, tick: Tick, record: T) {
        let waiting = self.0.entry(tick.cpu).or_default();
        let is_old = |(old, _): &(Tick, T)| old.time.saturating_add(WAIT_MAX_NS) < tick.time;
        while waiting.len() >= WAITING_MAX || waiting.front().is_some_and(is_old) {
            waiting.pop_front();
        }
        waiting.push_back((tick, record));
    }

    /// Removes the record of a tick: of those that match, the nearest in time.
    fn take(&mut self, tick: Tick, distance_max: u64) -> Option<T> {
        let waiting = self.0.get_mut(&tick.cpu)?;
        let distance = |other: &Tick| other.time.abs_diff(tick.time);
        let matches = |other: &Tick| {
            (other.tid, other.ip) == (tick.tid, tick.ip) && distance(other) <= distance_max
        };
        let candidates = waiting.iter().enumerate().filter(|(_, (other, _))| matches(other));
        let (index, _) = candidates.min_by_key(|(_, (other, _))| distance(other))?;
        waiting.remove(index).map(|(_, record)| record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(cpu: u32, tid: u32, ip: u64, time: u64) -> Tick {
        Tick { cpu: Cpu(cpu), tid: Tid(tid), ip, time }
    }

    #[test]
    fn pairs_records_in_either_order() {
        let mut pairs = TickPairs::new(10);
        assert_eq!(pairs.add_left(tick(0, 1, 5, 100), 'a'), None);
        assert_eq!(pairs.add_right(tick(0, 1, 5, 103), 'A'), Some(('a', 'A')));
        assert_eq!(pairs.add_right(tick(0, 1, 5, 203), 'B'), None);
        assert_eq!(pairs.add_left(tick(0, 1, 5, 200), 'b'), Some(('b', 'B')));
        assert_eq!(pairs.add_left(tick(0, 1, 5, 103), 'c'), None, "a record is used once");
    }

    #[test]
    fn keeps_ticks_apart_by_cpu_thread_ip_and_time() {
        let mut pairs = TickPairs::new(10);
        pairs.add_left(tick(0, 1, 5, 100), ());
        for other in
            [tick(1, 1, 5, 100), tick(0, 2, 5, 100), tick(0, 1, 6, 100), tick(0, 1, 5, 111)]
        {
            assert_eq!(pairs.add_right(other, ()), None, "{other:?}");
        }
    }

    #[test]
    fn evicts_records_that_waited_too_long() {
        let mut pairs = TickPairs::new(u64::MAX);
        pairs.add_left(tick(0, 1, 5, 100), 'a');
        pairs.add_left(tick(0, 1, 5, 101 + WAIT_MAX_NS), 'b');
        assert_eq!(pairs.add_right(tick(0, 1, 5, 100), 'A'), Some(('b', 'A')));
    }

    #[test]
    fn missing_record_does_not_shift_later_pairs() {
        let mut pairs = TickPairs::new(40);
        for time in [100, 200, 300] {
            pairs.add_left(tick(0, 1, 5, time), time);
        }
        assert_eq!(pairs.add_right(tick(0, 1, 5, 301), 'C'), Some((300, 'C')));
        assert_eq!(pairs.add_right(tick(0, 1, 5, 101), 'A'), Some((100, 'A')));
    }
}
