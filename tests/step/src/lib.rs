//! The kernel's unwinding step, compiled for the host. Tests compare it with its reference in
//! `unwind`.
//!
//! Nothing that is shipped links this crate.

use std::ffi::c_void;

use unwind::arch::{BASE, FP, REGISTERS, SP};
use unwind::frame_pointer::FramePointerEnd;
use unwind::{Registers, Rule, Step};

/// `struct host_frame` of `step.c`, which translates it into the kernel's `struct registers`.
#[repr(C)]
struct HostFrame {
    ip: u64,
    sp: u64,
    fp: u64,
    base: u64,
    all: [u64; REGISTERS],
    has_fp: bool,
    has_base: bool,
    has_all: bool,
    has_callee: bool,
    is_behind: bool,
}

type ReadWord = unsafe extern "C" fn(*const c_void, u64, *mut u64) -> bool;
type Read<'a> = &'a dyn Fn(u64) -> Option<u64>;

unsafe extern "C" {
    fn host_step(frame: *mut HostFrame, rule: u64, read: ReadWord, from: *const c_void) -> u32;
    fn host_rule_by_code(ip: u64, is_behind: bool, read: ReadWord, from: *const c_void) -> u64;
    fn host_frame_pointer_ready(frame: *const HostFrame) -> bool;
    fn host_frame_pointer_step(frame: *mut HostFrame, saved_fp: u64, return_address: u64) -> bool;
}

/// Steps to the caller by a rule, as the kernel does. Twin of [`unwind::step()`].
pub fn step(registers: &Registers, rule: &Rule, read: Read<'_>) -> Step {
    let mut frame = HostFrame::from(registers);
    let rule = u64::from_le_bytes(rule.encode());
    let from: *const Read<'_> = &read;
    // SAFETY: the function reads and writes `frame`, and calls `read_word` with `from`, which lives
    // until it returns.
    let step = unsafe { host_step(&mut frame, rule, read_word, from.cast()) };
    match step {
        0 => Step::Caller(frame.into()),
        1 => Step::Root,
        2 => Step::Outside,
        3 => Step::NoRow,
        4 => Step::NotExpressible,
        5 => Step::Unreadable,
        6 => Step::BadReturnAddress,
        _ => panic!("step.c names no step {step}"),
    }
}

/// Returns the rule that the machine code at an address proves, as the kernel finds it. `read`:
/// words of the code, at any address.
pub fn rule_by_code(ip: u64, is_behind: bool, read: Read<'_>) -> Option<Rule> {
    let from: *const Read<'_> = &read;
    // SAFETY: the function calls `read_word` with `from`, which lives until it returns.
    let rule = unsafe { host_rule_by_code(ip, is_behind, read_word, from.cast()) };
    (rule != 0).then(|| Rule::decode(rule.to_le_bytes()))
}

unsafe extern "C" fn read_word(from: *const c_void, address: u64, word: *mut u64) -> bool {
    // SAFETY: `from` is the pointer that `step` passed, and `word` is a word of the C function.
    let (read, word) = unsafe { (&*from.cast::<Read<'_>>(), &mut *word) };
    read(address).inspect(|value| *word = *value).is_some()
}

/// Steps to the caller by frame pointer, as the kernel does. Twin of
/// [`unwind::frame_pointer::step`].
///
/// # Errors
/// Why there is no caller.
pub fn frame_pointer_step(
    registers: &Registers,
    read: Read<'_>,
) -> Result<Registers, FramePointerEnd> {
    let mut frame = HostFrame::from(registers);
    // SAFETY: the function only reads `frame`.
    if !unsafe { host_frame_pointer_ready(&frame) } {
        return Err(FramePointerEnd::FramePointer);
    }
    let words = read(frame.fp).zip(read(frame.fp + 8));
    let (saved_fp, return_address) = words.ok_or(FramePointerEnd::Unreadable)?;
    // SAFETY: the function only reads and writes `frame`.
    if !unsafe { host_frame_pointer_step(&mut frame, saved_fp, return_address) } {
        return Err(FramePointerEnd::BadReturnAddress);
    }
    Ok(frame.into())
}

impl From<&Registers> for HostFrame {
    fn from(registers: &Registers) -> Self {
        Self {
            ip: registers.ip,
            sp: registers.sp,
            fp: registers.fp.unwrap_or(0),
            base: registers.base.unwrap_or(0),
            all: registers.all.or(registers.callee).unwrap_or_default(),
            has_fp: registers.fp.is_some(),
            has_base: registers.base.is_some(),
            has_all: registers.all.is_some(),
            has_callee: registers.callee.is_some(),
            is_behind: registers.is_behind,
        }
    }
}

impl From<HostFrame> for Registers {
    fn from(frame: HostFrame) -> Self {
        Self {
            ip: frame.ip,
            is_behind: frame.is_behind,
            sp: frame.sp,
            fp: frame.has_fp.then_some(frame.fp),
            base: frame.has_base.then_some(frame.base),
            all: frame.has_all.then_some(frame.all),
            callee: frame.has_callee.then_some(frame.all),
        }
    }
}

/// Returns general registers by number, with these values in sp, fp and base.
pub fn registers_with(sp: u64, fp: u64, base: u64, others: u64) -> [u64; REGISTERS] {
    let mut all = [others; REGISTERS];
    for (register, value) in [(SP, sp), (FP, fp), (BASE, base)] {
        all[usize::from(register.number())] = value;
    }
    all
}

#[cfg(test)]
mod code_rules;
#[cfg(test)]
mod interpreters;

#[cfg(test)]
mod tests {
    use super::{frame_pointer_step, registers_with, step};
    use proptest::prelude::*;
    use unwind::arch::{USER_ADDRESS_MAX, USER_ADDRESS_MIN};
    use unwind::{Registers, Rule};

    const STACK: u64 = 0x7ffc_0000_0000;

    /// Words as stacks hold them: addresses of the stack, of code, near the limits, and any value.
    fn word() -> impl Strategy<Value = u64> {
        prop_oneof![
            (0u64..64).prop_map(|at| STACK + at * 8),
            (0u64..512).prop_map(|at| STACK + at),
            0x40_0000u64..0x41_0000,
            Just(0),
            (0u64..4).prop_map(|at| USER_ADDRESS_MIN - 2 + at),
            (0u64..4).prop_map(|at| USER_ADDRESS_MAX - 2 + at),
            any::<u64>(),
        ]
    }

    /// The registers of a frame, of which some are known.
    fn registers() -> impl Strategy<Value = Registers> {
        (word(), word(), word(), word(), word(), 0u8..8, any::<bool>()).prop_map(
            |(ip, sp, fp, base, others, known, is_behind)| {
                let innermost = Registers::interrupted(ip, registers_with(sp, fp, base, others));
                match known {
                    0 => Registers { is_behind, ..innermost },
                    _ => Registers {
                        is_behind,
                        fp: (known & 1 != 0).then_some(fp),
                        base: (known & 2 != 0).then_some(base),
                        all: None,
                        callee: innermost.all.filter(|_| known & 4 != 0),
                        ..innermost
                    },
                }
            },
        )
    }

    /// Rules with small numbers, as compilers write them, and any 8 bytes.
    fn rule() -> impl Strategy<Value = Rule> {
        let small = (0i32..64, any::<u8>(), -8i8..8, -8i8..8, -8i8..8);
        prop_oneof![
            3 => small.prop_map(|(offset, op, fp, base, ra)| {
                let [a, b, c, d] = (offset * 8).to_le_bytes();
                Rule::decode([a, b, c, d, op, fp as u8, base as u8, ra as u8])
            }),
            1 => any::<[u8; 8]>().prop_map(Rule::decode),
        ]
    }

    fn reader(words: &[u64]) -> impl Fn(u64) -> Option<u64> {
        move |address| {
            let at = address.checked_sub(STACK)?;
            words.get((at / 8) as usize).copied()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn kernel_step_by_rule_equals_the_reference(
            words in prop::collection::vec(word(), 64), at in registers(), rule in rule(),
        ) {
            let read = reader(&words);
            prop_assert_eq!(step(&at, &rule, &read), unwind::step(&at, &rule, &read), "{}", rule);
        }

        #[test]
        fn kernel_step_by_frame_pointer_equals_the_reference(
            words in prop::collection::vec(word(), 64), at in registers(),
        ) {
            let read = reader(&words);
            prop_assert_eq!(
                frame_pointer_step(&at, &read), unwind::frame_pointer::step(&at, &read)
            );
        }

        #[test]
        fn frame_pointer_walk_ends_within_the_stack(
            words in prop::collection::vec(word(), 64), fp in word(),
        ) {
            let mut at = Registers::interrupted(0x40_0000, registers_with(STACK, fp, 0, 0));
            let mut frames = 0;
            while let Ok(caller) = frame_pointer_step(&at, &reader(&words)) {
                at = caller;
                frames += 1;
                prop_assert!(frames <= 33, "a frame takes two words of 64");
            }
        }
    }
}
