//! Merges what several rings hold into the order of time.

use super::Event;

/// An event and when it happened, nanoseconds of CLOCK_MONOTONIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedEvent {
    /// When.
    pub time: u64,
    /// What.
    pub event: Event,
}

/// Holds events back until nothing older can come.
///
/// A record becomes visible a little after the time it bears: the kernel may have been
/// interrupted while writing it. So the order of the last [`Orderer::SLACK_NS`] is not
/// known yet.
#[derive(Debug, Default)]
pub struct Orderer {
    waiting: Vec<TimedEvent>,
}

impl Orderer {
    /// Nanoseconds that a record may be late.
    pub const SLACK_NS: u64 = 5_000_000;

    /// Takes events in any order.
    pub fn add(&mut self, events: impl IntoIterator<Item = TimedEvent>) {
        self.waiting.extend(events);
    }

    /// Gives, in order, all that is surely complete when the rings were empty at `drained`.
    /// Process events come before samples of the same time.
    pub fn ready(&mut self, drained: u64) -> impl Iterator<Item = TimedEvent> + use<> {
        self.take(drained.saturating_sub(Self::SLACK_NS))
    }

    /// Gives all that is left, in order.
    pub fn finish(&mut self) -> impl Iterator<Item = TimedEvent> + use<> {
        self.take(u64::MAX)
    }

    fn take(&mut self, until: u64) -> std::vec::IntoIter<TimedEvent> {
        self.waiting.sort_by_key(|timed| (timed.time, matches!(timed.event, Event::Sample(_))));
        let ready = self.waiting.partition_point(|timed| timed.time <= until);
        self.waiting.drain(..ready).collect::<Vec<_>>().into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::ForkEvent;
    use profile::Pid;

    fn at(time: u64) -> TimedEvent {
        let event = Event::Fork(ForkEvent { pid: Pid(time as u32), parent: Pid(1) });
        TimedEvent { time, event }
    }

    #[test]
    fn events_of_two_rings_come_in_the_order_of_time() {
        let mut order = Orderer::default();
        order.add([at(10), at(30)]);
        order.add([at(20), at(5)]);
        let times: Vec<u64> = order.finish().map(|timed| timed.time).collect();
        assert_eq!(times, [5, 10, 20, 30]);
    }

    #[test]
    fn what_may_still_be_overtaken_waits() {
        let mut order = Orderer::default();
        order.add([at(10), at(11)]);
        let ready: Vec<u64> = order.ready(10 + Orderer::SLACK_NS).map(|timed| timed.time).collect();
        assert_eq!(ready, [10]);
        assert_eq!(order.finish().count(), 1);
    }
}
