//! Compares a file's table with DWARF: both step from a made-up frame at random addresses, and
//! must find the same caller.

use crate::arch::{BASE, FP, REGISTERS, Register, SP};
use crate::dwarf::{DwarfStep, DwarfUnwinder};
use crate::{CallFrames, Error, ReadAt, Registers, Rule, Step, step};

/// The result of a comparison.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// Addresses compared.
    pub addresses: u64,
    /// Addresses of these that the table omits.
    pub omitted: u64,
    /// Addresses at which the two differ.
    pub disagreements: Vec<Disagreement>,
}

/// An address at which table and DWARF differ.
#[derive(Clone, Debug)]
pub struct Disagreement {
    /// The address.
    pub address: u64,
    /// The rule of the table.
    pub rule: Rule,
    /// The step by that rule.
    pub ours: Step,
    /// The step by DWARF.
    pub theirs: DwarfStep,
}

/// Compares at `count` random addresses of functions, or at every row of a table with fewer.
/// Equal seeds choose equal addresses.
///
/// # Errors
/// See [`crate::read()`].
pub fn check(
    file: ReadAt<'_>,
    frames: &CallFrames,
    count: u64,
    seed: u64,
) -> Result<CheckReport, Error> {
    let dwarf = DwarfUnwinder::read(file)?;
    let mut report = CheckReport::default();
    if frames.table.rows <= count {
        for (address, _) in frames.table.iter() {
            report.compare(frames, &dwarf, address);
        }
        return Ok(report);
    }
    let mut ends = Vec::new();
    let mut bytes = 0u64;
    for (start, end) in dwarf.functions() {
        bytes = bytes.saturating_add(end - start);
        ends.push((bytes, end));
    }
    for number in 0..count {
        let at = mix(seed.wrapping_add(number)) % bytes.max(1);
        let Some((until, end)) = ends.get(ends.partition_point(|(until, _)| *until <= at)) else {
            continue;
        };
        report.compare(frames, &dwarf, end - (until - at));
    }
    Ok(report)
}

impl CheckReport {
    fn compare(&mut self, frames: &CallFrames, dwarf: &DwarfUnwinder, address: u64) {
        let after = frames.non_dwarf.partition_point(|range| range.start <= address);
        if after > 0 && frames.non_dwarf[after - 1].contains(&address) {
            return; // DWARF has no row here, or one that the table replaces
        }
        self.addresses += 1;
        let all = made_up_registers(address);
        let rule = frames.table.rule_at(address);
        let ours = step(&Registers::interrupted(address, all), &rule, |at| Some(made_up_word(at)));
        let theirs = dwarf.step(address, &all, &made_up_word);
        match is_same(&ours, &theirs) {
            Some(true) => {}
            Some(false) => self.disagreements.push(Disagreement { address, rule, ours, theirs }),
            None => self.omitted += 1,
        }
    }
}

/// Returns whether both steps find the same caller; `None` if the table omits the address.
fn is_same(ours: &Step, theirs: &DwarfStep) -> Option<bool> {
    Some(match (ours, theirs) {
        (Step::NotExpressible, _) => return None,
        (Step::Root, DwarfStep::Root) | (Step::NoRow, DwarfStep::NoFunction) => true,
        // The byte before a function that never returns.
        (Step::Outside, DwarfStep::NoFunction) => true,
        (Step::Caller(caller), DwarfStep::Caller(answer)) => {
            let theirs = |register: Register| answer.registers[usize::from(register.number())];
            let sp = theirs(SP) == Some(caller.sp);
            let base = caller.base.is_none() || caller.base == theirs(BASE);
            sp && base && caller.ip == answer.ra && caller.fp == theirs(FP)
        }
        _ => false,
    })
}

/// Returns registers far apart and all above sp, so that any CFA rises and no two are confused.
fn made_up_registers(seed: u64) -> [u64; REGISTERS] {
    let mut all = [0; REGISTERS];
    for (number, register) in (1..).zip(&mut all) {
        *register = 0x7000_0000_0000 + (number << 32) + (mix(seed ^ number) & 0xff_fff8);
    }
    all[usize::from(SP.number())] = 0x7000_0000_0000;
    all
}

/// Returns the word at an address: each is another address of user code, above every stack.
fn made_up_word(address: u64) -> u64 {
    0x7e00_0000_0000 + (mix(address) & 0xff_ffff_fff8)
}

/// Scatters a number: the finalizer of SplitMix64.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
