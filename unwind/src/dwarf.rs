//! The slow and obvious way to a caller: gimli looks up the function, evaluates its DWARF and
//! every expression. Nothing of our rows and rules is used.
//!
//! For verification only: `everytick unwind --check`, `everytick verify`, and the tests.

use std::ops::Range;

use gimli::{
    BaseAddresses, CfaRule, Encoding, EvaluationResult, Expression, Format, Location,
    Register as Column, UnwindContext, UnwindOffset, UnwindSection, UnwindTableRow, Value,
};

use crate::Error;
use crate::arch::{RA, REGISTERS};
use crate::elf::Elf;
use crate::sections::{CfiSections, Slice};

/// Operations evaluated of one expression.
const ITERATIONS_MAX: u32 = 1000;
const ENCODING: Encoding = Encoding { address_size: 8, format: Format::Dwarf32, version: 4 };

/// The result of one step by DWARF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DwarfStep {
    /// The frame has a caller.
    Caller(Box<DwarfCaller>),
    /// The return address is undefined: the frame is the root of the stack.
    Root,
    /// The address belongs to no function of the file.
    NoFunction,
    /// The row or an expression could not be evaluated.
    Failed,
}

/// The caller of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DwarfCaller {
    /// Canonical frame address of the callee.
    pub cfa: u64,
    /// Return address.
    pub ra: u64,
    /// General registers by number; `None` if undefined.
    pub registers: [Option<u64>; REGISTERS],
}

/// Start and end of a function, and the offset of its FDE.
type FdeRange = (u64, u64, usize);

/// Steps by one row: from an address, the registers by number, and a function that reads words.
pub(crate) type RowStep<'a> = &'a dyn Fn(u64, &[u64; REGISTERS], &dyn Fn(u64) -> u64) -> DwarfStep;

/// Steps by the DWARF of one file.
///
/// ```
/// use std::{fs::File, os::unix::fs::FileExt};
/// use unwind::{arch::REGISTERS, dwarf::{DwarfStep, DwarfUnwinder}};
///
/// let file = File::open("/proc/self/exe")?;
/// let read_at = |offset: u64, bytes: &mut [u8]| file.read_exact_at(bytes, offset).is_ok();
/// let dwarf = DwarfUnwinder::read(&read_at)?;
/// let (start, _end) = dwarf.functions().next().expect("a function");
/// let every_word = |_address| 0x40_1005;
/// if let DwarfStep::Caller(caller) = dwarf.step(start, &[0x7000; REGISTERS], &every_word) {
///     assert_eq!(caller.ra, 0x40_1005);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct DwarfUnwinder {
    sections: CfiSections,
    /// Functions of `.eh_frame`, sorted by start.
    eh_frame: Vec<FdeRange>,
    /// Functions of `.debug_frame`, sorted by start: used where `.eh_frame` has none.
    debug_frame: Vec<FdeRange>,
}

impl DwarfUnwinder {
    /// Reads the sections of a file and lists their functions.
    ///
    /// # Errors
    /// See [`crate::read()`].
    pub fn read(file: crate::ReadAt<'_>) -> Result<Self, Error> {
        let elf = Elf::read(file)?;
        let text = elf.table_text()?;
        let sections = CfiSections::read(&elf, true)?;
        let sorted = |mut functions: Vec<FdeRange>| {
            functions.retain(|(start, end, _)| text.contains(start) && end > start);
            functions.sort_by_key(|(start, ..)| *start); // stable: the first of two stays first
            functions.dedup_by_key(|(start, ..)| *start);
            functions
        };
        let eh_frame = sorted(functions(&sections.eh_frame(), &sections.bases));
        let debug_frame = sorted(functions(&sections.debug_frame(), &sections.bases));
        Ok(Self { sections, eh_frame, debug_frame })
    }

    /// Returns start and end of each function.
    pub fn functions(&self) -> impl Iterator<Item = (u64, u64)> {
        self.eh_frame.iter().chain(&self.debug_frame).map(|(start, end, _)| (*start, *end))
    }

    /// Returns the addresses of each function of `.eh_frame`.
    pub(crate) fn eh_frame_functions(&self) -> impl Iterator<Item = Range<u64>> {
        self.eh_frame.iter().map(|(start, end, _)| *start..*end)
    }

    /// Calls `visit` with the addresses of each row of `.eh_frame` and a function that steps by
    /// it: from an address, registers by number and memory.
    pub(crate) fn visit_eh_frame(&self, visit: &mut dyn FnMut(u64, Range<u64>, RowStep<'_>)) {
        let section = self.sections.eh_frame();
        let bases = &self.sections.bases;
        let mut context = UnwindContext::new();
        for (start, end, offset) in &self.eh_frame {
            let next = self.eh_frame.partition_point(|(other, ..)| other <= start);
            let end = self.eh_frame.get(next).map_or(*end, |(next, ..)| *end.min(next));
            let offset = gimli::EhFrameOffset(*offset);
            let fde = section.fde_from_offset(bases, offset, gimli::EhFrame::cie_from_offset);
            let Ok(fde) = fde else { continue };
            let Ok(mut rows) = fde.rows(&section, bases, &mut context) else { continue };
            while let Ok(Some(row)) = rows.next_row() {
                let range = row.start_address()..row.end_address().min(end);
                visit(*start, range, &|address, registers, read| {
                    let frame = Frame { address, registers, read };
                    frame.caller(&section, row).unwrap_or(DwarfStep::Failed)
                });
            }
        }
    }

    /// Steps from the frame at an address to its caller. `registers`: those of the frame, by
    /// number. `read`: returns the 8-byte word at an address.
    pub fn step(
        &self,
        address: u64,
        registers: &[u64; REGISTERS],
        read: &dyn Fn(u64) -> u64,
    ) -> DwarfStep {
        let frame = Frame { address, registers, read };
        match self.step_by(&self.sections.eh_frame(), &self.eh_frame, &frame) {
            DwarfStep::NoFunction => {
                self.step_by(&self.sections.debug_frame(), &self.debug_frame, &frame)
            }
            step => step,
        }
    }

    fn step_by<'a, S>(&self, section: &S, functions: &[FdeRange], frame: &Frame<'_>) -> DwarfStep
    where
        S: UnwindSection<Slice<'a>>,
        S::Offset: UnwindOffset<usize>,
    {
        let after = functions.partition_point(|(start, ..)| *start <= frame.address);
        let Some((_, end, offset)) = after.checked_sub(1).map(|last| functions[last]) else {
            return DwarfStep::NoFunction;
        };
        if frame.address >= end {
            return DwarfStep::NoFunction;
        }
        let mut context = UnwindContext::new();
        let row = section
            .fde_from_offset(&self.sections.bases, S::Offset::from(offset), S::cie_from_offset)
            .and_then(|fde| {
                let row = fde.unwind_info_for_address(
                    section,
                    &self.sections.bases,
                    &mut context,
                    frame.address,
                )?;
                Ok(row.clone())
            });
        match row {
            Ok(row) => frame.caller(section, &row).unwrap_or(DwarfStep::Failed),
            Err(_) => DwarfStep::Failed,
        }
    }
}

fn functions<'a, S>(section: &S, bases: &BaseAddresses) -> Vec<FdeRange>
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

/// The frame to step from.
struct Frame<'a> {
    address: u64,
    registers: &'a [u64; REGISTERS],
    read: &'a dyn Fn(u64) -> u64,
}

impl Frame<'_> {
    fn register(&self, column: Column) -> Option<u64> {
        match column.0 {
            RA => Some(self.address),
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
        let value = |column: Column, unspecified: Option<u64>| -> Option<Option<u64>> {
            Some(match row.register(column) {
                None => unspecified,
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
            let unspecified = if number == u16::from(crate::arch::SP.number()) {
                Some(cfa)
            } else {
                self.register(Column(number))
            };
            *register = value(Column(number), unspecified)?;
        }
        Some(DwarfStep::Caller(Box::new(DwarfCaller { cfa, ra, registers })))
    }

    /// Evaluates an expression to an address. `initial`: the value on its stack at the start.
    fn evaluate(&self, expression: Expression<Slice<'_>>, initial: Option<u64>) -> Option<u64> {
        let mut evaluation = expression.evaluation(ENCODING);
        evaluation.set_max_iterations(ITERATIONS_MAX);
        if let Some(initial) = initial {
            evaluation.set_initial_value(initial);
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
