//! Stage 1, order: merges the events of all rings by time.

use crate::events::{Event, TimedEvent};

/// Holds events back until no older one can arrive.
#[derive(Debug, Default)]
pub(super) struct Orderer {
    pending: Vec<TimedEvent>,
}

impl Orderer {
    /// Adds events in any order.
    pub fn add(&mut self, events: impl IntoIterator<Item = TimedEvent>) {
        self.pending.extend(events);
    }

    /// Takes the events up to a time, in order. Process events come before samples of the same
    /// time.
    ///
    /// `complete_until`: no event up to this time can arrive any more.
    pub fn take_until(&mut self, complete_until: u64) -> impl Iterator<Item = TimedEvent> + use<> {
        self.pending.sort_by_key(|timed| (timed.time, matches!(timed.event, Event::Sample(_))));
        let complete = self.pending.partition_point(|timed| timed.time <= complete_until);
        self.pending.drain(..complete).collect::<Vec<_>>().into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::ExitEvent;
    use profile::{Pid, Tid};

    fn event_at(time: u64) -> TimedEvent {
        let event = Event::Exit(ExitEvent { pid: Pid(time as u32), tid: Tid(1) });
        TimedEvent { time, event }
    }

    fn times(events: impl Iterator<Item = TimedEvent>) -> Vec<u64> {
        events.map(|timed| timed.time).collect()
    }

    #[test]
    fn events_of_two_rings_are_merged_by_time() {
        let mut order = Orderer::default();
        order.add([event_at(10), event_at(30)]);
        order.add([event_at(20), event_at(5)]);
        assert_eq!(times(order.take_until(u64::MAX)), [5, 10, 20, 30]);
    }

    #[test]
    fn recent_events_are_held_back() {
        let mut order = Orderer::default();
        order.add([event_at(10), event_at(11)]);
        assert_eq!(times(order.take_until(10)), [10]);
        assert_eq!(times(order.take_until(u64::MAX)), [11]);
    }
}
