//! One row of DWARF as a [`Rule`]. What no rule expresses is a gap, counted by its reason.

use gimli::{CfaRule, Register as Column, UnwindExpression, UnwindSection};

use super::expression::{self, DwarfValue};
use super::functions::Row;
use crate::arch::{BASE, FP, RA, Register, SIGNAL_IP, SP};
use crate::omissions::Omissions;
use crate::rule::{Cfa, RegisterRule, Rule};
use crate::sections::Slice;

type DwarfRule = gimli::RegisterRule<usize>;

/// Turns a row into a rule. `with_base`: the rule also says where [`BASE`] is saved.
pub(super) fn rule_of<'a, S: UnwindSection<Slice<'a>>>(
    row: &Row,
    section: &S,
    with_base: bool,
    omissions: &mut Omissions,
) -> Rule {
    match try_rule_of(row, section, with_base) {
        Ok(rule) => rule,
        Err(reason) => {
            *reason(omissions) += 1;
            Rule::NOT_EXPRESSIBLE
        }
    }
}

/// The counter of the reason for which a row has no rule.
type Reason = fn(&mut Omissions) -> &mut u64;

fn try_rule_of<'a, S: UnwindSection<Slice<'a>>>(
    row: &Row,
    section: &S,
    with_base: bool,
) -> Result<Rule, Reason> {
    const RETURN_ADDRESS: Reason = |omissions| &mut omissions.return_address;
    let ra = row.register(Column(RA));
    if matches!(ra, Some(DwarfRule::Undefined)) {
        return Ok(Rule::ROOT);
    }
    if let Some(rule) = long_jump(row) {
        return Ok(rule);
    }
    let cfa = cfa_of(row, section)?;
    if cfa == Cfa::Signal {
        let is_usual = value_of(ra, section) == Some(DwarfValue::Register(SP, SIGNAL_IP));
        return if is_usual { Ok(Rule::SIGNAL) } else { Err(RETURN_ADDRESS) };
    }
    let column = |register: Register| row.register(Column(register.number().into()));
    let frame = Frame::of(cfa, column(SP), section).ok_or(RETURN_ADDRESS)?;
    let ra = frame
        .register_rule(ra, section)
        .filter(|ra| matches!(ra, RegisterRule::AtCfa(_) | RegisterRule::Register(_)))
        .ok_or(RETURN_ADDRESS)?;
    let no_frame_pointer: Reason = |omissions| &mut omissions.frame_pointer;
    let fp = frame.register_rule(column(FP), section).ok_or(no_frame_pointer)?;
    let base = if with_base { frame.register_rule(column(BASE), section) } else { None };
    Ok(Rule { cfa: frame.cfa, fp, base: base.unwrap_or(RegisterRule::Undefined), ra })
}

fn cfa_of<'a, S: UnwindSection<Slice<'a>>>(row: &Row, section: &S) -> Result<Cfa, Reason> {
    match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => {
            let register = Register::from_dwarf(register.0);
            let cfa = register.zip(i32::try_from(*offset).ok());
            let reason: Reason = |omissions| &mut omissions.cfa_offset;
            cfa.map(|(register, offset)| Cfa::Register(register, offset)).ok_or(reason)
        }
        CfaRule::Expression(bytes) => {
            let reason: Reason = |omissions| &mut omissions.cfa_expression;
            bytes.get(section).ok().and_then(expression::cfa).ok_or(reason)
        }
    }
}

/// Returns the rule of code that is about to jump out of its frame, like `longjmp`: ip, sp and fp
/// of the target are in other registers, and the CFA is where the rest is loaded from.
fn long_jump(row: &Row) -> Option<Rule> {
    let target = |column: u16| match row.register(Column(column)) {
        Some(DwarfRule::Register(column)) => Register::from_dwarf(column.0),
        _ => None,
    };
    let (sp, fp, ra) = (target(SP.number().into())?, target(FP.number().into())?, target(RA)?);
    Some(Rule {
        cfa: Cfa::Register(sp, 0),
        fp: RegisterRule::Register(fp),
        base: RegisterRule::Undefined,
        ra: RegisterRule::Register(ra),
    })
}

/// What the places of saved registers are relative to.
struct Frame {
    /// The caller's sp: our rules have no other CFA.
    cfa: Cfa,
    /// Bytes from DWARF's CFA to it.
    shift: i64,
}

impl Frame {
    /// Takes the caller's sp as the CFA; `None` if no rule expresses it. `sp`: DWARF's rule for sp.
    fn of<'a, S: UnwindSection<Slice<'a>>>(
        cfa: Cfa,
        sp: Option<DwarfRule>,
        section: &S,
    ) -> Option<Self> {
        let shift = match (sp, cfa) {
            (None | Some(DwarfRule::SameValue | DwarfRule::Undefined), _) => 0,
            (Some(DwarfRule::ValOffset(shift)), _) => shift,
            (Some(DwarfRule::ValExpression(bytes)), cfa) => {
                match (expression(bytes, section)?, cfa) {
                    (DwarfValue::Cfa(shift), _) => shift,
                    (DwarfValue::Register(by, to), Cfa::Register(register, from))
                        if by == register =>
                    {
                        to.checked_sub(from.into())?
                    }
                    _ => return None,
                }
            }
            _ => return None,
        };
        let cfa = match cfa {
            cfa if shift == 0 => cfa,
            Cfa::Register(register, offset) => {
                let offset = shift.checked_add(offset.into())?;
                Cfa::Register(register, offset.try_into().ok()?)
            }
            _ => return None,
        };
        Some(Self { cfa, shift })
    }

    /// Returns our rule for a register; `None` if there is none that expresses DWARF's.
    fn register_rule<'a, S: UnwindSection<Slice<'a>>>(
        &self,
        rule: Option<DwarfRule>,
        section: &S,
    ) -> Option<RegisterRule> {
        let at_cfa = |bytes: i64| RegisterRule::at_cfa(bytes.checked_sub(self.shift)?);
        match rule {
            None | Some(DwarfRule::SameValue) => Some(RegisterRule::SameValue),
            Some(DwarfRule::Undefined) => Some(RegisterRule::Undefined),
            Some(DwarfRule::Offset(bytes)) => at_cfa(bytes),
            Some(DwarfRule::Register(column)) => {
                Register::from_dwarf(column.0).map(RegisterRule::Register)
            }
            Some(DwarfRule::Expression(_)) => match (value_of(rule, section)?, self.cfa) {
                (DwarfValue::Register(FP, 0), _) => Some(RegisterRule::AtFp),
                (DwarfValue::Cfa(bytes), _) => at_cfa(bytes),
                (DwarfValue::Register(by, at), Cfa::Register(register, cfa)) if by == register => {
                    RegisterRule::at_cfa(at.checked_sub(cfa.into())?)
                }
                _ => None,
            },
            _ => None,
        }
    }
}

/// Evaluates the DWARF expression for the address at which a register is saved, if there is one.
fn value_of<'a, S: UnwindSection<Slice<'a>>>(
    rule: Option<DwarfRule>,
    section: &S,
) -> Option<DwarfValue> {
    let Some(DwarfRule::Expression(bytes)) = rule else { return None };
    expression(bytes, section)
}

/// Evaluates the expression of a register, which begins with the CFA on its stack.
fn expression<'a, S: UnwindSection<Slice<'a>>>(
    bytes: UnwindExpression<usize>,
    section: &S,
) -> Option<DwarfValue> {
    expression::evaluate(bytes.get(section).ok()?, Some(DwarfValue::Cfa(0)))
}
