//! The step that runs in the kernel, as a function of the host.
//!
//! For tests only: nothing that is shipped links it.

use unwind::frame_pointer::{End, Registers};

/// `struct registers` of `bpf/frame_pointer.h`.
#[repr(C)]
struct KernelRegisters {
    ip: u64,
    sp: u64,
    fp: u64,
}

unsafe extern "C" {
    fn host_frame_pointer_ready(r: *const KernelRegisters) -> bool;
    fn host_frame_pointer_step(r: *mut KernelRegisters, saved_fp: u64, return_address: u64)
    -> bool;
}

/// Steps to the caller as the kernel does. Twin of [`unwind::frame_pointer::step`].
///
/// # Errors
/// The reason when there is no caller to be found.
pub fn step(at: Registers, read: impl Fn(u64) -> Option<u64>) -> Result<Registers, End> {
    let mut registers = KernelRegisters { ip: at.ip, sp: at.sp, fp: at.fp };
    // SAFETY: the function reads the structure that it is given and nothing else.
    if !unsafe { host_frame_pointer_ready(&registers) } {
        return Err(End::FramePointer);
    }
    let (saved_fp, return_address) = read(at.fp).zip(read(at.fp + 8)).ok_or(End::Unreadable)?;
    // SAFETY: the function writes the structure that it is given and nothing else.
    if !unsafe { host_frame_pointer_step(&mut registers, saved_fp, return_address) } {
        return Err(End::ReturnAddress);
    }
    Ok(Registers { ip: registers.ip, sp: registers.sp, fp: registers.fp })
}

#[cfg(test)]
mod tests {
    use super::step;
    use proptest::prelude::*;
    use unwind::frame_pointer::{
        Registers, USER_ADDRESS_MAX, USER_ADDRESS_MIN, step as reference, walk,
    };

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

    fn reader(words: &[u64]) -> impl Fn(u64) -> Option<u64> {
        move |address| {
            let at = address.checked_sub(STACK)?;
            words.get((at / 8) as usize).copied()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn the_kernel_steps_as_the_reference_does(
            words in prop::collection::vec(word(), 64), ip in word(), sp in word(), fp in word(),
        ) {
            let at = Registers { ip, sp, fp };
            prop_assert_eq!(step(at, reader(&words)), reference(at, reader(&words)));
        }

        #[test]
        fn a_walk_over_any_stack_ends_before_it_leaves_it(words in prop::collection::vec(word(), 64), fp in word()) {
            let from = Registers { ip: 0x40_0000, sp: STACK, fp };
            let (frames, end) = walk(from, 1000, reader(&words));
            prop_assert!(end.is_some());
            prop_assert!(frames.len() <= 33, "a frame takes two words of 64");
        }
    }
}
