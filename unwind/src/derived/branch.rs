//! What a conditional branch says of the values that were compared before it.

use iced_x86::{ConditionCode, Instruction};

use super::state::{Bound, Comparison, State};
use crate::arch::Register;

/// The two ways on from a conditional branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Taken,
    NotTaken,
}

/// Applies what is known on one way from a conditional branch. Returns whether it is possible.
pub(super) fn refine(state: &mut State, branch: &Instruction, way: Way) -> bool {
    let is_taken = way == Way::Taken;
    let condition = branch.condition_code();
    match state.comparison {
        Some(Comparison::WithConstant(value, limit)) => {
            let max = match (condition, is_taken) {
                (ConditionCode::be, true) | (ConditionCode::a, false) => Some(limit),
                (ConditionCode::b, true) | (ConditionCode::ae, false) => limit.checked_sub(1),
                (ConditionCode::e, true) | (ConditionCode::ne, false) => Some(limit),
                _ => None,
            };
            if let Some(max) = max {
                state.set_bound(value, Bound { max, is_compared: true });
            }
            true
        }
        Some(Comparison::OfRegisters(one, other)) => {
            let is_equal = matches!(
                (condition, is_taken),
                (ConditionCode::e, true) | (ConditionCode::ne, false)
            );
            !is_equal || equate(state, one, other)
        }
        None => true,
    }
}

/// Applies that two registers are equal. Returns whether they can be. A stack that is probed page
/// by page ends where another register says.
fn equate(state: &mut State, one: Register, other: Register) -> bool {
    let (a, b) = (state.get(one), state.get(other));
    match (a.cfa_offset(), b.cfa_offset()) {
        (Some(a), Some(b)) => return a == b,
        (Some(_), None) => state.set(other, a),
        (None, Some(_)) => state.set(one, b),
        (None, None) => {}
    }
    true
}
