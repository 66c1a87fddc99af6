//! The addresses that the code and data of a file mention, found without following any path.
//!
//! All code is decoded from one end to the other. Where data lies between functions, a few of the
//! instructions found are none; so what is found here is a hint, to be confirmed.

use std::collections::BTreeSet;
use std::ops::{Bound, Range};

use iced_x86::{Instruction, OpKind, Register};

use super::addresses::Addresses;
use super::code::Code;
use super::flow::Flow;
use super::image::Image;
use super::prologue::FramedStart;
use crate::elf::Elf;

/// Data at computed addresses that is kept.
const ACCESSED_MAX: usize = 1 << 20;

/// Addresses that a file mentions.
#[derive(Debug, Default)]
pub(super) struct Mentions {
    /// Targets of calls.
    pub calls: Addresses,
    /// Targets of jumps out of a function.
    pub exits: Addresses,
    /// Code whose address is taken, by code or data.
    pub code: Addresses,
    /// Code behind the end of other code that sets up a frame pointer: functions begin so.
    pub framed: Addresses,
    /// Data whose address is taken by code.
    data: Addresses,
    /// Data at an address that code computes, found by following the code.
    accessed: BTreeSet<u64>,
}

impl Mentions {
    /// Decodes code. `boundaries`, ascending: addresses at which an instruction begins.
    /// `stretches`: what is decoded. `region`: where the code is that is of interest.
    pub fn read(
        elf: &Elf<'_>,
        code: &mut Code<'_>,
        image: &Image,
        boundaries: &[u64],
        stretches: &[Range<u64>],
        region: &Range<u64>,
    ) -> Self {
        let mut mentions = Self::default();
        for range in stretches {
            let from = boundaries.partition_point(|address| *address <= range.start);
            let to = boundaries.partition_point(|address| *address < range.end);
            let mut start = range.start;
            let within = boundaries.get(from..to).unwrap_or_default();
            for boundary in within.iter().copied().chain([range.end]) {
                mentions.note_stretch(code, elf.has_fixed_addresses(), start..boundary);
                start = boundary;
            }
        }
        let in_data = Image::within(&image.mentioned, region);
        in_data.iter().for_each(|address| mentions.code.insert(*address));
        let Self { calls, exits, code: mentioned, framed, data, .. } = &mut mentions;
        for addresses in [calls, exits, mentioned, framed, data] {
            addresses.sort();
        }
        mentions
    }

    /// Returns the first data after an address that code refers to.
    pub fn data_after(&self, address: u64) -> Option<u64> {
        let mentioned = self.data.after(address);
        let accessed = self.accessed.range((Bound::Excluded(address), Bound::Unbounded)).next();
        mentioned.into_iter().chain(accessed.copied()).min()
    }

    /// Returns the first address after another at which a function may begin, or `u64::MAX`.
    pub fn code_after(&self, address: u64) -> u64 {
        let next = self.calls.after(address).into_iter().chain(self.code.after(address));
        next.min().unwrap_or(u64::MAX)
    }

    /// Adds data at an address that code computes.
    pub fn insert_accessed(&mut self, address: u64) {
        if self.accessed.len() < ACCESSED_MAX {
            self.accessed.insert(address);
        }
    }

    fn note_stretch(&mut self, code: &mut Code<'_>, is_fixed: bool, stretch: Range<u64>) {
        let Some(mut at) = code.instructions(stretch.start) else { return };
        let mut instruction = Instruction::default();
        let mut prologue = FramedStart::default();
        while at.at < stretch.end {
            let address = at.at;
            if code.next(&mut at, &mut instruction).is_some() {
                self.note(code, is_fixed, &stretch, &instruction);
                prologue.advance(&instruction).into_iter().for_each(|at| self.framed.insert(at));
            } else {
                at.at = address + 1;
            }
        }
    }

    fn note(
        &mut self,
        code: &Code<'_>,
        is_fixed: bool,
        stretch: &Range<u64>,
        instruction: &Instruction,
    ) {
        match Flow::of(instruction) {
            Flow::Call if instruction.op0_kind() == OpKind::NearBranch64 => {
                if code.contains(instruction.near_branch64()) {
                    self.calls.insert(instruction.near_branch64());
                }
                return;
            }
            // To another function, or to another part of this one.
            Flow::Jump(target) | Flow::Condition(target) => {
                if !stretch.contains(&target) && code.contains(target) {
                    self.exits.insert(target);
                }
                return;
            }
            _ => {}
        }
        for address in mentioned(instruction, is_fixed).into_iter().flatten() {
            let is_code = code.contains(address);
            if is_code { &mut self.code } else { &mut self.data }.insert(address);
        }
    }
}

/// Returns the addresses that an instruction mentions as an operand: relative to itself, or if the
/// file `is_fixed`, as a constant or in an address with an index.
fn mentioned(instruction: &Instruction, is_fixed: bool) -> [Option<u64>; 2] {
    if instruction.is_ip_rel_memory_operand() {
        return [Some(instruction.ip_rel_memory_address()), None];
    }
    if !is_fixed {
        return [None, None];
    }
    let constant = (0..instruction.op_count()).find_map(|operand| {
        let kind = instruction.op_kind(operand);
        matches!(kind, OpKind::Immediate32 | OpKind::Immediate32to64 | OpKind::Immediate64)
            .then(|| instruction.immediate(operand))
    });
    let has_array =
        instruction.memory_index() != Register::None && instruction.memory_displ_size() >= 4;
    [constant, has_array.then(|| instruction.memory_displacement64())]
}
