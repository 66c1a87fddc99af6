//! Verifies unwinding: a second unwinder processes the same ticks, and the stacks are compared.
//!
//! The sampling clock makes perf record the registers and a stack snapshot of each tick that
//! becomes a sample. [`Verifier`] observes both in the processor, while the mappings are those of
//! the tick. framehop unwinds the snapshot by the call frames of the same files, which it reads
//! anew. The results are [`Findings`].
//!
//! framehop restores no register but ip, sp and fp, and silently uses the frame pointer where call
//! frames do not help. A difference therefore shows that one of the two is wrong, but not which.
//! The address and our rule are stored with it, to be looked up in the file, and DWARF itself is
//! evaluated ([`DwarfAgreement`]).

mod comparison;
mod dwarf;
mod findings;
mod framehop;
mod tick_pairs;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use profile::{ExecutableId, FileAddr, Frame, StackEnd, VirtAddr};

use self::framehop::FramehopUnwinder;
use crate::events::{PerfSample, RawSample};
use crate::processes::AddressSpace;
use crate::session::{SampleContext, SampleObserver};
pub use comparison::{Comparison, IncomparableReason, WalkEnd};
use comparison::{UnwoundStack, compare};
pub use dwarf::DwarfAgreement;
use dwarf::DwarfArbiter;
use findings::ComparedTick;
pub use findings::{ComparisonCounts, Difference, DifferenceKind, DifferenceSite, Findings};
use tick_pairs::{Tick, TickPairs};

/// Compares the stack of each sample with framehop's stack of the same tick.
pub struct Verifier {
    pairs: TickPairs<OurSample, PerfSample>,
    framehop: FramehopUnwinder,
    dwarf: DwarfArbiter,
    findings: Arc<Mutex<Findings>>,
}

/// A sample that waits for perf's record of its tick, and the mappings at its time.
struct OurSample {
    sample: RawSample,
    memory: AddressSpace,
}

impl Verifier {
    /// Makes a verifier, and a handle to read its findings at any time. `period`: nanoseconds
    /// between two ticks of a CPU.
    pub fn new(period: u64) -> (Self, FindingsHandle) {
        let findings = Arc::new(Mutex::new(Findings::default()));
        let handle = FindingsHandle(Arc::clone(&findings));
        let pairs = TickPairs::new(period / 2);
        let (framehop, dwarf) = (FramehopUnwinder::default(), DwarfArbiter::default());
        (Self { pairs, framehop, dwarf, findings }, handle)
    }

    fn compare(&mut self, ours: &OurSample, theirs: &PerfSample, context: &SampleContext<'_>) {
        let OurSample { sample, memory } = ours;
        let our_stack = our_stack(sample, memory);
        let their_stack = self.framehop.unwind(sample.pid, memory, context.executables, theirs);
        let compared = compare(&our_stack, &their_stack);

        let last = compared.agreed - 1; // both start at the same instruction
        let frame = |stack: &UnwoundStack, depth: usize| {
            let address = *stack.frames.get(depth)?;
            let is_exact = sample.user.get(depth).is_some_and(|frame| frame.is_exact);
            let address = VirtAddr(address.wrapping_sub(u64::from(!is_exact)));
            Some(resolve(memory, context, address))
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
        let is_unequal = compared.result.is_ok_and(|comparison| comparison != Comparison::Equal);
        let dwarf = is_unequal.then(|| {
            let agreed = &sample.user[..compared.agreed];
            let both = (&our_stack, &their_stack);
            self.dwarf.decide(both, agreed, memory, context.executables, theirs)
        });
        let is_guessed = sample.user.iter().any(|frame| frame.is_guessed);
        lock(&self.findings).add(&compared, ComparedTick { at, dwarf, is_guessed }, difference);
    }
}

/// Reads the findings of a [`Verifier`], also while it is running.
pub struct FindingsHandle(Arc<Mutex<Findings>>);

impl FindingsHandle {
    /// Takes the findings so far; the verifier continues with empty ones.
    pub fn take(&self) -> Findings {
        std::mem::take(&mut *lock(&self.0))
    }
}

fn lock(findings: &Mutex<Findings>) -> MutexGuard<'_, Findings> {
    findings.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns our frames up to the first caller in no executable mapping, as `aggregate` does.
fn our_stack(sample: &RawSample, memory: &AddressSpace) -> UnwoundStack {
    let is_code =
        |depth: usize| depth == 0 || memory.find(sample.user[depth].lookup_address()).is_some();
    let count = (0..sample.user.len()).take_while(|depth| is_code(*depth)).count();
    let end = if count < sample.user.len() { StackEnd::NoMapping } else { sample.user_end };
    let frames = sample.user[..count].iter().map(|frame| frame.address.0).collect();
    UnwoundStack { frames, end: end.into() }
}

fn resolve(memory: &AddressSpace, context: &SampleContext<'_>, address: VirtAddr) -> Frame {
    let unknown = Frame::new(ExecutableId::UNKNOWN, FileAddr(address.0));
    context.executables.resolve(memory, address).unwrap_or(unknown)
}

impl SampleObserver for Verifier {
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
            return lock(&self.findings).not_compared(IncomparableReason::ThirtyTwoBit);
        }
        let tick = Tick { cpu: sample.cpu, tid: sample.tid, ip: innermost.address.0, time };
        let ours = OurSample { sample: sample.clone(), memory: memory.clone() };
        if let Some((ours, theirs)) = self.pairs.add_left(tick, ours) {
            self.compare(&ours, &theirs, context);
        }
    }

    fn observe_perf_sample(&mut self, time: u64, sample: PerfSample, context: &SampleContext<'_>) {
        let tick = Tick { cpu: sample.cpu, tid: sample.tid, ip: sample.snapshot.ip, time };
        if let Some((ours, theirs)) = self.pairs.add_right(tick, sample) {
            self.compare(&ours, &theirs, context);
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
    /// Two frames with frame pointers, both in code without a file: the innermost at 0x1100 was
    /// called from before 0x1200, that from before 0x1300, whose caller's frame pointer is 0. That
    /// ends framehop's stack, and proves nothing.
    const WORDS: [u64; 6] = [STACK + 0x20, 0x1200, 5, 6, 0, 0x1300];
    const TRUTH: [u64; 3] = [0x1100, 0x1200, 0x1300];

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
        let snapshot = PerfStackSnapshot { ip: TRUTH[0], flags: 0, registers, stack };
        PerfSample { cpu: Cpu(0), tid: Tid(8), snapshot, is_cut: false }
    }

    /// Verifies one tick with our stack, which is observed after perf's record if `is_late`.
    fn verify(frames: &[u64], end: StackEnd, is_late: bool) -> Findings {
        let processes = processes();
        let memory = processes.address_space(Pid(7));
        let rule = |_: &AddressSpace, _| Some(Rule::FRAME_POINTER);
        let context = SampleContext { executables: &processes.executables, rule: &rule };
        let (mut verifier, findings) = Verifier::new(1000);
        if is_late {
            verifier.observe_perf_sample(105, theirs(), &context);
        }
        verifier.observe(100, &ours(frames, end), &memory, &context);
        if !is_late {
            verifier.observe_perf_sample(105, theirs(), &context);
        }
        findings.take()
    }

    fn without_dwarf(counts: ComparisonCounts) -> ComparisonCounts {
        ComparisonCounts { dwarf_unknown: 1, ..counts }
    }

    #[test]
    fn correct_stack_is_equal_in_either_order_of_records() {
        for is_late in [false, true] {
            let findings = verify(&TRUTH, StackEnd::Complete, is_late);
            let expected = ComparisonCounts { equal: 1, ..ComparisonCounts::default() };
            assert_eq!((findings.seen, findings.total), (1, expected));
            assert!(findings.sites.is_empty());
        }
    }

    #[test]
    fn wrong_frame_is_different_with_its_site() {
        let findings = verify(&[0x1100, 0x1234, 0x1300], StackEnd::Complete, false);
        let expected = ComparisonCounts { different: 1, ..ComparisonCounts::default() };
        assert_eq!(findings.total, without_dwarf(expected));
        let (kind, site) = findings.sites.iter().next().expect("a site");
        assert_eq!((kind.comparison, kind.address), (Comparison::Different, FileAddr(0x1100)));
        let Difference { depth, ours, theirs, rule, .. } = &site.example;
        assert_eq!((*depth, *rule), (0, Some(Rule::FRAME_POINTER)));
        let address = |frame: &Result<Frame, WalkEnd>| frame.ok().map(|frame| frame.address.0);
        assert_eq!((address(ours), address(theirs)), (Some(0x1233), Some(0x11ff)));
    }

    #[test]
    fn counts_shorter_and_longer_stacks() {
        let shorter = verify(&TRUTH[..2], StackEnd::NoRow, false);
        let expected = ComparisonCounts { shorter: 1, ..ComparisonCounts::default() };
        assert_eq!(shorter.total, without_dwarf(expected));
        let longer = verify(&[0x1100, 0x1200, 0x1300, 0x1400], StackEnd::Complete, false);
        let expected = ComparisonCounts { longer: 1, ..ComparisonCounts::default() };
        assert_eq!(longer.total, without_dwarf(expected));
    }

    #[test]
    fn frame_outside_code_ends_the_stack() {
        let findings = verify(&[0x1100, 0x1200, 0x9999], StackEnd::Complete, false);
        let expected = ComparisonCounts { shorter: 1, ..ComparisonCounts::default() };
        assert_eq!(findings.total, without_dwarf(expected));
    }

    #[test]
    fn record_of_another_instant_is_not_compared() {
        let findings = verify(&[0x1104, 0x1200, 0x1300], StackEnd::Complete, false);
        let reasons: Vec<_> = findings.reasons().filter(|(_, count)| *count > 0).collect();
        assert_eq!(findings.total.compared(), 0);
        assert_eq!(reasons, [(IncomparableReason::NoRecord, 1)]);
    }
}
