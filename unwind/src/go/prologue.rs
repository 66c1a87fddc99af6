//! How a Go function on x86-64 saves the frame pointer, read from its first instructions.

/// Bytes that [`read`] needs after the instruction that moved sp.
pub(super) const LEN_MAX: u64 = 16;

const PUSH_FP: u8 = 0x55; // push %rbp
const SET_FP: [u8; 3] = [0x48, 0x89, 0xe5]; // mov %rsp, %rbp
const STORE_FP_NEAR: [u8; 4] = [0x48, 0x89, 0x6c, 0x24]; // mov %rbp, disp8(%rsp)
const STORE_FP_FAR: [u8; 4] = [0x48, 0x89, 0xac, 0x24]; // mov %rbp, disp32(%rsp)
const POINT_FP_NEAR: [u8; 4] = [0x48, 0x8d, 0x6c, 0x24]; // lea disp8(%rsp), %rbp
const POINT_FP_FAR: [u8; 4] = [0x48, 0x8d, 0xac, 0x24]; // lea disp32(%rsp), %rbp
const FREE_NEAR: [u8; 3] = [0x48, 0x83, 0xc4]; // add $imm8, %rsp
const FREE_FAR: [u8; 3] = [0x48, 0x81, 0xc4]; // add $imm32, %rsp

/// What a function does with the frame pointer after it has moved sp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prologue {
    /// Saves it just below the return address. Both fields are bytes from where sp has moved.
    SavesFp {
        /// The frame pointer is saved from here on.
        saved_after: u64,
        /// The frame pointer points to where it is saved from here on, if it is set at once.
        set_after: Option<u64>,
    },
    /// Does not save it, or in another way.
    Other,
}

/// Reads a prologue. `text`: the last byte of the instruction that moved sp, and what follows.
pub(super) fn read(text: &[u8]) -> Prologue {
    let Some((last, rest)) = text.split_first() else { return Prologue::Other };
    if *last == PUSH_FP {
        // Go 1.21 and newer
        let set_after = rest.starts_with(&SET_FP).then_some(SET_FP.len() as u64);
        return Prologue::SavesFp { saved_after: 0, set_after };
    }
    let (saved_after, point) = match rest {
        _ if rest.starts_with(&STORE_FP_NEAR) => (5, POINT_FP_NEAR),
        _ if rest.starts_with(&STORE_FP_FAR) => (8, POINT_FP_FAR),
        _ => return Prologue::Other,
    };
    let is_set = rest.get(saved_after..).is_some_and(|rest| rest.starts_with(&point));
    let set_after = is_set.then_some(2 * saved_after as u64);
    Prologue::SavesFp { saved_after: saved_after as u64, set_after }
}

/// Returns the length of the instruction that frees a frame, if code ends with it. Functions that
/// store fp, as up to Go 1.20, have loaded it again just before.
pub(super) fn frees_frame(text: &[u8]) -> Option<u64> {
    let ends_with = |instruction: [u8; 3], len: usize| {
        let at = text.len().checked_sub(len)?;
        text[at..].starts_with(&instruction).then_some(len as u64)
    };
    ends_with(FREE_NEAR, 4).or_else(|| ends_with(FREE_FAR, 7))
}

/// Returns the offset of the first instruction that loads sp from memory or from a register other
/// than fp: `mov ..., %rsp`.
pub(super) fn stack_switch(text: &[u8]) -> Option<usize> {
    text.windows(3).position(|window| {
        let [rex, opcode, operands] = [window[0], window[1], window[2]];
        let (reg, rm, is_register) = (operands >> 3 & 7, operands & 7, operands >> 6 == 3);
        let is_load = opcode == 0x8b && matches!(rex, 0x48 | 0x49) && reg == 4 && !is_register;
        let is_move = opcode == 0x89 && matches!(rex, 0x48 | 0x4c) && rm == 4 && is_register;
        is_load || is_move
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognizes_push_and_set_of_fp() {
        let expected = Prologue::SavesFp { saved_after: 0, set_after: Some(3) };
        assert_eq!(read(&[0x55, 0x48, 0x89, 0xe5, 0x48, 0x83]), expected);
    }

    #[test]
    fn recognizes_store_of_fp() {
        let expected = Prologue::SavesFp { saved_after: 5, set_after: None };
        assert_eq!(read(&[0x18, 0x48, 0x89, 0x6c, 0x24, 0x10, 0x48, 0x8d]), expected);
        let expected = Prologue::SavesFp { saved_after: 5, set_after: Some(10) };
        let sets = [0x18, 0x48, 0x89, 0x6c, 0x24, 0x10, 0x48, 0x8d, 0x6c, 0x24, 0x10];
        assert_eq!(read(&sets), expected);
    }

    #[test]
    fn recognizes_the_end_of_a_frame() {
        assert_eq!(frees_frame(&[0x48, 0x83, 0xc4, 0x20]), Some(4));
        assert_eq!(frees_frame(&[0x90, 0x48, 0x81, 0xc4, 0, 1, 0, 0]), Some(7));
        assert_eq!(frees_frame(&[0x48, 0x83, 0xc4]), None);
    }

    #[test]
    fn rejects_other_code() {
        assert_eq!(read(&[0x9c, 0xfc, 0x48, 0x81]), Prologue::Other);
        assert_eq!(read(&[]), Prologue::Other);
    }

    #[test]
    fn finds_the_load_of_sp() {
        // mov 8(%rbx), %rdx; mov 56(%r14), %rsp
        let text = [0x48, 0x8b, 0x53, 0x08, 0x49, 0x8b, 0x66, 0x38];
        assert_eq!(stack_switch(&text), Some(4));
        assert_eq!(stack_switch(&[0x90, 0x48, 0x89, 0xdc]), Some(1)); // mov %rbx, %rsp
        assert_eq!(stack_switch(&[0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x10]), None);
    }
}
