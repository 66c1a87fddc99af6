//! The result of a comparison of derived rows with call-frame information.

use std::collections::BTreeMap;

use crate::derived::reason::Reason;
use crate::dwarf::DwarfStep;
use crate::{Rule, Step};

/// The result of a comparison, in instructions that call-frame information covers.
#[derive(Clone, Debug, Default)]
pub struct DerivedReport {
    /// All of them.
    pub instructions: u64,
    /// The derived row finds the same caller.
    pub equal: u64,
    /// Call-frame information cannot be evaluated.
    pub not_comparable: u64,
    /// The derived row follows from what call-frame information says of the instruction before, and
    /// it says something else here.
    pub inconsistent: u64,
    /// There is no derived row, by reason.
    pub given_up: BTreeMap<Reason, u64>,
    /// The derived row finds another caller.
    pub wrong: Vec<DerivedDifference>,
}

/// An instruction at which a derived row and DWARF differ.
#[derive(Clone, Debug)]
pub struct DerivedDifference {
    /// Its address.
    pub address: u64,
    /// The derived rule.
    pub rule: Rule,
    /// The step by that rule.
    pub ours: Step,
    /// The step by DWARF.
    pub theirs: DwarfStep,
}
