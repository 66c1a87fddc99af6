//! Walking by frame pointers: `[fp]` holds the caller's fp, `[fp + 8]` the return address.
//!
//! What it finds is a guess: nothing says that the code kept to it.
//!
//! Source: System V ABI, AMD64 supplement, section 3.2.2.

use crate::step::Registers;

/// Addresses of user code and stacks lie from here...
pub const USER_ADDRESS_MIN: u64 = 4096;
/// ...to below here.
pub const USER_ADDRESS_MAX: u64 = 1 << 56;

/// Frames further above sp than this are not believed: threads have smaller stacks.
pub const FRAME_BYTES_MAX: u64 = 8 << 20;

/// Why a walk ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramePointerEnd {
    /// fp cannot be a frame: not aligned, below the stack pointer, or no user address.
    FramePointer,
    /// Memory at fp cannot be read.
    Unreadable,
    /// The return address is no user address.
    ReturnAddress,
}

/// Steps to the caller. `read`: gives the 8-byte word at an address, if it can be read.
///
/// # Errors
/// The reason when there is no caller to be found.
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
        return Err(FramePointerEnd::ReturnAddress);
    }
    Ok(Registers { ip, is_return: true, sp: fp + 16, fp: Some(saved), base: None, all: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stack from 0x7000 up: main called a; main's fp is 1, as the C library leaves it.
    const STACK: [u64; 4] = [0x7010, 0x4444, 1, 0x5555];

    fn read(address: u64) -> Option<u64> {
        STACK.get((address.checked_sub(0x7000)? / 8) as usize).copied()
    }

    fn at(sp: u64, fp: u64) -> Registers {
        Registers { ip: 0x4000, is_return: false, sp, fp: Some(fp), base: Some(9), all: None }
    }

    #[test]
    fn a_chain_leads_outwards_until_fp_is_no_frame() {
        let a = step(&at(0x7000, 0x7000), read).expect("a has a caller");
        assert_eq!((a.ip, a.sp, a.fp, a.is_return), (0x4444, 0x7010, Some(0x7010), true));
        let main = step(&a, read).expect("main has a caller");
        assert_eq!((main.ip, main.fp, main.base), (0x5555, Some(1), None));
        assert_eq!(step(&main, read), Err(FramePointerEnd::FramePointer));
    }

    #[test]
    fn a_frame_below_the_stack_pointer_or_far_above_is_none() {
        assert_eq!(step(&at(0x7008, 0x7000), read), Err(FramePointerEnd::FramePointer));
        assert_eq!(
            step(&at(0x7000, 0x7000 + FRAME_BYTES_MAX), read),
            Err(FramePointerEnd::FramePointer)
        );
    }

    #[test]
    fn memory_that_is_not_there_ends_the_walk() {
        assert_eq!(step(&at(0x7000, 0x7018), read), Err(FramePointerEnd::Unreadable));
    }
}
