//! The tables of values by address: each is a list of changes, of the value and of the address.
//!
//! Source: the Go source tree, `runtime/symtab.go` (`pcvalue`, `step`).

use std::ops::Range;

use crate::elf::FileBytes;

/// Bytes read at a time.
const BYTES_AT_ONCE: usize = 512;

/// Looks a value up. `at`: offset of the table in the file; `entry`: address of the function;
/// `work`: changes that may still be read. Returns the value, and the addresses that have it.
pub(super) fn value_at(
    file: &FileBytes,
    at: u64,
    entry: u64,
    address: u64,
    work: &mut usize,
) -> Option<(i32, Range<u64>)> {
    let mut changes = Changes { file, at, buffer: Vec::new(), read: 0 };
    let (mut value, mut start) = (-1i32, entry);
    let mut is_first = true;
    loop {
        *work = work.checked_sub(1)?;
        let change = changes.number()?;
        if change == 0 && !is_first {
            return None;
        }
        is_first = false;
        let change = if change & 1 != 0 { !(change >> 1) } else { change >> 1 };
        value = value.wrapping_add(change as i32);
        let end = start.checked_add(changes.number()?.into())?;
        if address < end {
            return (address >= start).then_some((value, start..end));
        }
        start = end;
    }
}

/// Numbers of variable length, read piece by piece.
struct Changes<'a> {
    file: &'a FileBytes,
    at: u64,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were used.
    read: usize,
}

impl Changes<'_> {
    fn number(&mut self) -> Option<u32> {
        let mut number = 0u32;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            number |= u32::from(byte & 0x7f).wrapping_shl(shift);
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn byte(&mut self) -> Option<u8> {
        if self.read == self.buffer.len() {
            self.buffer = self.file.read_up_to(self.at, BYTES_AT_ONCE);
            self.at = self.at.checked_add(self.buffer.len() as u64)?;
            self.read = 0;
        }
        let byte = self.buffer.get(self.read).copied();
        self.read += 1;
        byte
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_hold_up_to_the_next_change() {
        // -1 + 11 for 5 bytes, 10 - 3 for 200, then the end.
        let file = FileBytes::from_memory(vec![22, 5, 5, 0xc8, 1, 0]);
        let value = |address| value_at(&file, 0, 0x1000, address, &mut 100);
        assert_eq!(value(0x1000), Some((10, 0x1000..0x1005)));
        assert_eq!(value(0x1005), Some((7, 0x1005..0x10cd)));
        assert_eq!(value(0x10cc), Some((7, 0x1005..0x10cd)));
        assert_eq!((value(0x10cd), value(0xfff)), (None, None));
    }

    #[test]
    fn tables_without_an_end_take_a_bounded_time() {
        let file = FileBytes::from_memory([1, 0].repeat(1 << 20));
        assert_eq!(value_at(&file, 0, 0, 5, &mut 1000), None);
        let numbers = FileBytes::from_memory(vec![0x80; 100]);
        assert_eq!(value_at(&numbers, 0, 0, 5, &mut 1000), None);
    }
}
