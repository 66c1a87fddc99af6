//! Station 4: samples become a window of counted stacks, and the ledger learns of each.
//!
//! [`Aggregator`] gives every address its place in an executable, as mappings were
//! when the sample was taken, and stores identical stacks once. It never looks up a name.

mod sequence;

use std::sync::Arc;

use profile::{
    CaptureLedger, ExecutableId, FileAddr, Frame, Loss, StackEnd, Task, VirtAddr, Window,
    WindowFull,
};

use crate::events::RawSample;
use crate::processes::{AddressSpace, Executables, Identity};
use sequence::Sequences;

/// Counts samples.
#[derive(Debug)]
pub struct Aggregator {
    window: Window,
    ledger: CaptureLedger,
    sequences: Sequences,
    stack: Vec<Frame>,
}

impl Aggregator {
    /// Starts an empty window of at most about `bytes_max` bytes. `first`: the number of each CPU's first sample in it,
    /// indexed by CPU; 0 where it says nothing.
    pub fn new(bytes_max: usize, first: Vec<u64>) -> Self {
        Self {
            window: Window::new(bytes_max),
            ledger: CaptureLedger::default(),
            sequences: Sequences::new(first),
            stack: Vec::new(),
        }
    }

    /// Counts records that came and made no sense.
    pub fn malformed(&mut self, records: u64) {
        self.ledger.received += records;
        self.ledger.lost[Loss::Malformed as usize] += records;
    }

    /// Learns that a sample came. Samples of a CPU must be told in their order; they may be added in any.
    pub fn saw(&mut self, sample: &RawSample) {
        self.ledger.received += 1;
        self.sequences.saw(sample.cpu, sample.sequence);
    }

    /// Whether every sample that came has been added.
    pub fn is_settled(&self) -> bool {
        let lost = self.ledger.lost(Loss::Malformed) + self.ledger.lost(Loss::WindowFull);
        self.ledger.received == self.ledger.aggregated + lost
    }

    /// Whether there are samples that have not come, out of those below the numbers that each CPU gives next.
    pub fn misses(&self, emitted: &[u64]) -> bool {
        self.sequences.missing(emitted) > self.ledger.lost(Loss::Malformed)
    }

    /// Counts a sample. `process`: what is known of its process. `memory`: what was mapped when it
    /// was taken.
    ///
    /// # Errors
    /// When the window has no room for it; then it is counted as lost.
    pub fn add(
        &mut self,
        sample: &RawSample,
        process: &Identity,
        memory: &AddressSpace,
        executables: &Executables,
    ) -> Result<(), WindowFull> {
        self.stack.clear();
        self.stack.extend(kernel_frames(&sample.kernel));
        let (user_end, guessed) = self.push_user_frames(sample, memory, executables);

        let task = Task {
            pid: sample.pid,
            tid: sample.tid,
            comm: process.comm.as_ref().unwrap_or(&sample.comm).clone(),
            thread: sample.comm.clone(),
            cgroup_id: sample.cgroup_id,
            labels: Arc::clone(&process.labels),
        };
        let added = self.window.add(task, &self.stack, (sample.kernel_end, user_end), guessed);
        match added {
            Ok(()) => {
                self.ledger.aggregated += 1;
                self.ledger.kernel_ends[sample.kernel_end as usize] += 1;
                self.ledger.user_ends[user_end as usize] += 1;
                self.ledger.guessed += u64::from(guessed);
            }
            Err(WindowFull) => self.ledger.lost[Loss::WindowFull as usize] += 1,
        }
        added
    }

    /// Adds the user frames up to the first caller that is in no executable mapping: what a
    /// broken chain leads to is no frame. Gives why they end, and whether some are guessed.
    fn push_user_frames(
        &mut self,
        sample: &RawSample,
        memory: &AddressSpace,
        executables: &Executables,
    ) -> (StackEnd, bool) {
        let mut guessed = false;
        for (depth, frame) in sample.user.iter().enumerate() {
            match executables.resolve(memory, frame.lookup_address()) {
                Some(frame) => self.stack.push(frame),
                // Code ran there, whatever it is.
                None if depth == 0 => {
                    let address = FileAddr(frame.address.0);
                    self.stack.push(Frame { executable: ExecutableId::UNKNOWN, address });
                    return (StackEnd::NoMapping, guessed);
                }
                None => return (StackEnd::NoMapping, guessed),
            }
            guessed |= frame.is_guessed;
        }
        (sample.user_end, guessed)
    }

    /// The frames of the sample that was added last, innermost first.
    pub fn last_stack(&self) -> &[Frame] {
        &self.stack
    }

    /// Ends the window. `emitted`: the number of each CPU's next sample, indexed by CPU. The
    /// ledger still lacks what the sampler counted.
    pub fn finish(mut self, emitted: &[u64]) -> (Window, CaptureLedger) {
        // A record that made no sense came, although its number was not seen.
        let missing = self.sequences.missing(emitted);
        self.ledger.gaps = missing.saturating_sub(self.ledger.lost(Loss::Malformed));
        (self.window, self.ledger)
    }
}

/// Gives an address within the call that a return address comes back from.
fn in_call(return_address: VirtAddr) -> VirtAddr {
    VirtAddr(return_address.0.wrapping_sub(1))
}

fn kernel_frames(addresses: &[VirtAddr]) -> impl Iterator<Item = Frame> {
    addresses.iter().enumerate().map(|(depth, address)| {
        let inside = if depth == 0 { *address } else { in_call(*address) };
        Frame { executable: ExecutableId::KERNEL, address: FileAddr(inside.0) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Event, FileIdentity, MmapEvent, TimedEvent, UserFrame};
    use crate::processes::Processes;
    use profile::{Cpu, Pid, Tid};

    fn sample(kernel: &[u64], user: &[u64]) -> RawSample {
        let addresses = |all: &[u64]| all.iter().map(|a| VirtAddr(*a)).collect();
        RawSample {
            sequence: 0,
            cpu: Cpu(0),
            pid: Pid(7),
            tid: Tid(8),
            comm: "worker".into(),
            cgroup_id: 1,
            kernel: addresses(kernel),
            user: user.iter().enumerate().map(|(depth, a)| frame(depth, *a)).collect(),
            kernel_end: StackEnd::Complete,
            user_end: StackEnd::NoRow,
            snapshot: None,
        }
    }

    fn frame(depth: usize, address: u64) -> UserFrame {
        UserFrame { address: VirtAddr(address), is_exact: depth == 0, is_guessed: depth > 0 }
    }

    fn aggregate(sample: &RawSample) -> (Vec<u64>, StackEnd) {
        let mut processes = Processes::new(Executables::new(0, ""));
        let event = Event::Mmap(MmapEvent {
            pid: Pid(7),
            tid: Tid(7),
            start: VirtAddr(0x1000),
            end: VirtAddr(0x2000),
            offset: 0,
            file: FileIdentity::default(),
            path: "//anon".into(),
        });
        processes.apply(TimedEvent { time: 1, event });
        let mut aggregator = Aggregator::new(1 << 20, Vec::new());
        aggregator.saw(sample);
        let memory = processes.address_space(Pid(7));
        aggregator
            .add(sample, &Identity::default(), &memory, &processes.executables)
            .expect("room");
        let (window, _) = aggregator.finish(&[1]);
        let frames: Vec<u64> = window.frames().map(|frame| frame.address.0).collect();
        let end = window.samples().next().map(|(key, _)| key.user_end);
        (frames, end.expect("one sample"))
    }

    #[test]
    fn callers_point_into_their_call_and_leaves_at_their_instruction() {
        let (frames, end) = aggregate(&sample(&[0xffff_0010, 0xffff_0020], &[0x1100, 0x1200]));
        assert_eq!(frames, [0xffff_0010, 0xffff_001f, 0x1100, 0x11ff]);
        assert_eq!(end, StackEnd::NoRow);
    }

    #[test]
    fn a_return_address_outside_code_ends_the_stack_and_says_so() {
        let (frames, end) = aggregate(&sample(&[], &[0x1100, 0x9999, 0x1200]));
        assert_eq!((frames, end), (vec![0x1100], StackEnd::NoMapping));
    }

    #[test]
    fn a_call_at_the_very_end_of_a_mapping_belongs_to_it() {
        let (frames, _) = aggregate(&sample(&[], &[0x1100, 0x2000]));
        assert_eq!(frames, [0x1100, 0x1fff]);
    }

    #[test]
    fn code_in_unknown_memory_keeps_its_address() {
        let (frames, end) = aggregate(&sample(&[], &[0x5000]));
        assert_eq!((frames, end), (vec![0x5000], StackEnd::NoMapping));
    }
}
