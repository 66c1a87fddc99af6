//! Stepping by frame pointers: the caller's fp is `*fp`, the return address `*(fp + 8)`.
//!
//! The result is a guess: nothing proves that the code keeps a frame pointer.
//!
//! Source: System V ABI, AMD64 supplement, section 3.2.2.

use crate::arch::{USER_ADDRESS_MAX, USER_ADDRESS_MIN};
use crate::step::Registers;

/// Bytes from sp to the farthest plausible frame: threads have smaller stacks.
pub const FRAME_BYTES_MAX: u64 = 8 << 20;

/// Why a frame has no caller by its frame pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramePointerEnd {
    /// fp is implausible: unaligned, below the stack pointer, too far above it, or no user address.
    FramePointer,
    /// The memory at fp cannot be read.
    Unreadable,
    /// The return address is no user address.
    BadReturnAddress,
}

/// Steps to the caller. `read`: returns the 8-byte word at an address, if it can be read.
///
/// ```
/// use unwind::{Registers, frame_pointer};
///
/// let stack = [0x7020, 0x40_1005]; // from 0x7000: the caller's fp, the return address
/// let read = |address: u64| stack.get((address.checked_sub(0x7000)? / 8) as usize).copied();
/// let frame = Registers {
///     ip: 0x40_2000,
///     is_behind: false,
///     sp: 0x7000,
///     fp: Some(0x7000),
///     base: None,
///     all: None,
///     callee: None,
/// };
/// let caller = frame_pointer::step(&frame, read)?;
/// assert_eq!((caller.ip, caller.sp, caller.fp), (0x40_1005, 0x7010, Some(0x7020)));
/// # Ok::<(), frame_pointer::FramePointerEnd>(())
/// ```
///
/// # Errors
/// The reason why there is no caller.
pub fn step(
    at: &Registers,
    read: impl Fn(u64) -> Option<u64>,
) -> Result<Registers, FramePointerEnd> {
    let user = USER_ADDRESS_MIN..USER_ADDRESS_MAX;
    let fp = at.fp.ok_or(FramePointerEnd::FramePointer)?;
    let is_near = fp >= at.sp && fp - at.sp < FRAME_BYTES_MAX;
    if !fp.is_multiple_of(8) || !is_near || !user.contains(&fp) {
        return Err(FramePointerEnd::FramePointer);
    }
    let words = read(fp).zip(read(fp + 8));
    let (saved, ip) = words.ok_or(FramePointerEnd::Unreadable)?;
    if !user.contains(&ip) {
        return Err(FramePointerEnd::BadReturnAddress);
    }
    let (sp, fp) = (fp + 16, Some(saved));
    Ok(Registers { ip, is_behind: true, sp, fp, base: None, all: None, callee: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The stack from 0x7000 up: main called a; main's fp is 1, as the C library leaves it.
    const STACK: [u64; 4] = [0x7010, 0x4444, 1, 0x5555];

    fn read(address: u64) -> Option<u64> {
        STACK.get((address.checked_sub(0x7000)? / 8) as usize).copied()
    }

    fn at(sp: u64, fp: u64) -> Registers {
        let all = [0; crate::arch::REGISTERS];
        Registers { sp, fp: Some(fp), base: Some(9), ..Registers::interrupted(0x4000, all) }
    }

    #[test]
    fn steps_outwards_until_fp_is_implausible() {
        let a = step(&at(0x7000, 0x7000), read).expect("a has a caller");
        assert_eq!((a.ip, a.sp, a.fp, a.is_behind), (0x4444, 0x7010, Some(0x7010), true));
        let main = step(&a, read).expect("main has a caller");
        assert_eq!((main.ip, main.fp, main.base), (0x5555, Some(1), None));
        assert_eq!(step(&main, read), Err(FramePointerEnd::FramePointer));
    }

    #[test]
    fn rejects_a_frame_below_sp_or_far_above() {
        assert_eq!(step(&at(0x7008, 0x7000), read), Err(FramePointerEnd::FramePointer));
        assert_eq!(
            step(&at(0x7000, 0x7000 + FRAME_BYTES_MAX), read),
            Err(FramePointerEnd::FramePointer)
        );
    }

    #[test]
    fn unreadable_memory_ends_the_stack() {
        assert_eq!(step(&at(0x7000, 0x7018), read), Err(FramePointerEnd::Unreadable));
    }
}
