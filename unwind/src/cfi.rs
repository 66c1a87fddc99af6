//! Turns the call-frame information of one section into the rows of a table.
//!
//! `.eh_frame` and `.debug_frame` hold one entry (FDE) for each function, in any order. They
//! are sorted by address first, and then only one function's rows are in memory at a time.
//! What cannot be said as a [`Rule`] leaves a gap and is counted; it never costs other rows.
//!
//! Source: DWARF 5 section 6.4, LSB 5.0 chapter 10.6.

use std::collections::HashMap;
use std::ops::Range;

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, CommonInformationEntry, LittleEndian, Register as Column,
    RegisterRule, UnwindContext, UnwindExpression, UnwindOffset, UnwindSection, UnwindTableRow,
};

use crate::arch::{BASE, FP, RA, Register, SIGNAL_IP, SP};
use crate::expression;
use crate::known_code::{Known, Search};
use crate::rule::{Cfa, Rule, Saved};
use crate::table::TableBuilder;

pub(crate) type Slice<'a> = gimli::EndianSlice<'a, LittleEndian>;
type Row = UnwindTableRow<usize>;

/// FDEs read from one section: 24 bytes each while it is read.
const FUNCTIONS_MAX: usize = 1 << 21;
/// Bytes of instructions run, as a multiple of the section's. Every FDE runs those of its CIE
/// too, so a hostile file could ask for the square of its size.
const WORK_MAX: usize = 32;
/// Padding up to this alignment of the next function is no gap between functions.
const ALIGNMENT_MAX: u64 = 64;

/// What of a file is not in its table, by reason, in rows; for functions that could not be
/// read at all, one each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// FDEs or CIEs that make no sense.
    pub malformed: u64,
    /// The CFA needs an expression that is not known.
    pub cfa_expression: u64,
    /// The CFA is further from its register than fits.
    pub cfa_offset: u64,
    /// The return address or sp is where no rule can say.
    pub return_address: u64,
    /// The frame pointer is where no rule can say.
    pub frame_pointer: u64,
    /// More rows or rules in one place than fit.
    pub crowded_out: u64,
    /// The section is larger or takes more work than is allowed.
    pub limit: u64,
}

impl LeftOut {
    /// Each reason and its count.
    pub fn by_reason(&self) -> [(&'static str, u64); 7] {
        [
            ("malformed", self.malformed),
            ("CFA expression", self.cfa_expression),
            ("CFA offset", self.cfa_offset),
            ("return address", self.return_address),
            ("frame pointer", self.frame_pointer),
            ("crowded out", self.crowded_out),
            ("limit", self.limit),
        ]
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.by_reason().iter().map(|(_, count)| count).sum()
    }
}

/// What reading a section came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Functions with rows.
    pub functions: u64,
    /// Rows as the file has them, before equal neighbours are merged.
    pub rows: u64,
    /// What is missing.
    pub left_out: LeftOut,
    /// Whether some CFA is kept in [`BASE`].
    pub needs_base: bool,
    /// What is known of code that the section says nothing about.
    pub known: Vec<Known>,
}

/// One FDE.
#[derive(Clone, Copy, Debug)]
struct Function<O> {
    start: u64,
    end: u64,
    at: O,
}

/// Reads a section into a table. `bases`: where its pointers are relative to.
/// `text`: addresses outside of it belong to functions that the linker has dropped.
/// `with_base`: rules also say where [`BASE`] is saved. `search`: finds rules for what lies between functions.
pub(crate) fn read<'a, S>(
    section: &S,
    bases: &BaseAddresses,
    text: Range<u64>,
    with_base: bool,
    mut search: Search<'_>,
    table: &mut TableBuilder,
) -> Found
where
    S: UnwindSection<Slice<'a>>,
    S::Offset: UnwindOffset<usize> + std::hash::Hash,
{
    let mut found = Found::default();
    let mut cies = Cies { section, bases, by_offset: HashMap::new(), last: None };
    let mut functions = functions(&mut cies, &text, &mut found.left_out);
    if !functions.is_sorted_by_key(|function| function.start) {
        functions.sort_by_key(|function| function.start);
    }
    functions.dedup_by_key(|function| function.start);

    let mut work = section.section().len().saturating_mul(WORK_MAX);
    let mut context = UnwindContext::new();
    let first = functions.first().map_or(text.end, |function| function.start);
    found.take_gap(&mut search, table, text.start..first);
    for (at, function) in functions.iter().enumerate() {
        let next = functions.get(at + 1).map_or(text.end, |next| next.start);
        let end = function.end.min(next);
        let rows = cies.rows(function, &mut context, &mut work, |start, row| {
            if start < end {
                found.rows += 1;
                let rule = rule_of(row, section, with_base, &mut found);
                table.push(start, rule);
            }
        });
        found.functions += 1;
        if let Err(reason) = rows {
            match reason {
                Failure::Malformed => found.left_out.malformed += 1,
                Failure::Limit => found.left_out.limit += 1,
            }
            table.push(function.start, Rule::NOT_EXPRESSIBLE);
        }
        found.take_gap(&mut search, table, end..next);
    }
    found
}

impl Found {
    /// Ends the function before a gap, and says what is known of the gap.
    fn take_gap(&mut self, search: &mut Search<'_>, table: &mut TableBuilder, gap: Range<u64>) {
        let known = search.gap(gap.clone());
        if known.is_empty() && is_padding(gap.start, gap.end) {
            return;
        }
        if known.first().is_none_or(|known| known.range.start > gap.start) {
            table.push(gap.start, Rule::NO_ROW);
        }
        for Known { range, rule } in &known {
            table.push(range.start, *rule);
            table.push(range.end, Rule::NO_ROW);
        }
        self.known.extend(known);
    }
}

/// Says whether what lies between two functions is only there to align the second.
fn is_padding(end: u64, next: u64) -> bool {
    let alignment = (1u64 << next.trailing_zeros().min(63)).min(ALIGNMENT_MAX);
    next - end < alignment
}

enum Failure {
    Malformed,
    Limit,
}

/// The section with its CIEs, which many FDEs share, parsed once.
struct Cies<'s, 'a, S: UnwindSection<Slice<'a>>> {
    section: &'s S,
    bases: &'s BaseAddresses,
    by_offset: HashMap<S::Offset, CommonInformationEntry<Slice<'a>>>,
    last: Option<(S::Offset, CommonInformationEntry<Slice<'a>>)>,
}

impl<'a, S> Cies<'_, 'a, S>
where
    S: UnwindSection<Slice<'a>>,
    S::Offset: UnwindOffset<usize> + std::hash::Hash,
{
    fn get(&mut self, at: S::Offset) -> gimli::Result<CommonInformationEntry<Slice<'a>>> {
        if let Some((_, cie)) = self.last.as_ref().filter(|(last, _)| *last == at) {
            return Ok(cie.clone());
        }
        let cie = match self.by_offset.get(&at) {
            Some(cie) => cie.clone(),
            None => self.section.cie_from_offset(self.bases, at)?,
        };
        self.by_offset.insert(at, cie.clone());
        self.last = Some((at, cie.clone()));
        Ok(cie)
    }

    /// Gives each row of a function, until `work` is used up.
    fn rows(
        &mut self,
        function: &Function<S::Offset>,
        context: &mut UnwindContext<usize>,
        work: &mut usize,
        mut take: impl FnMut(u64, &Row),
    ) -> Result<(), Failure> {
        let (section, bases) = (self.section, self.bases);
        let malformed = |_| Failure::Malformed;
        let fde = section
            .fde_from_offset(bases, function.at, |_, _, at| self.get(at))
            .map_err(malformed)?;
        let cost = fde.entry_len() + fde.cie().entry_len();
        *work = work.checked_sub(cost).ok_or(Failure::Limit)?;
        let mut rows = fde.rows(section, bases, context).map_err(malformed)?;
        let mut last = 0;
        while let Some(row) = rows.next_row().map_err(malformed)? {
            if row.start_address() < last {
                return Err(Failure::Malformed);
            }
            last = row.start_address();
            take(last, row);
        }
        Ok(())
    }
}

/// Lists the functions of a section that lie in the text.
fn functions<'a, S>(
    cies: &mut Cies<'_, 'a, S>,
    text: &Range<u64>,
    left_out: &mut LeftOut,
) -> Vec<Function<S::Offset>>
where
    S: UnwindSection<Slice<'a>>,
    S::Offset: UnwindOffset<usize> + std::hash::Hash,
{
    let mut functions = Vec::new();
    let mut entries = cies.section.entries(cies.bases);
    loop {
        match entries.next() {
            Ok(None) => break,
            Ok(Some(CieOrFde::Cie(_))) => {}
            Ok(Some(CieOrFde::Fde(partial))) => {
                let at = S::Offset::from(partial.offset());
                match partial.parse(|_, _, at| cies.get(at)) {
                    Ok(fde) if text.contains(&fde.initial_address()) && fde.len() > 0 => {
                        let start = fde.initial_address();
                        let end = start.saturating_add(fde.len()).min(text.end);
                        functions.push(Function { start, end, at });
                    }
                    Ok(_) => {}
                    Err(_) => left_out.malformed += 1,
                }
            }
            Err(_) => {
                left_out.malformed += 1; // where the next entry begins is not known
                break;
            }
        }
        if functions.len() == FUNCTIONS_MAX {
            left_out.limit += 1;
            break;
        }
    }
    functions
}

/// Says a row as a rule. What cannot be said is a gap, counted.
fn rule_of<'a, S: UnwindSection<Slice<'a>>>(
    row: &Row,
    section: &S,
    with_base: bool,
    found: &mut Found,
) -> Rule {
    let left_out = &mut found.left_out;
    let ra = match row.register(Column(RA)) {
        Some(RegisterRule::Undefined) => return Rule::BOTTOM,
        rule => rule,
    };
    let cfa = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => {
            match Register::from_dwarf(register.0).zip(i32::try_from(*offset).ok()) {
                Some((register, offset)) => Cfa::Register(register, offset),
                None => {
                    left_out.cfa_offset += 1;
                    return Rule::NOT_EXPRESSIBLE;
                }
            }
        }
        CfaRule::Expression(bytes) => match bytes.get(section).ok().and_then(expression::cfa) {
            Some(cfa) => cfa,
            None => {
                left_out.cfa_expression += 1;
                return Rule::NOT_EXPRESSIBLE;
            }
        },
    };
    if cfa == Cfa::Signal {
        let is_usual = |rule| matches!(address_in(rule, section), Some((SP, SIGNAL_IP)));
        return if is_usual(ra) {
            Rule::SIGNAL
        } else {
            left_out.return_address += 1;
            Rule::NOT_EXPRESSIBLE
        };
    }
    found.needs_base |=
        matches!(cfa, Cfa::Register(BASE, _) | Cfa::AtRegister { register: BASE, .. });
    let sp_is_cfa = row.register(Column(SP.number().into())).is_none_or(|rule| {
        matches!(
            rule,
            RegisterRule::SameValue | RegisterRule::Undefined | RegisterRule::ValOffset(0)
        )
    });
    let (Some(ra @ (Saved::AtCfa(_) | Saved::In(_))), true) = (saved(ra, section), sp_is_cfa)
    else {
        left_out.return_address += 1;
        return Rule::NOT_EXPRESSIBLE;
    };
    let Some(fp) = saved(row.register(Column(FP.number().into())), section) else {
        left_out.frame_pointer += 1;
        return Rule::NOT_EXPRESSIBLE;
    };
    let base = match with_base {
        true => {
            saved(row.register(Column(BASE.number().into())), section).unwrap_or(Saved::Unknown)
        }
        false => Saved::Unknown,
    };
    Rule { cfa, fp, base, ra }
}

/// Says where a register is; `None` when there is no word for it.
fn saved<'a, S: UnwindSection<Slice<'a>>>(
    rule: Option<RegisterRule<usize>>,
    section: &S,
) -> Option<Saved> {
    match rule {
        None | Some(RegisterRule::SameValue) => Some(Saved::Same),
        Some(RegisterRule::Undefined) => Some(Saved::Unknown),
        Some(RegisterRule::Offset(bytes)) => Saved::at_cfa(bytes),
        Some(RegisterRule::Register(column)) => Register::from_dwarf(column.0).map(Saved::In),
        Some(RegisterRule::Expression(_)) => match address_in(rule, section) {
            Some((FP, 0)) => Some(Saved::AtFp),
            _ => None,
        },
        _ => None,
    }
}

/// Gives the address at which a register is saved when it is told as `register + offset`.
fn address_in<'a, S: UnwindSection<Slice<'a>>>(
    rule: Option<RegisterRule<usize>>,
    section: &S,
) -> Option<(Register, i64)> {
    let Some(RegisterRule::Expression(bytes)) = rule else { return None };
    let bytes: UnwindExpression<usize> = bytes;
    expression::address(bytes.get(section).ok()?)
}
