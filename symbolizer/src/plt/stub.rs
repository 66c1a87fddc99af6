//! The stubs of a procedure linkage table, as GNU ld, gold, lld and mold write them.
//!
//! Each jumps to what a word of the global offset table holds, the slot of its function:
//!
//! ```text
//! jmp *slot                    GNU ld, gold, lld; 16 bytes, or 8 in .plt.got
//! endbr; (bnd) jmp *slot       .plt.sec, with landing pads (-z ibt)
//! endbr; mov $n, %r11; jmp *slot                           mold
//! mov slot, %r11; jmp, or call of a stub that jumps to it  lld -z retpolineplt
//! endbr; push $n; jmp          .plt with landing pads: n is the number of the relocation
//! ```

/// Longest stub in bytes.
pub(super) const LEN_MAX: usize = 32;

/// What a stub refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    /// The address of its slot.
    Slot(u64),
    /// The value that it pushes for the dynamic linker.
    Pushed(u32),
}

/// A stub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stub {
    pub reference: Reference,
    /// Bytes with those up to the next one.
    pub len: u64,
}

/// Decodes the stub at the start of this code; `None` if there is none. `address`: of the code;
/// `got`: address of the global offset table, to which the stubs of shared 32-bit files refer.
pub(super) fn decode(code: &[u8], address: u64, is_64_bit: bool, got: Option<u64>) -> Option<Stub> {
    let mut at = 0;
    loop {
        let code = code.get(at..)?;
        let number = |from: usize| Some(i32::from_le_bytes(*code.get(from..)?.first_chunk()?));
        // Relative to the end of the instruction.
        let relative = |len: u64, number: i32| {
            let end = address.wrapping_add(at as u64).wrapping_add(len);
            Reference::Slot(end.wrapping_add(i64::from(number) as u64))
        };
        let skipped = match code {
            [0xf3, 0x0f, 0x1e, 0xfa | 0xfb, ..] => 4, // endbr64, endbr32
            [0x41, 0xbb, ..] => 6,                    // mov $n, %r11d
            [0xf2, ..] => 1,                          // bnd
            _ => 0,
        };
        if skipped > 0 {
            at += skipped;
            continue;
        }
        let (reference, len) = match code {
            [0xff, 0x25, ..] if is_64_bit => {
                let is_short = at == 0 && code.get(6..8) == Some(&[0x66, 0x90]);
                (relative(6, number(2)?), if is_short { 8 } else { 16 })
            }
            [0xff, 0x25, ..] => (Reference::Slot((number(2)? as u32).into()), 16),
            [0xff, 0xa3, ..] if !is_64_bit => {
                let slot = got?.wrapping_add(i64::from(number(2)?) as u64);
                (Reference::Slot(slot & u64::from(u32::MAX)), 16)
            }
            [0x4c, 0x8b, 0x1d, ..] if is_64_bit => {
                (relative(7, number(3)?), if code.get(7) == Some(&0xe8) { 32 } else { 16 })
            }
            [0x68, ..] if at > 0 => (Reference::Pushed(number(1)? as u32), 16),
            _ => return None,
        };
        return Some(Stub { reference, len });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JUMP: [u8; 6] = [0xff, 0x25, 0x10, 0, 0, 0];
    const PUSH: [u8; 10] = [0x68, 1, 0, 0, 0, 0xe9, 1, 2, 3, 4];
    const ENDBR: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
    const LOAD: [u8; 7] = [0x4c, 0x8b, 0x1d, 0x10, 0, 0, 0];

    #[test]
    fn stubs_of_each_linker() {
        let slot = |slot: u64, len: u64| Some(Stub { reference: Reference::Slot(slot), len });
        let pushed = Some(Stub { reference: Reference::Pushed(1), len: 16 });
        let cases: [(&[&[u8]], Option<Stub>); 9] = [
            (&[&JUMP, &PUSH], slot(0x1016, 16)),
            (&[&JUMP, &[0x66, 0x90]], slot(0x1016, 8)),
            (&[&ENDBR, &JUMP, &[0x66, 0x0f, 0x1f, 0x44, 0, 0]], slot(0x101a, 16)),
            (&[&ENDBR, &[0xf2], &JUMP, &[0x0f, 0x1f, 0x44, 0, 0]], slot(0x101b, 16)),
            (&[&ENDBR, &[0x41, 0xbb, 1, 0, 0, 0], &JUMP], slot(0x1020, 16)),
            (&[&LOAD, &[0xe8, 0, 0, 0, 0], &[0xe9, 0, 0, 0, 0]], slot(0x1017, 32)),
            (&[&LOAD, &[0xe9, 0, 0, 0, 0], &[0xcc; 4]], slot(0x1017, 16)),
            (&[&ENDBR, &PUSH, &[0x66, 0x90]], pushed),
            // The first one, which leads to the dynamic linker.
            (&[&[0xff, 0x35, 1, 2, 3, 4], &JUMP], None),
        ];
        for (code, expected) in cases {
            assert_eq!(decode(&code.concat(), 0x1000, true, None), expected, "{code:x?}");
        }
    }

    #[test]
    fn stubs_of_32_bit_files_are_absolute_or_relative_to_the_table() {
        let stub = |slot: u64| Some(Stub { reference: Reference::Slot(slot), len: 16 });
        assert_eq!(decode(&JUMP, 0x1000, false, None), stub(0x10));
        let by_base = [0xff, 0xa3, 0xfc, 0xff, 0xff, 0xff];
        assert_eq!(decode(&by_base, 0x1000, false, Some(0x4000)), stub(0x3ffc));
        assert_eq!(decode(&by_base, 0x1000, false, None), None);
    }

    #[test]
    fn any_bytes_end() {
        for code in [&ENDBR.repeat(10)[..], &[0xf2; 40], &JUMP[..5], &LOAD[..6], &[], &[0x68; 9]] {
            assert_eq!(decode(code, u64::MAX, true, None), None, "{code:x?}");
        }
    }
}
