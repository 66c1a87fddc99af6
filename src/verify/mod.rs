//! Judges unwinding: another unwinder walks the very ticks that we walk, and the two are compared.
//!
//! The sampling clock has perf record registers and stack of each tick that becomes a sample. [`Judge`] sees
//! both in the processor, when mappings are those of the tick; [`framehop`] walks the stack snapshot by the call
//! frames of the same files, read from them anew. What comes of it are [`Findings`].
//!
//! framehop knows ip, sp and fp, no other register, and goes on by frame pointer without saying so where
//! call frames do not serve it. So a difference tells that one of the two is wrong, not which: the place and
//! our rule are kept with each, to be looked up in the file, and DWARF itself is asked ([`Opinion`]).

mod dwarf;
mod findings;
mod pairs;
mod verdict;
mod walker;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use profile::{FileAddr, Frame, StackEnd, VirtAddr};

use crate::events::{PerfSample, RawSample};
use crate::processes::AddressSpace;
use crate::session::{SampleContext, SampleObserver};
use dwarf::Dwarf;
pub use dwarf::Opinion;
use findings::Judged;
pub use findings::{Counts, Difference, Findings, Kind, Place};
use pairs::{Pairs, Tick};
pub use verdict::{End, Reason, Verdict};
use verdict::{Stack, compare};
use walker::Walker;

/// Compares each sample with what framehop makes of perf's record of the same tick.
pub struct Judge {
    pairs: Pairs<OurWalk, PerfSample>,
    walker: Walker,
    dwarf: Dwarf,
    findings: Arc<Mutex<Findings>>,
}

/// A sample that waits for perf's record of its tick.
struct OurWalk {
    sample: RawSample,
    memory: AddressSpace,
}

impl Judge {
    /// Has seen nothing yet. `period`: nanoseconds between two ticks of a CPU. What is found can be read
    /// from the second value at any time.
    pub fn new(period: u64) -> (Self, Shared) {
        let findings = Arc::new(Mutex::new(Findings::default()));
        let shared = Shared(Arc::clone(&findings));
        let (pairs, walker, dwarf) = (Pairs::new(period / 2), Walker::default(), Dwarf::default());
        (Self { pairs, walker, dwarf, findings }, shared)
    }

    fn judge(&mut self, ours: &OurWalk, theirs: &PerfSample, context: &SampleContext<'_>) {
        let OurWalk { sample, memory } = ours;
        let our_stack = our_stack(sample, memory);
        let their_stack = self.walker.walk(sample.pid, memory, context.executables, theirs);
        let compared = compare(&our_stack, &their_stack);

        let last = compared.agreed - 1; // both start at the same instruction
        let frame = |stack: &Stack, depth: usize| {
            let address = *stack.frames.get(depth)?;
            let is_exact = depth == 0 || sample.user.get(depth).is_some_and(|frame| frame.is_exact);
            let place = VirtAddr(address.wrapping_sub(u64::from(!is_exact)));
            Some(resolve(memory, context, place))
        };
        let Some(at) = frame(&our_stack, last) else { return };
        let rule_at = sample.user.get(last).map(|frame| frame.lookup_address());
        let difference = || Difference {
            comm: sample.comm.clone(),
            pid: sample.pid,
            depth: last,
            ours: frame(&our_stack, compared.agreed).ok_or(our_stack.end),
            theirs: frame(&their_stack, compared.agreed).ok_or(their_stack.end),
            rule: rule_at.and_then(|at| (context.rule)(memory, at)),
        };
        let opinion =
            matches!(compared.verdict, Ok(verdict) if verdict != Verdict::Equal).then(|| {
                let agreed = &sample.user[..compared.agreed];
                let both = (&our_stack, &their_stack);
                self.dwarf.opinion(both, agreed, memory, context.executables, theirs)
            });
        let is_guessed = sample.user.iter().any(|frame| frame.is_guessed);
        lock(&self.findings).add(&compared, Judged { at, opinion, is_guessed }, difference);
    }
}

/// What a [`Judge`] found, also while it still judges.
pub struct Shared(Arc<Mutex<Findings>>);

impl Shared {
    /// Gives what was found, and starts anew.
    pub fn take(&self) -> Findings {
        std::mem::take(&mut *lock(&self.0))
    }
}

fn lock(findings: &Mutex<Findings>) -> MutexGuard<'_, Findings> {
    findings.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes our frames up to the first caller that is in no executable mapping, as `aggregate` does.
fn our_stack(sample: &RawSample, memory: &AddressSpace) -> Stack {
    let is_code =
        |depth: usize| depth == 0 || memory.find(sample.user[depth].lookup_address()).is_some();
    let kept = (0..sample.user.len()).take_while(|depth| is_code(*depth)).count();
    let end = if kept < sample.user.len() { StackEnd::NoMapping } else { sample.user_end };
    let frames = sample.user[..kept].iter().map(|frame| frame.address.0).collect();
    Stack { frames, end: end.into() }
}

fn resolve(memory: &AddressSpace, context: &SampleContext<'_>, place: VirtAddr) -> Frame {
    let unknown = Frame { executable: profile::ExecutableId::UNKNOWN, address: FileAddr(place.0) };
    context.executables.resolve(memory, place).unwrap_or(unknown)
}

impl SampleObserver for Judge {
    fn observe(
        &mut self,
        time: u64,
        sample: &RawSample,
        memory: &AddressSpace,
        context: &SampleContext<'_>,
    ) {
        let Some(innermost) = sample.user.first() else { return };
        lock(&self.findings).seen += 1;
        if sample.user_end == StackEnd::ThirtyTwoBit {
            return lock(&self.findings).not_compared(Reason::ThirtyTwoBit);
        }
        let tick = Tick { cpu: sample.cpu, tid: sample.tid, ip: innermost.address.0, time };
        let ours = OurWalk { sample: sample.clone(), memory: memory.clone() };
        if let Some((ours, theirs)) = self.pairs.left(tick, ours) {
            self.judge(&ours, &theirs, context);
        }
    }

    fn observe_perf_sample(&mut self, time: u64, sample: PerfSample, context: &SampleContext<'_>) {
        let tick = Tick { cpu: sample.cpu, tid: sample.tid, ip: sample.snapshot.ip, time };
        if let Some((ours, theirs)) = self.pairs.right(tick, sample) {
            self.judge(&ours, &theirs, context);
        }
    }

    fn count_lost(&mut self, perf_samples: u64) {
        lock(&self.findings).records_lost += perf_samples;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Event, FileIdentity, MmapEvent, PerfStackSnapshot, TimedEvent, UserFrame};
    use crate::processes::{Executables, Processes};
    use profile::{Cpu, Pid, Tid};
    use unwind::Rule;
    use unwind::arch::{FP, SP};

    const STACK: u64 = 0x7000;
    /// Two frames with frame pointers, both in code without a file: the innermost at 0x1100 was called from
    /// before 0x1200, that from before 0x1300, whose caller's frame pointer is 0. That ends framehop's walk, and
    /// proves nothing.
    const WORDS: [u64; 6] = [STACK + 0x20, 0x1200, 5, 6, 0, 0x1300];
    const TRUTH: [u64; 3] = [0x1100, 0x1200, 0x1300];

    fn processes() -> Processes {
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
        processes
    }

    fn ours(frames: &[u64], user_end: StackEnd) -> RawSample {
        let frame = |(depth, address): (usize, &u64)| UserFrame {
            address: VirtAddr(*address),
            is_exact: depth == 0,
            is_guessed: false,
        };
        RawSample {
            sequence: 0,
            cpu: Cpu(0),
            pid: Pid(7),
            tid: Tid(8),
            comm: "worker".into(),
            cgroup_id: 1,
            kernel: [].into(),
            user: frames.iter().enumerate().map(frame).collect(),
            kernel_end: StackEnd::Absent,
            user_end,
            snapshot: None,
        }
    }

    fn theirs() -> PerfSample {
        let mut registers = [0; 16];
        registers[usize::from(SP.number())] = STACK;
        registers[usize::from(FP.number())] = STACK;
        let stack = WORDS.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let snapshot = PerfStackSnapshot { ip: TRUTH[0], registers, stack };
        PerfSample { cpu: Cpu(0), tid: Tid(8), snapshot, is_cut: false }
    }

    /// Judges one tick in which this is our stack, shown before or after perf's record.
    fn judge(frames: &[u64], end: StackEnd, is_late: bool) -> Findings {
        let processes = processes();
        let memory = processes.address_space(Pid(7));
        let rule = |_: &AddressSpace, _| Some(Rule::FRAME_POINTER);
        let context = SampleContext { executables: &processes.executables, rule: &rule };
        let (mut judge, shared) = Judge::new(1000);
        if is_late {
            judge.observe_perf_sample(105, theirs(), &context);
        }
        judge.observe(100, &ours(frames, end), &memory, &context);
        if !is_late {
            judge.observe_perf_sample(105, theirs(), &context);
        }
        shared.take()
    }

    #[test]
    fn a_true_stack_is_equal_whichever_half_comes_first() {
        for is_late in [false, true] {
            let findings = judge(&TRUTH, StackEnd::Complete, is_late);
            assert_eq!(
                (findings.seen, findings.total),
                (1, Counts { equal: 1, ..Counts::default() })
            );
            assert!(findings.places.is_empty());
        }
    }

    #[test]
    fn a_wrong_frame_is_different_and_told_by_its_place() {
        let findings = judge(&[0x1100, 0x1234, 0x1300], StackEnd::Complete, false);
        let expected = Counts { different: 1, dwarf_nothing: 1, ..Counts::default() };
        assert_eq!(findings.total, expected);
        let (kind, place) = findings.places.iter().next().expect("a place");
        assert_eq!((kind.verdict, kind.address), (Verdict::Different, FileAddr(0x1100)));
        let Difference { depth, ours, theirs, rule, .. } = &place.example;
        assert_eq!((*depth, *rule), (0, Some(Rule::FRAME_POINTER)));
        let address = |frame: &Result<Frame, End>| frame.ok().map(|frame| frame.address.0);
        assert_eq!((address(ours), address(theirs)), (Some(0x1233), Some(0x11ff)));
    }

    #[test]
    fn a_stack_that_stops_early_is_shorter_and_one_that_goes_on_is_longer() {
        let shorter = judge(&TRUTH[..2], StackEnd::NoRow, false);
        assert_eq!(shorter.total, Counts { shorter: 1, dwarf_nothing: 1, ..Counts::default() });
        let longer = judge(&[0x1100, 0x1200, 0x1300, 0x1400], StackEnd::Complete, false);
        assert_eq!(longer.total, Counts { longer: 1, dwarf_nothing: 1, ..Counts::default() });
    }

    #[test]
    fn a_frame_outside_code_is_none() {
        let findings = judge(&[0x1100, 0x1200, 0x9999], StackEnd::Complete, false);
        assert_eq!(findings.total, Counts { shorter: 1, dwarf_nothing: 1, ..Counts::default() });
    }

    #[test]
    fn a_record_of_another_instant_judges_nothing() {
        let findings = judge(&[0x1104, 0x1200, 0x1300], StackEnd::Complete, false);
        let without: Vec<_> = findings.reasons().filter(|(_, count)| *count > 0).collect();
        assert_eq!((findings.total.judged(), without), (0, vec![(Reason::NoRecord, 1)]));
    }
}
