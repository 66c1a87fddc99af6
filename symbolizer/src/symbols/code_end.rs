//! Where a function ends that has neither a size nor call frames, by its instructions.
//!
//! It ends with an instruction that does not go on to the next one, where none of its jumps leads
//! behind it. A file without local symbols may have any other function there.

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl};

use crate::elf::ElfFile;

/// Bytes of code that are decoded.
const CODE_MAX: u64 = 8 << 10;
/// Bytes of the longest instruction.
const INSTRUCTION_MAX: usize = 15;
/// Bytes of the shortest jump. Assemblers use it for the labels of a file alone, so that it leads
/// to the same function, where a longer one may lead to the next.
const SHORT_JUMP: usize = 2;

/// Returns whether the function that begins at `start` goes on up to an address behind it.
pub(super) fn contains(elf: &ElfFile, start: u64, address: u64) -> bool {
    if address.wrapping_sub(start) >= CODE_MAX {
        return false;
    }
    let code = elf.loaded(start, (address - start) as usize + INSTRUCTION_MAX);
    let bits = if elf.is_64_bit() { 64 } else { 32 };
    let mut decoder = Decoder::with_ip(bits, &code, start, DecoderOptions::NONE);
    let mut reached = start;
    while decoder.can_decode() && decoder.ip() <= address {
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            return false;
        }
        let ends = match instruction.flow_control() {
            FlowControl::ConditionalBranch => {
                reached = reached.max(instruction.near_branch_target());
                false
            }
            FlowControl::UnconditionalBranch => {
                if instruction.len() == SHORT_JUMP {
                    reached = reached.max(instruction.near_branch_target());
                }
                true
            }
            FlowControl::IndirectBranch | FlowControl::Return | FlowControl::Exception => true,
            _ => instruction.code() == Code::Hlt,
        };
        if ends && reached < instruction.next_ip() {
            return address < instruction.next_ip();
        }
    }
    address < decoder.ip()
}
