//! Functions that leave for a frame further out: `_Unwind_RaiseException` and its kin.
//!
//! To leave, such a function has another copy what the frame of the landing pad has saved over what
//! its own frame has saved, and then jumps with another stack pointer. Until it has jumped, its
//! call frames are wrong: they find the values of one frame at the places of another. So the code
//! from the call that copies to the jump has no rule. gcc makes such a function of each that uses
//! `__builtin_eh_return`, and describes that it also saves the registers of results, which no other
//! function does.

use std::ops::Range;

use memchr::memmem;

use super::functions::Row;
use crate::arch::{CALL, CALL_BYTES, EH_RETURN_COLUMNS, STACK_SWITCHES};
use crate::code_reader::ReadCode;
use crate::rule::Rule;

/// Bytes of code of one function that are searched; in libgcc it has less than 1 KiB.
const CODE_MAX: u64 = 16 << 10;
/// Functions of one file whose code is read; libgcc has four.
pub(super) const FUNCTIONS_MAX: u32 = 64;
/// Jumps with another stack pointer in one function, and bytes before one in which the calls are.
const JUMPS_MAX: usize = 4;
const CALLS_WITHIN: usize = 512;
/// Functions begin at multiples of this; where they do not, as with `-Os`, no call is found, and
/// the rules stay.
const FUNCTION_ALIGNMENT: u64 = 16;

/// Returns whether a row is one of a function that leaves for a frame further out.
pub(super) fn saves_results(row: &Row) -> bool {
    let is_saved = |column: &u16| {
        let rule = row.register(gimli::Register(*column));
        matches!(rule, Some(gimli::RegisterRule::Offset(_)))
    };
    EH_RETURN_COLUMNS.iter().all(is_saved)
}

/// Removes the rules from the code of a function that overwrites its own frame. Returns how many
/// parts of it these are.
pub(super) fn omit(rows: &mut Vec<(u64, Rule)>, function: Range<u64>, code: ReadCode<'_>) -> u64 {
    let end = function.end.min(function.start.saturating_add(CODE_MAX));
    let bytes = code(function.start..end).unwrap_or_default();
    let is_code = |at: u64| code(at..at.saturating_add(1)).is_some_and(|byte| !byte.is_empty());
    let parts = overwriting(&bytes, function.start, &is_code);
    for part in &parts {
        let in_force = rows.iter().rev().find(|(at, _)| *at <= part.end).map(|(_, rule)| *rule);
        rows.retain(|(at, _)| !(part.start..=part.end).contains(at));
        let at = rows.partition_point(|(at, _)| *at < part.start);
        let after = in_force.map(|rule| (part.end, rule));
        rows.splice(at..at, [(part.start, Rule::NOT_EXPRESSIBLE)].into_iter().chain(after));
    }
    parts.len() as u64
}

/// Finds the code that overwrites the frame, each from the last byte of the call that copies, by
/// which its return address is looked up, to the end of the jump. `start`: address of the code;
/// `is_code`: whether the file has code at an address.
///
/// That call is the second last: the last one tells debuggers where execution goes on.
fn overwriting(code: &[u8], start: u64, is_code: &dyn Fn(u64) -> bool) -> Vec<Range<u64>> {
    let mut parts = Vec::new();
    for switch in STACK_SWITCHES {
        for at in memmem::find_iter(code, switch).take(JUMPS_MAX) {
            let first = at.saturating_sub(CALLS_WITHIN);
            let calls = (first..at.saturating_sub(CALL_BYTES - 1)).rev();
            let mut calls = calls.filter(|call| called(code, start, *call).is_some_and(is_code));
            let Some(call) = calls.next().map(|last| calls.next().unwrap_or(last)) else {
                continue;
            };
            let end = at + switch.len();
            parts.push(start + (call + CALL_BYTES - 1) as u64..start + end as u64);
        }
    }
    parts.sort_by_key(|part| part.start);
    parts
}

/// Returns the function that code calls at an offset; `None` if no call is there.
fn called(code: &[u8], start: u64, at: usize) -> Option<u64> {
    let [CALL, distance @ ..] = code.get(at..at + CALL_BYTES)? else { return None };
    let distance = i32::from_le_bytes(distance.try_into().ok()?);
    let next = start.wrapping_add((at + CALL_BYTES) as u64);
    let function = next.wrapping_add_signed(distance.into());
    function.is_multiple_of(FUNCTION_ALIGNMENT).then_some(function)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::SP;
    use crate::rule::{Cfa, RegisterRule};

    const START: u64 = 0x1_0000;

    fn rule(height: i32) -> Rule {
        let (fp, base) = (RegisterRule::SameValue, RegisterRule::Undefined);
        Rule { cfa: Cfa::Register(SP, height), fp, base, ra: RegisterRule::SAVED_RA }
    }

    /// Returns code with calls of its own start at these places.
    fn code(calls: &[usize], exit: (usize, &[u8])) -> Vec<u8> {
        let mut code = vec![0x90; 256];
        for call in calls {
            code[*call] = CALL;
            let distance = -(*call as i32 + CALL_BYTES as i32);
            code[call + 1..call + CALL_BYTES].copy_from_slice(&distance.to_le_bytes());
        }
        code[exit.0..exit.0 + exit.1.len()].copy_from_slice(exit.1);
        code
    }

    #[test]
    fn code_from_the_call_that_copies_to_the_jump_has_no_rule() {
        for switch in STACK_SWITCHES {
            let mut code = code(&[16, 64, 100], (160, switch));
            code[130..140].copy_from_slice(&[0x4c, 0x8b, 0x6d, CALL, 0x4c, 0x8b, 0x75, 0xf0, 0, 0]);
            let read = |range: Range<u64>| {
                let from = (range.start - START) as usize;
                code.get(from..(range.end - START) as usize).map(<[u8]>::to_vec)
            };
            let mut rows = vec![(START, rule(8)), (START + 80, rule(16)), (START + 120, rule(24))];
            let parts = omit(&mut rows, START..START + 256, &read);
            let end = START + 160 + switch.len() as u64;
            let omitted = (START + 68, Rule::NOT_EXPRESSIBLE);
            assert_eq!((parts, rows), (1, vec![(START, rule(8)), omitted, (end, rule(24))]));
        }
    }

    #[test]
    fn code_without_a_jump_or_a_call_keeps_its_rules() {
        let without_jump = code(&[16, 64], (160, &[]));
        let without_call = code(&[], (160, STACK_SWITCHES[0]));
        let within = [&[CALL, 1, 0, 0, 0], STACK_SWITCHES[0]].concat();
        for code in [without_jump, without_call, within, Vec::new()] {
            assert_eq!(overwriting(&code, START, &|_| true), []);
        }
        let mut rows = vec![(START, rule(8))];
        assert_eq!(omit(&mut rows, START..START + 256, &|_| None), 0);
        assert_eq!(rows, [(START, rule(8))]);
    }
}
