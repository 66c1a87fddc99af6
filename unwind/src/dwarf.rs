//! The slow and obvious way to a caller: DWARF as it is written, by gimli, one function looked up in the
//! file and every expression evaluated. Nothing of our rows and rules is used.
//!
//! For checking: `everytick unwind --check`, and the tests.

use gimli::{
    BaseAddresses, CfaRule, Encoding, EvaluationResult, Expression, Format, Location,
    Register as Column, UnwindContext, UnwindOffset, UnwindSection, UnwindTableRow, Value,
};

use crate::arch::{RA, REGISTERS};
use crate::cfi::Slice;
use crate::elf::Elf;
use crate::{CfiSections, Error, text};

/// Operations that one expression may take.
const ITERATIONS_MAX: u32 = 1000;
const ENCODING: Encoding = Encoding { address_size: 8, format: Format::Dwarf32, version: 4 };

/// What DWARF says of a frame's caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DwarfStep {
    /// There is one.
    Caller(Box<DwarfCaller>),
    /// The return address is undefined: this is the outermost frame.
    Root,
    /// No function is known here.
    NoFunction,
    /// Something could not be computed.
    Failed,
}

/// A frame's caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DwarfCaller {
    /// The canonical frame address of the frame that is left.
    pub cfa: u64,
    /// Where it goes on.
    pub ra: u64,
    /// Its general registers by number; `None` where DWARF does not know.
    pub registers: [Option<u64>; REGISTERS],
}

/// A function of a section: its start, its end, and the place of its FDE.
type Function = (u64, u64, usize);

/// A file's call frames, for asking.
pub struct DwarfUnwinder {
    dwarf: CfiSections,
    /// Functions of `.eh_frame`, sorted by start.
    eh_frame: Vec<Function>,
    /// Functions of `.debug_frame`, likewise: asked where the others say nothing.
    debug_frame: Vec<Function>,
}

impl DwarfUnwinder {
    /// Reads the sections and finds their functions.
    ///
    /// # Errors
    /// As [`crate::read`].
    pub fn read(file: crate::ReadAt<'_>) -> Result<Self, Error> {
        let elf = Elf::read(file)?;
        let text = text(&elf)?;
        let dwarf = CfiSections::read(&elf, true)?;
        let sorted = |mut functions: Vec<Function>| {
            functions.retain(|(start, end, _)| text.contains(start) && end > start);
            functions.sort_by_key(|(start, ..)| *start); // stable: the first of two stays first
            functions.dedup_by_key(|(start, ..)| *start);
            functions
        };
        let eh_frame = sorted(functions(&dwarf.eh_frame(), &dwarf.bases));
        let debug_frame = sorted(functions(&dwarf.debug_frame(), &dwarf.bases));
        Ok(Self { dwarf, eh_frame, debug_frame })
    }

    /// The range of addresses of each function.
    pub fn functions(&self) -> impl Iterator<Item = (u64, u64)> {
        self.eh_frame.iter().chain(&self.debug_frame).map(|(start, end, _)| (*start, *end))
    }

    /// Says how the caller is found from a place. `registers` are the callee's, by number.
    pub fn caller(
        &self,
        place: u64,
        registers: &[u64; REGISTERS],
        read: &dyn Fn(u64) -> u64,
    ) -> DwarfStep {
        let frame = Frame { place, registers, read };
        match self.ask(&self.dwarf.eh_frame(), &self.eh_frame, &frame) {
            DwarfStep::NoFunction => self.ask(&self.dwarf.debug_frame(), &self.debug_frame, &frame),
            answer => answer,
        }
    }

    fn ask<'a, S>(&self, section: &S, functions: &[Function], frame: &Frame<'_>) -> DwarfStep
    where
        S: UnwindSection<Slice<'a>>,
        S::Offset: UnwindOffset<usize>,
    {
        let after = functions.partition_point(|(start, ..)| *start <= frame.place);
        let Some((_, end, at)) = after.checked_sub(1).map(|at| functions[at]) else {
            return DwarfStep::NoFunction;
        };
        if frame.place >= end {
            return DwarfStep::NoFunction;
        }
        let mut context = UnwindContext::new();
        let row = section
            .fde_from_offset(&self.dwarf.bases, S::Offset::from(at), S::cie_from_offset)
            .and_then(|fde| {
                let row = fde.unwind_info_for_address(
                    section,
                    &self.dwarf.bases,
                    &mut context,
                    frame.place,
                )?;
                Ok(row.clone())
            });
        match row {
            Ok(row) => frame.caller(section, &row).unwrap_or(DwarfStep::Failed),
            Err(_) => DwarfStep::Failed,
        }
    }
}

fn functions<'a, S>(section: &S, bases: &BaseAddresses) -> Vec<(u64, u64, usize)>
where
    S: UnwindSection<Slice<'a>>,
    S::Offset: UnwindOffset<usize>,
{
    let mut functions = Vec::new();
    let mut entries = section.entries(bases);
    while let Ok(Some(entry)) = entries.next() {
        let gimli::CieOrFde::Fde(partial) = entry else { continue };
        if let Ok(fde) = partial.parse(S::cie_from_offset) {
            let end = fde.initial_address().saturating_add(fde.len());
            functions.push((fde.initial_address(), end, fde.offset()));
        }
    }
    functions
}

/// A frame that is to be left.
struct Frame<'a> {
    place: u64,
    registers: &'a [u64; REGISTERS],
    read: &'a dyn Fn(u64) -> u64,
}

impl Frame<'_> {
    fn register(&self, column: Column) -> Option<u64> {
        match column.0 {
            RA => Some(self.place),
            number => self.registers.get(usize::from(number)).copied(),
        }
    }

    fn caller<'a, S: UnwindSection<Slice<'a>>>(
        &self,
        section: &S,
        row: &UnwindTableRow<usize>,
    ) -> Option<DwarfStep> {
        let cfa = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => {
                self.register(*register)?.wrapping_add_signed(*offset)
            }
            CfaRule::Expression(bytes) => self.evaluate(bytes.get(section).ok()?, None)?,
        };
        let value = |column: Column, unsaid: Option<u64>| -> Option<Option<u64>> {
            Some(match row.register(column) {
                None => unsaid,
                Some(gimli::RegisterRule::Undefined) => None,
                Some(gimli::RegisterRule::SameValue) => self.register(column),
                Some(gimli::RegisterRule::Offset(at)) => {
                    Some((self.read)(cfa.wrapping_add_signed(at)))
                }
                Some(gimli::RegisterRule::ValOffset(at)) => Some(cfa.wrapping_add_signed(at)),
                Some(gimli::RegisterRule::Register(other)) => self.register(other),
                Some(gimli::RegisterRule::Expression(bytes)) => {
                    Some((self.read)(self.evaluate(bytes.get(section).ok()?, Some(cfa))?))
                }
                Some(gimli::RegisterRule::ValExpression(bytes)) => {
                    Some(self.evaluate(bytes.get(section).ok()?, Some(cfa))?)
                }
                Some(_) => return None,
            })
        };
        let Some(ra) = value(Column(RA), None)? else {
            return Some(match row.register(Column(RA)) {
                Some(gimli::RegisterRule::Undefined) => DwarfStep::Root,
                _ => DwarfStep::Failed,
            });
        };
        let mut registers = [None; REGISTERS];
        for (number, register) in (0..).zip(&mut registers) {
            let unsaid = if number == u16::from(crate::arch::SP.number()) {
                Some(cfa)
            } else {
                self.register(Column(number))
            };
            *register = value(Column(number), unsaid)?;
        }
        Some(DwarfStep::Caller(Box::new(DwarfCaller { cfa, ra, registers })))
    }

    /// Evaluates an expression to an address.
    fn evaluate(&self, expression: Expression<Slice<'_>>, start: Option<u64>) -> Option<u64> {
        let mut evaluation = expression.evaluation(ENCODING);
        evaluation.set_max_iterations(ITERATIONS_MAX);
        if let Some(start) = start {
            evaluation.set_initial_value(start);
        }
        let mut result = evaluation.evaluate().ok()?;
        loop {
            result = match result {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresMemory { address, size: 8, space: None, .. } => {
                    evaluation.resume_with_memory(Value::Generic((self.read)(address))).ok()?
                }
                EvaluationResult::RequiresRegister { register, .. } => {
                    let value = Value::Generic(self.register(register)?);
                    evaluation.resume_with_register(value).ok()?
                }
                _ => return None,
            };
        }
        match evaluation.as_result().last()?.location {
            Location::Address { address } => Some(address),
            _ => None,
        }
    }
}
