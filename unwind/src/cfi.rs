//! The layer of call-frame information: one section's functions and their rows.
//!
//! `.eh_frame` and `.debug_frame` hold one entry (FDE) for each function, in any order. They
//! are sorted by address first, and then only one function's rows are in memory at a time.
//! What cannot be said as a [`Rule`] leaves a gap and is counted; it never costs other rows.
//!
//! Source: DWARF 5 section 6.4, LSB 5.0 chapter 10.6.

use std::collections::HashMap;
use std::ops::Range;

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, CommonInformationEntry, FrameDescriptionEntry, LittleEndian,
    Register as Column, UnwindContext, UnwindExpression, UnwindOffset, UnwindSection,
    UnwindTableRow,
};

use crate::arch::{BASE, FP, RA, Register, SIGNAL_IP, SP};
use crate::expression;
use crate::layers::{Layer, LayerStats};
use crate::rule::{Cfa, RegisterRule, Rule};

pub(crate) type Slice<'a> = gimli::EndianSlice<'a, LittleEndian>;
type Row = UnwindTableRow<usize>;

/// FDEs read from one section: 24 bytes each while it is read.
const FUNCTIONS_MAX: usize = 1 << 21;
/// Bytes of an entry's length, which it does not count.
const LENGTH_BYTES: usize = 4;
/// Bytes of instructions run, as a multiple of the section's. Every FDE runs those of its CIE
/// too, so a hostile file could ask for the square of its size.
const WORK_MAX: usize = 32;

/// What of a file is not in its table, by reason, in rows; for functions that could not be
/// read at all, one each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Omissions {
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
    pub block_full: u64,
    /// The section is larger or takes more work than is allowed.
    pub limit: u64,
}

impl Omissions {
    /// Each reason and its count.
    pub fn by_reason(&self) -> [(&'static str, u64); 7] {
        [
            ("malformed", self.malformed),
            ("CFA expression", self.cfa_expression),
            ("CFA offset", self.cfa_offset),
            ("return address", self.return_address),
            ("frame pointer", self.frame_pointer),
            ("block full", self.block_full),
            ("limit", self.limit),
        ]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.malformed += other.malformed;
        self.cfa_expression += other.cfa_expression;
        self.cfa_offset += other.cfa_offset;
        self.return_address += other.return_address;
        self.frame_pointer += other.frame_pointer;
        self.block_full += other.block_full;
        self.limit += other.limit;
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.by_reason().iter().map(|(_, count)| count).sum()
    }
}

/// One FDE.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Function<O> {
    pub start: u64,
    end: u64,
    at: O,
}

/// The layer of one section of call-frame information.
pub(crate) struct CallFrameLayer<'s, 'a, S>
where
    S: UnwindSection<Slice<'a>>,
{
    section: &'s S,
    cies: Cies<'s, 'a, S>,
    /// Sorted, at most one at an address.
    functions: Vec<Function<S::Offset>>,
    /// The one after that which was given last.
    next: usize,
    /// Where a function ends that was given is the start of the next, if they overlap.
    last: Range<u64>,
    context: UnwindContext<usize>,
    /// Bytes of instructions that may still be run.
    work: usize,
    with_base: bool,
    /// Whether some CFA is kept in [`BASE`].
    pub needs_base: bool,
    seen: LayerStats,
}

impl<'s, 'a, S> CallFrameLayer<'s, 'a, S>
where
    S: UnwindSection<Slice<'a>>,
    S::Offset: UnwindOffset<usize> + std::hash::Hash,
{
    /// Lists the functions of a section. `bases`: where its pointers are relative to. `text`: addresses
    /// outside of it belong to functions that the linker has dropped. `with_base`: rules also say where
    /// [`BASE`] is saved.
    pub fn new(
        section: &'s S,
        bases: &'s BaseAddresses,
        text: Range<u64>,
        with_base: bool,
    ) -> Self {
        let mut cies = Cies::new(section, bases);
        let mut omissions = Omissions::default();
        let mut functions = functions(&mut cies, &text, &mut omissions);
        if !functions.is_sorted_by_key(|function| function.start) {
            functions.sort_by_key(|function| function.start);
        }
        let work = section.section().len().saturating_mul(WORK_MAX);
        let mut layer = Self::of(section, bases, functions, work, with_base);
        (layer.cies, layer.seen.omissions) = (cies, omissions);
        layer
    }

    /// Takes some functions of a section, sorted by address. `work`: bytes of instructions that may be run.
    pub fn of(
        section: &'s S,
        bases: &'s BaseAddresses,
        mut functions: Vec<Function<S::Offset>>,
        work: usize,
        with_base: bool,
    ) -> Self {
        functions.dedup_by_key(|function| function.start);
        Self {
            section,
            cies: Cies::new(section, bases),
            functions,
            next: 0,
            last: 0..0,
            context: UnwindContext::new(),
            work,
            with_base,
            needs_base: false,
            seen: LayerStats::default(),
        }
    }
}

impl<'a, S> Layer for CallFrameLayer<'_, 'a, S>
where
    S: UnwindSection<Slice<'a>>,
    S::Offset: UnwindOffset<usize> + std::hash::Hash,
{
    fn next(&mut self, stretch: Range<u64>) -> Option<Range<u64>> {
        while self.functions.get(self.next)?.start < stretch.start {
            self.next += 1;
        }
        let function = &self.functions[self.next];
        if function.start >= stretch.end {
            return None;
        }
        let after = self.functions.get(self.next + 1).map_or(stretch.end, |next| next.start);
        self.next += 1;
        self.seen.functions += 1;
        self.last = function.start..function.end.min(after).min(stretch.end);
        Some(self.last.clone())
    }

    fn rows(&mut self, push: &mut dyn FnMut(u64, Rule)) {
        let Self { section, cies, context, work, with_base, needs_base, seen, last, .. } = self;
        let Some(function) = self.functions.get(self.next.wrapping_sub(1)) else { return };
        let mut at = function.start;
        let done = cies.rows(function, context, work, |start, row| {
            if start < last.end {
                at = start;
                seen.rows += 1;
                let (rule, base) = rule_of(row, *section, *with_base, &mut seen.omissions);
                *needs_base |= base;
                push(start, rule);
            }
        });
        if let Err(reason) = done {
            match reason {
                Failure::Malformed => seen.omissions.malformed += 1,
                Failure::Limit => seen.omissions.limit += 1,
            }
            push(at, Rule::NOT_EXPRESSIBLE); // how far the last row goes is not known
        }
    }

    fn seen(&self) -> LayerStats {
        self.seen
    }
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

impl<'s, 'a, S> Cies<'s, 'a, S>
where
    S: UnwindSection<Slice<'a>>,
    S::Offset: UnwindOffset<usize> + std::hash::Hash,
{
    fn new(section: &'s S, bases: &'s BaseAddresses) -> Self {
        Self { section, bases, by_offset: HashMap::new(), last: None }
    }

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

/// Reads the function whose FDE is at a place of the section, or just behind if that one is empty: linkers list but
/// one of two with the same address. `None` when there is none, or it is not in the text.
pub(crate) fn function_at<'a, S>(
    section: &S,
    bases: &BaseAddresses,
    at: S::Offset,
    text: &Range<u64>,
) -> Option<Function<S::Offset>>
where
    S: UnwindSection<Slice<'a>>,
    S::Offset: UnwindOffset<usize>,
{
    let fde = section.fde_from_offset(bases, at, S::cie_from_offset).ok()?;
    if fde.len() > 0 {
        return function_of(&fde, at, text);
    }
    let behind = S::Offset::from(fde.offset().checked_add(LENGTH_BYTES + fde.entry_len())?);
    let fde = section.fde_from_offset(bases, behind, S::cie_from_offset).ok()?;
    function_of(&fde, behind, text)
}

/// Says where a function lies, if that is in the text.
fn function_of<'a, O: UnwindOffset<usize>>(
    fde: &FrameDescriptionEntry<Slice<'a>>,
    at: O,
    text: &Range<u64>,
) -> Option<Function<O>> {
    let start = fde.initial_address();
    let end = start.saturating_add(fde.len()).min(text.end);
    (text.contains(&start) && fde.len() > 0).then_some(Function { start, end, at })
}

/// Lists the functions of a section that lie in the text.
fn functions<'a, S>(
    cies: &mut Cies<'_, 'a, S>,
    text: &Range<u64>,
    omissions: &mut Omissions,
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
                    Ok(fde) => functions.extend(function_of(&fde, at, text)),
                    Err(_) => omissions.malformed += 1,
                }
            }
            Err(_) => {
                omissions.malformed += 1; // where the next entry begins is not known
                break;
            }
        }
        if functions.len() == FUNCTIONS_MAX {
            omissions.limit += 1;
            break;
        }
    }
    functions
}

/// Says a row as a rule, and whether its CFA is in [`BASE`]. What cannot be said is a gap, counted.
fn rule_of<'a, S: UnwindSection<Slice<'a>>>(
    row: &Row,
    section: &S,
    with_base: bool,
    omissions: &mut Omissions,
) -> (Rule, bool) {
    let rule = try_rule_of(row, section, with_base, omissions);
    let is_base =
        matches!(rule.cfa, Cfa::Register(BASE, _) | Cfa::AtRegister { register: BASE, .. });
    (rule, is_base)
}

fn try_rule_of<'a, S: UnwindSection<Slice<'a>>>(
    row: &Row,
    section: &S,
    with_base: bool,
    omissions: &mut Omissions,
) -> Rule {
    let ra = match row.register(Column(RA)) {
        Some(gimli::RegisterRule::Undefined) => return Rule::ROOT,
        rule => rule,
    };
    if let Some(rule) = jump(row) {
        return rule;
    }
    let cfa = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => {
            match Register::from_dwarf(register.0).zip(i32::try_from(*offset).ok()) {
                Some((register, offset)) => Cfa::Register(register, offset),
                None => {
                    omissions.cfa_offset += 1;
                    return Rule::NOT_EXPRESSIBLE;
                }
            }
        }
        CfaRule::Expression(bytes) => match bytes.get(section).ok().and_then(expression::cfa) {
            Some(cfa) => cfa,
            None => {
                omissions.cfa_expression += 1;
                return Rule::NOT_EXPRESSIBLE;
            }
        },
    };
    if cfa == Cfa::Signal {
        let is_usual = |rule| matches!(address_in(rule, section), Some((SP, SIGNAL_IP)));
        return if is_usual(ra) {
            Rule::SIGNAL
        } else {
            omissions.return_address += 1;
            Rule::NOT_EXPRESSIBLE
        };
    }
    let sp_is_cfa = row.register(Column(SP.number().into())).is_none_or(|rule| {
        matches!(
            rule,
            gimli::RegisterRule::SameValue
                | gimli::RegisterRule::Undefined
                | gimli::RegisterRule::ValOffset(0)
        )
    });
    let (Some(ra @ (RegisterRule::AtCfa(_) | RegisterRule::Register(_))), true) =
        (saved(ra, section), sp_is_cfa)
    else {
        omissions.return_address += 1;
        return Rule::NOT_EXPRESSIBLE;
    };
    let Some(fp) = saved(row.register(Column(FP.number().into())), section) else {
        omissions.frame_pointer += 1;
        return Rule::NOT_EXPRESSIBLE;
    };
    let base = match with_base {
        true => saved(row.register(Column(BASE.number().into())), section)
            .unwrap_or(RegisterRule::Undefined),
        false => RegisterRule::Undefined,
    };
    Rule { cfa, fp, base, ra }
}

/// Gives the rule of code that is about to jump out of its frame, as longjmp: all that counts is in other
/// registers, and the CFA is where the rest is loaded from.
fn jump(row: &Row) -> Option<Rule> {
    let of = |register: u16| match row.register(Column(register)) {
        Some(gimli::RegisterRule::Register(column)) => Register::from_dwarf(column.0),
        _ => None,
    };
    let (sp, fp, ra) = (of(SP.number().into())?, of(FP.number().into())?, of(RA)?);
    Some(Rule {
        cfa: Cfa::Register(sp, 0),
        fp: RegisterRule::Register(fp),
        base: RegisterRule::Undefined,
        ra: RegisterRule::Register(ra),
    })
}

/// Says where a register is; `None` when there is no word for it.
fn saved<'a, S: UnwindSection<Slice<'a>>>(
    rule: Option<gimli::RegisterRule<usize>>,
    section: &S,
) -> Option<RegisterRule> {
    match rule {
        None | Some(gimli::RegisterRule::SameValue) => Some(RegisterRule::SameValue),
        Some(gimli::RegisterRule::Undefined) => Some(RegisterRule::Undefined),
        Some(gimli::RegisterRule::Offset(bytes)) => RegisterRule::at_cfa(bytes),
        Some(gimli::RegisterRule::Register(column)) => {
            Register::from_dwarf(column.0).map(RegisterRule::Register)
        }
        Some(gimli::RegisterRule::Expression(_)) => match address_in(rule, section) {
            Some((FP, 0)) => Some(RegisterRule::AtFp),
            _ => None,
        },
        _ => None,
    }
}

/// Gives the address at which a register is saved when it is told as `register + offset`.
fn address_in<'a, S: UnwindSection<Slice<'a>>>(
    rule: Option<gimli::RegisterRule<usize>>,
    section: &S,
) -> Option<(Register, i64)> {
    let Some(gimli::RegisterRule::Expression(bytes)) = rule else { return None };
    let bytes: UnwindExpression<usize> = bytes;
    expression::address(bytes.get(section).ok()?)
}
