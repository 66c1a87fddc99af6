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

    /// Takes the events up to a time, in order. Process events, and what a tick has recorded of an
    /// interpreter, come before samples of the same time.
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
    use crate::events::{CodeRecord, CodeText, ExitEvent, InterpreterStack, RawSample};
    use crate::kernel::abi::{InterpreterEnd, RuntimeKind};
    use profile::{Cpu, Pid, StackEnd, Tid, VirtAddr};

    fn event_at(time: u64) -> TimedEvent {
        let event = Event::Exit(ExitEvent { pid: Pid(time as u32), tid: Tid(1) });
        TimedEvent { time, event }
    }

    /// Returns a sample, its interpreter frames, and a code object of them.
    fn events_of_tick(time: u64) -> [TimedEvent; 3] {
        let (sequence, cpu, pid, runtime) = (1, Cpu(0), Pid(2), RuntimeKind::Cpython);
        let sample = RawSample {
            sequence,
            cpu,
            pid,
            tid: Tid(2),
            comm: "python3".into(),
            cgroup_id: 0,
            kernel: Box::default(),
            user: Box::default(),
            kernel_end: StackEnd::Absent,
            user_end: StackEnd::Absent,
            snapshot: None,
        };
        let (frames, end) = (Box::default(), InterpreterEnd::Complete);
        let stack = InterpreterStack { sequence, cpu, pid, runtime, frames, end };
        let text = CodeText { bytes: Box::default(), width: 0, length: 0 };
        let code = CodeRecord {
            pid,
            runtime,
            code: VirtAddr(0x1000),
            fingerprint: 1,
            first_line: 1,
            name: text.clone(),
            file: text,
            lines: Box::default(),
            lines_length: 0,
        };
        let events = [
            Event::Sample(Box::new(sample)),
            Event::Interpreter(Box::new(stack)),
            Event::CodeObject(Box::new(code)),
        ];
        events.map(|event| TimedEvent { time, event })
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
    fn records_of_an_interpreter_come_before_the_sample_of_their_tick() {
        let mut order = Orderer::default();
        let [sample, stack, code] = events_of_tick(10);
        order.add([sample.clone(), code.clone(), stack.clone(), event_at(10)]);
        let events: Vec<TimedEvent> = order.take_until(u64::MAX).collect();
        assert_eq!(events, [code, stack, event_at(10), sample]);
    }

    #[test]
    fn recent_events_are_held_back() {
        let mut order = Orderer::default();
        order.add([event_at(10), event_at(11)]);
        assert_eq!(times(order.take_until(10)), [10]);
        assert_eq!(times(order.take_until(u64::MAX)), [11]);
    }
}
