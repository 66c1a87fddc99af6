//! Adds samples to a window of counted stacks, and to its ledger.
//!
//! [`Aggregator`] turns every address into an executable and an address in it, by the mappings at
//! the time of the sample, and stores identical stacks once. It never looks up a symbol.

mod sequences;
mod weaver;

use std::sync::Arc;

use profile::{
    CaptureLedger, ExecutableId, FileAddr, Frame, Loss, StackEnd, Task, VirtAddr, Window,
    WindowFull,
};

use crate::events::RawSample;
use crate::processes::{AddressSpace, Identity, InterpretedStack, Processes};
use sequences::Sequences;
use weaver::Weaver;

/// Limits of a window, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct WindowLimits {
    /// The counted stacks, about.
    pub stacks: usize,
    /// The times of samples; 0 if they are not kept.
    pub times: usize,
}

/// The limits of a window without times.
impl From<usize> for WindowLimits {
    fn from(stacks: usize) -> Self {
        Self { stacks, times: 0 }
    }
}

/// A window that is being filled.
#[derive(Debug)]
pub struct Aggregator {
    window: Window,
    ledger: CaptureLedger,
    sequences: Sequences,
    /// The stack of the last sample, kept for its allocation.
    stack: Vec<Frame>,
}

impl Aggregator {
    /// Starts an empty window. `first`: the number of each CPU's first sample in it, indexed by
    /// CPU; 0 for CPUs beyond its end.
    pub fn new(limits: impl Into<WindowLimits>, first: Vec<u64>) -> Self {
        let WindowLimits { stacks, times } = limits.into();
        let mut window = Window::new(stacks);
        if times > 0 {
            window.keep_times(times);
        }
        Self {
            window,
            ledger: CaptureLedger::default(),
            sequences: Sequences::new(first),
            stack: Vec::new(),
        }
    }

    /// Counts records that arrived but could not be parsed.
    pub fn count_malformed(&mut self, records: u64) {
        self.ledger.received += records;
        self.ledger.lost[Loss::Malformed as usize] += records;
    }

    /// Counts a sample that has arrived. Those of a CPU are registered in order; [`Self::add`] may
    /// follow in any.
    pub fn register(&mut self, sample: &RawSample) {
        self.ledger.received += 1;
        self.sequences.record(sample.cpu, sample.sequence);
    }

    /// Whether every registered sample has been added.
    pub fn is_settled(&self) -> bool {
        let lost = self.ledger.lost(Loss::Malformed) + self.ledger.lost(Loss::WindowFull);
        self.ledger.received == self.ledger.aggregated + lost
    }

    /// Whether samples have not arrived yet. `next`: the number of each CPU's next sample, indexed
    /// by CPU.
    pub fn is_missing_samples(&self, next: &[u64]) -> bool {
        self.sequences.missing(next) > self.ledger.lost(Loss::Malformed)
    }

    /// Adds a sample. `time`: nanoseconds of CLOCK_MONOTONIC; `process` and `memory`: its process
    /// and mappings at this time; `interpreted`: what an interpreter runs in it; `processes`: names
    /// its frames in code of JIT compilers.
    ///
    /// # Errors
    /// When the sample does not fit into the window; it is counted as lost then.
    pub fn add(
        &mut self,
        time: u64,
        sample: &RawSample,
        process: &Identity,
        memory: &AddressSpace,
        interpreted: Option<&InterpretedStack>,
        processes: &mut Processes,
    ) -> Result<(), WindowFull> {
        self.stack.clear();
        let kernel = kernel_frames(&sample.kernel);
        self.stack.extend(kernel.map(|frame| processes.name_kernel_code(frame, time)));
        let mut weaver = Weaver::new(interpreted, sample, processes);
        let (end, guessed) = self.push_user_frames(time, sample, memory, processes, &mut weaver);
        weaver.push_rest(&mut self.stack);
        let end = weaver.end(end);
        let is_unread = end == StackEnd::NoMapping && memory.is_incomplete();
        let user_end = if is_unread { StackEnd::MappingsUnread } else { end };

        let task = Task {
            pid: sample.pid,
            tid: sample.tid,
            comm: process.comm.as_ref().unwrap_or(&sample.comm).clone(),
            thread: process.thread.as_ref().unwrap_or(&sample.comm).clone(),
            cgroup_id: sample.cgroup_id,
            labels: Arc::clone(&process.labels),
        };
        let added = self.window.add(task, &self.stack, (sample.kernel_end, user_end), guessed);
        match added {
            Ok(id) => {
                self.window.add_time(id, time, sample.cpu);
                self.ledger.aggregated += 1;
                self.ledger.kernel_ends[sample.kernel_end as usize] += 1;
                let counted = user_end.with_guesses(guessed);
                self.ledger.user_ends[counted as usize] += 1;
                self.ledger.guessed += u64::from(guessed);
            }
            Err(WindowFull) => self.ledger.lost[Loss::WindowFull as usize] += 1,
        }
        added.map(|_| ())
    }

    /// Adds the user frames up to the first caller outside every executable mapping: a broken chain
    /// of callers has led there. Returns why the frames end, and whether some are guessed.
    fn push_user_frames(
        &mut self,
        time: u64,
        sample: &RawSample,
        memory: &AddressSpace,
        processes: &mut Processes,
        weaver: &mut Weaver,
    ) -> (StackEnd, bool) {
        let mut guessed = false;
        for (depth, frame) in sample.user.iter().enumerate() {
            let address = frame.lookup_address();
            weaver.push_inside(depth, &mut self.stack);
            match processes.executables.resolve(memory, address) {
                Some(frame) => {
                    let task = (sample.pid, sample.tid);
                    let frame = processes.name_jit_code(frame, task, address, time);
                    self.stack.push(weaver.marked(frame));
                }
                // The thread was executing there, so it is code.
                None if depth == 0 => {
                    let address = FileAddr(frame.address.0);
                    self.stack.push(Frame::new(ExecutableId::UNKNOWN, address));
                    return (StackEnd::NoMapping, guessed);
                }
                None => return (StackEnd::NoMapping, guessed),
            }
            guessed |= frame.is_guessed;
        }
        (sample.user_end, guessed)
    }

    /// Returns the frames of the sample added last, innermost first.
    pub fn last_stack(&self) -> &[Frame] {
        &self.stack
    }

    /// Ends the window. `next`: the number of each CPU's next sample, indexed by CPU. The ledger
    /// still lacks what the sampler counted.
    pub fn finish(mut self, next: &[u64]) -> (Window, CaptureLedger) {
        // A malformed record has arrived, although its number was not seen.
        let missing = self.sequences.missing(next);
        self.ledger.gaps = missing.saturating_sub(self.ledger.lost(Loss::Malformed));
        (self.window, self.ledger)
    }
}

/// Returns an address within the call instruction before a return address.
fn in_call(return_address: VirtAddr) -> VirtAddr {
    VirtAddr(return_address.0.wrapping_sub(1))
}

fn kernel_frames(addresses: &[VirtAddr]) -> impl Iterator<Item = Frame> {
    addresses.iter().enumerate().map(|(depth, address)| {
        let inside = if depth == 0 { *address } else { in_call(*address) };
        Frame::new(ExecutableId::KERNEL, FileAddr(inside.0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{CommEvent, Event, FileIdentity, MmapEvent, TimedEvent, UserFrame};
    use crate::processes::Executables;
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

    /// Returns processes of which one maps a page of code at 0x1000.
    fn processes() -> Processes {
        let mut processes = Processes::new(Executables::new(0, 1 << 20, ""));
        let event = Event::Mmap(MmapEvent {
            pid: Pid(7),
            tid: Tid(7),
            start: VirtAddr(0x1000),
            end: VirtAddr(0x2000),
            offset: 0,
            file: FileIdentity::default(),
            path: "//anon".into(),
        });
        let (pid, tid, comm) = (Pid(7), Tid(7), "exec".into());
        let exec = Event::Comm(CommEvent { pid, tid, comm, is_exec: true });
        processes.apply(TimedEvent { time: 1, event: exec });
        processes.apply(TimedEvent { time: 1, event });
        processes
    }

    fn aggregate(sample: &RawSample) -> (Vec<u64>, StackEnd) {
        let mut processes = processes();
        let mut aggregator = Aggregator::new(1usize << 20, Vec::new());
        aggregator.register(sample);
        let memory = processes.address_space(Pid(7));
        aggregator
            .add(1, sample, &Identity::default(), &memory, None, &mut processes)
            .expect("a window with space");
        let (window, _) = aggregator.finish(&[1]);
        let frames: Vec<u64> = window.frames().map(|frame| frame.address.0).collect();
        let end = window.samples().next().map(|(key, _)| key.user_end);
        (frames, end.expect("one sample"))
    }

    #[test]
    fn callers_resolve_inside_their_call_instruction() {
        let (frames, end) = aggregate(&sample(&[0xffff_0010, 0xffff_0020], &[0x1100, 0x1200]));
        assert_eq!(frames, [0xffff_0010, 0xffff_001f, 0x1100, 0x11ff]);
        assert_eq!(end, StackEnd::NoRow);
    }

    #[test]
    fn return_address_outside_code_ends_the_stack() {
        let (frames, end) = aggregate(&sample(&[], &[0x1100, 0x9999, 0x1200]));
        assert_eq!((frames, end), (vec![0x1100], StackEnd::NoMapping));
    }

    #[test]
    fn call_at_the_end_of_a_mapping_belongs_to_it() {
        let (frames, _) = aggregate(&sample(&[], &[0x1100, 0x2000]));
        assert_eq!(frames, [0x1100, 0x1fff]);
    }

    #[test]
    fn stack_with_a_guess_is_not_counted_as_complete() {
        let mut processes = processes();
        let mut count = |is_guessed, end| {
            let caller = UserFrame { is_guessed, ..frame(1, 0x1200) };
            let user = [frame(0, 0x1100), caller].into();
            let sample = RawSample { user, user_end: end, ..sample(&[], &[]) };
            let memory = processes.address_space(Pid(7));
            let mut aggregator = Aggregator::new(1usize << 20, Vec::new());
            let process = Identity::default();
            aggregator.add(1, &sample, &process, &memory, None, &mut processes).expect("space");
            let (_, ledger) = aggregator.finish(&[]);
            StackEnd::ALL.iter().copied().find(|end| ledger.user_ends[*end as usize] == 1)
        };
        assert_eq!(count(false, StackEnd::Complete), Some(StackEnd::Complete));
        assert_eq!(count(true, StackEnd::Complete), Some(StackEnd::Guessed));
        assert_eq!(count(true, StackEnd::NoRow), Some(StackEnd::NoRow));
    }

    #[test]
    fn mappings_that_were_not_read_are_named_as_the_reason() {
        let mut processes = Processes::new(Executables::new(0, 1 << 20, ""));
        let unread = processes.address_space(Pid(7));
        let mut aggregator = Aggregator::new(1usize << 20, Vec::new());
        let sample = sample(&[], &[0x1100]);
        aggregator.register(&sample);
        aggregator
            .add(1, &sample, &Identity::default(), &unread, None, &mut processes)
            .expect("a window with space");
        let (_, ledger) = aggregator.finish(&[1]);
        assert_eq!(ledger.user_ends[StackEnd::MappingsUnread as usize], 1);
    }

    #[test]
    fn unmapped_code_keeps_its_address() {
        let (frames, end) = aggregate(&sample(&[], &[0x5000]));
        assert_eq!((frames, end), (vec![0x5000], StackEnd::NoMapping));
    }
}
