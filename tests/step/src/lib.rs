//! The step that runs in the kernel, as a function of the host.
//!
//! For tests only: nothing that is shipped links it.

use std::ffi::c_void;

use unwind::arch::{BASE, FP, REGISTERS, SP};
use unwind::frame_pointer::FramePointerEnd;
use unwind::{Registers, Rule, Step};

const KNOWN_FP: u32 = 1;
const KNOWN_BASE: u32 = 2;
const KNOWN_ALL: u32 = 4;

/// `struct registers` of `bpf/step.h`.
#[repr(C)]
struct KernelRegisters {
    ip: u64,
    sp: u64,
    fp: u64,
    base: u64,
    known: u32,
    is_return: u32,
    all: [u64; REGISTERS],
}

type ReadWord = unsafe extern "C" fn(*const c_void, u64, *mut u64) -> bool;
type Read<'a> = &'a dyn Fn(u64) -> Option<u64>;

unsafe extern "C" {
    fn host_step(r: *mut KernelRegisters, rule: u64, read: ReadWord, from: *const c_void) -> u32;
    fn host_frame_pointer_ready(r: *const KernelRegisters) -> bool;
    fn host_frame_pointer_step(r: *mut KernelRegisters, saved_fp: u64, return_address: u64)
    -> bool;
}

/// Steps to the caller by a rule, as the kernel does. Twin of [`unwind::step()`].
pub fn step(at: &Registers, rule: &Rule, read: Read<'_>) -> Step {
    let mut registers = to_kernel(at);
    let rule = u64::from_le_bytes(rule.encode());
    let from: *const Read<'_> = &read;
    // SAFETY: the function reads and writes the structure that it is given, and calls
    // `read_word` with `from`, which lives until it returns.
    let step = unsafe { host_step(&mut registers, rule, read_word, from.cast()) };
    match step {
        0 => Step::Caller(from_kernel(&registers)),
        1 => Step::Root,
        2 => Step::NoRow,
        3 => Step::NotExpressible,
        4 => Step::Unreadable,
        _ => Step::ReturnAddress,
    }
}

unsafe extern "C" fn read_word(from: *const c_void, address: u64, word: *mut u64) -> bool {
    // SAFETY: `step` gave a pointer to its reader, and the C function one to its own word.
    let (read, word) = unsafe { (&*from.cast::<Read<'_>>(), &mut *word) };
    read(address).inspect(|found| *word = *found).is_some()
}

/// Steps to the caller by frame pointer, as the kernel does. Twin of [`unwind::frame_pointer::step`].
///
/// # Errors
/// The reason when there is no caller to be found.
pub fn frame_pointer_step(at: &Registers, read: Read<'_>) -> Result<Registers, FramePointerEnd> {
    let mut registers = to_kernel(at);
    // SAFETY: the function reads the structure that it is given and nothing else.
    if !unsafe { host_frame_pointer_ready(&registers) } {
        return Err(FramePointerEnd::FramePointer);
    }
    let fp = registers.fp;
    let (saved_fp, return_address) =
        read(fp).zip(read(fp + 8)).ok_or(FramePointerEnd::Unreadable)?;
    // SAFETY: the function writes the structure that it is given and nothing else.
    if !unsafe { host_frame_pointer_step(&mut registers, saved_fp, return_address) } {
        return Err(FramePointerEnd::ReturnAddress);
    }
    Ok(from_kernel(&registers))
}

fn to_kernel(at: &Registers) -> KernelRegisters {
    let known = [(at.fp.is_some(), KNOWN_FP), (at.base.is_some(), KNOWN_BASE)];
    let known = known.iter().filter(|(is_known, _)| *is_known).map(|(_, bit)| bit).sum::<u32>();
    KernelRegisters {
        ip: at.ip,
        sp: at.sp,
        fp: at.fp.unwrap_or(0),
        base: at.base.unwrap_or(0),
        known: known | if at.all.is_some() { KNOWN_ALL } else { 0 },
        is_return: at.is_return.into(),
        all: at.all.unwrap_or_default(),
    }
}

fn from_kernel(registers: &KernelRegisters) -> Registers {
    let known = |bit| registers.known & bit != 0;
    Registers {
        ip: registers.ip,
        is_return: registers.is_return != 0,
        sp: registers.sp,
        fp: known(KNOWN_FP).then_some(registers.fp),
        base: known(KNOWN_BASE).then_some(registers.base),
        all: known(KNOWN_ALL).then_some(registers.all),
    }
}

/// Registers by number in which sp, fp and base are these.
pub fn registers_with(sp: u64, fp: u64, base: u64, others: u64) -> [u64; REGISTERS] {
    let mut all = [others; REGISTERS];
    for (register, value) in [(SP, sp), (FP, fp), (BASE, base)] {
        all[usize::from(register.number())] = value;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::{frame_pointer_step, registers_with, step};
    use proptest::prelude::*;
    use unwind::frame_pointer::{USER_ADDRESS_MAX, USER_ADDRESS_MIN};
    use unwind::{Registers, Rule};

    const STACK: u64 = 0x7ffc_0000_0000;

    /// Words as they lie on stacks: addresses in the stack, of code, near the edges, and anything.
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

    /// A place in a frame, where some registers are known and others not.
    fn registers() -> impl Strategy<Value = Registers> {
        (word(), word(), word(), word(), word(), 0u8..4, any::<bool>()).prop_map(
            |(ip, sp, fp, base, others, known, is_return)| {
                let innermost = Registers::interrupted(ip, registers_with(sp, fp, base, others));
                match known {
                    0 => innermost,
                    _ => Registers {
                        is_return,
                        fp: (known & 1 != 0).then_some(fp),
                        base: (known & 2 != 0).then_some(base),
                        all: None,
                        ..innermost
                    },
                }
            },
        )
    }

    /// Rules as compilers make them, with small numbers, and any 8 bytes.
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
        fn the_kernel_follows_rules_as_the_reference_does(
            words in prop::collection::vec(word(), 64), at in registers(), rule in rule(),
        ) {
            let read = reader(&words);
            prop_assert_eq!(step(&at, &rule, &read), unwind::step(&at, &rule, &read), "{}", rule);
        }

        #[test]
        fn the_kernel_follows_frame_pointers_as_the_reference_does(
            words in prop::collection::vec(word(), 64), at in registers(),
        ) {
            let read = reader(&words);
            prop_assert_eq!(
                frame_pointer_step(&at, &read), unwind::frame_pointer::step(&at, &read)
            );
        }

        #[test]
        fn a_walk_by_frame_pointers_ends_before_it_leaves_any_stack(
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
