//! Walking by frame pointers: `[fp]` holds the caller's fp, `[fp + 8]` the return address.
//!
//! Source: System V ABI, AMD64 supplement, section 3.2.2.

/// Addresses of user code and stacks lie from here...
pub const USER_ADDRESS_MIN: u64 = 4096;
/// ...to below here.
pub const USER_ADDRESS_MAX: u64 = 1 << 56;

/// Where a thread stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// The instruction.
    pub ip: u64,
    /// The stack pointer.
    pub sp: u64,
    /// The frame pointer.
    pub fp: u64,
}

/// Why a walk ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
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
pub fn step(at: Registers, read: impl Fn(u64) -> Option<u64>) -> Result<Registers, End> {
    let user = USER_ADDRESS_MIN..USER_ADDRESS_MAX;
    if !at.fp.is_multiple_of(8) || at.fp < at.sp || !user.contains(&at.fp) {
        return Err(End::FramePointer);
    }
    let words = read(at.fp).zip(read(at.fp + 8));
    let (fp, ip) = words.ok_or(End::Unreadable)?;
    if !user.contains(&ip) {
        return Err(End::ReturnAddress);
    }
    Ok(Registers { ip, sp: at.fp + 16, fp })
}

/// Walks from a frame to the outermost that can be found, at most `limit` frames.
/// Gives the instruction of each, innermost first, and why it ended; `None` at the limit.
pub fn walk(
    from: Registers,
    limit: usize,
    read: impl Fn(u64) -> Option<u64>,
) -> (Vec<u64>, Option<End>) {
    let mut at = from;
    let mut frames = Vec::new();
    while frames.len() < limit {
        frames.push(at.ip);
        match step(at, &read) {
            Ok(caller) => at = caller,
            Err(end) => return (frames, Some(end)),
        }
    }
    (frames, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stack from 0x7000 up: main called a, a called b; main's fp is 1, as the C library leaves it.
    const STACK: [u64; 6] = [0x7010, 0x4444, 0x7020, 0x5555, 1, 0x6666];

    fn read(address: u64) -> Option<u64> {
        STACK.get((address.checked_sub(0x7000)? / 8) as usize).copied()
    }

    #[test]
    fn a_chain_is_walked_until_fp_is_no_frame() {
        let from = Registers { ip: 0x4000, sp: 0x7000, fp: 0x7000 };
        let walked = walk(from, 10, read);
        assert_eq!(walked, (vec![0x4000, 0x4444, 0x5555, 0x6666], Some(End::FramePointer)));
    }

    #[test]
    fn a_walk_stops_at_its_limit() {
        let from = Registers { ip: 0x4000, sp: 0x7000, fp: 0x7000 };
        assert_eq!(walk(from, 2, read), (vec![0x4000, 0x4444], None));
    }

    #[test]
    fn a_frame_below_the_stack_pointer_is_none() {
        let from = Registers { ip: 0x4000, sp: 0x7008, fp: 0x7000 };
        assert_eq!(step(from, read), Err(End::FramePointer));
    }

    #[test]
    fn memory_that_is_not_there_ends_the_walk() {
        let from = Registers { ip: 0x4000, sp: 0x7000, fp: 0x7028 };
        assert_eq!(step(from, read), Err(End::Unreadable));
    }
}
