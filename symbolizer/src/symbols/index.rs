//! Functions by address: which symbols contain it, from their starts and sizes.
//!
//! - The function that begins last contains an address, if it is long enough; else one around it.
//! - A symbol without a size has the size of another at its start. Else it ends where the next
//!   symbol, the function around it or its section does.
//! - A local label within a function is no function, and is left out.
//! - Nothing is longer than its section.

use std::cmp::Reverse;
use std::ops::Range;

/// Marks the number of a symbol whose table does not have its size.
const UNSIZED: u32 = 1 << 31;
/// Marks the number of a label that only its own object file can name.
const LOCAL_LABEL: u32 = 1 << 30;
/// Symbols of one address that are compared. Libraries have about ten.
const ALIASES_MAX: usize = 64;

/// The number of a symbol in all tables of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SymbolId(u32);

impl SymbolId {
    /// Bits of the number of a table.
    const TABLE_BITS: u32 = 2;
    const NUMBER_BITS: u32 = 30 - Self::TABLE_BITS;

    /// Returns the id of a symbol; `None` beyond 4 tables, or 2^28 symbols.
    pub fn new(table: usize, number: u32) -> Option<Self> {
        let is_small = table < 1 << Self::TABLE_BITS && number < 1 << Self::NUMBER_BITS;
        is_small.then_some(Self((table as u32) << Self::NUMBER_BITS | number))
    }

    /// Returns the table, and the number in it.
    pub fn split(self) -> (usize, u32) {
        let number = self.0 & !(UNSIZED | LOCAL_LABEL);
        ((number >> Self::NUMBER_BITS) as usize, number & ((1 << Self::NUMBER_BITS) - 1))
    }

    /// Returns whether its table has its size.
    pub fn is_sized(self) -> bool {
        self.0 & UNSIZED == 0
    }

    /// Returns the id of a local label.
    pub fn as_local_label(self) -> Self {
        Self(self.0 | LOCAL_LABEL)
    }

    fn is_local_label(self) -> bool {
        self.0 & LOCAL_LABEL != 0
    }
}

/// A function from its start on. 16 bytes, because large programs have a million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Function {
    start: u64,
    bytes: u32,
    id: SymbolId,
}

impl Function {
    fn end(&self) -> u64 {
        self.start.saturating_add(self.bytes.into())
    }
}

/// A part of a function behind another that lies in it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OuterPart {
    addresses: Range<u64>,
    /// Index of the function.
    function: u32,
}

/// Collects the functions of a file.
#[derive(Debug)]
pub(crate) struct IndexBuilder {
    /// Where code is, ascending.
    code: Vec<Range<u64>>,
    functions: Vec<Function>,
    functions_max: usize,
}

impl IndexBuilder {
    /// Bytes of memory for each function while the index is built.
    const BYTES_PER_FUNCTION: u64 = 56;

    /// `code`: where functions can be, ascending. `memory_max`: bytes that the index may take.
    pub fn new(code: Vec<Range<u64>>, memory_max: u64) -> Self {
        let functions_max = memory_max / Self::BYTES_PER_FUNCTION;
        let functions_max = functions_max.min(u32::MAX.into()) as usize;
        Self { code, functions: Vec::new(), functions_max }
    }

    /// Adds a symbol; one outside of all code is left out. Returns whether another may be added.
    pub fn add(&mut self, id: SymbolId, start: u64, bytes: u64) -> bool {
        let Some(section) = section_of(&self.code, start) else { return true };
        let bytes = bytes.min(section.end - start).min(u32::MAX.into()) as u32;
        let id = if bytes == 0 { SymbolId(id.0 | UNSIZED) } else { id };
        self.functions.push(Function { start, bytes, id });
        self.functions.len() < self.functions_max
    }

    /// Returns whether symbols were left out because there are too many.
    pub fn is_full(&self) -> bool {
        self.functions.len() >= self.functions_max
    }

    /// Builds the index.
    pub fn finish(mut self) -> FunctionIndex {
        let order = |function: &Function| (function.start, Reverse(function.bytes), function.id);
        self.functions.sort_unstable_by_key(order);
        self.remove_inner_labels();
        self.bound_unsized();
        self.functions.sort_unstable_by_key(order); // nearly sorted: the ends have changed
        self.functions.shrink_to_fit();
        let outer_parts = outer_parts(&self.functions);
        FunctionIndex { functions: self.functions, outer_parts }
    }

    /// Removes the local labels within functions. One at the start of a function is its alias.
    fn remove_inner_labels(&mut self) {
        let (mut covered_to, mut sized_start) = (0, None);
        self.functions.retain(|function| {
            if function.id.is_sized() {
                covered_to = covered_to.max(function.end());
                sized_start = Some(function.start);
            }
            let is_alias = sized_start == Some(function.start);
            is_alias || function.start >= covered_to || !function.id.is_local_label()
        });
    }

    /// Ends each symbol without a size.
    fn bound_unsized(&mut self) {
        let Self { code, functions, .. } = self;
        // Ends of what was seen: of all functions, and of the longest at the last start.
        let (mut covered_to, mut longest) = (0, 0..0);
        let mut next_start = 0;
        for at in 0..functions.len() {
            let function = functions[at];
            let start = function.start;
            if next_start <= start {
                // Symbols at one start are neighbours; most starts have one.
                let next = functions[at..].iter().find(|next| next.start > start);
                next_start = next.map_or(u64::MAX, |next| next.start);
            }
            let is_first = longest.start != start || longest.is_empty();
            if function.id.is_sized() {
                if is_first {
                    longest = start..function.end();
                }
                covered_to = covered_to.max(function.end());
                continue;
            }
            let end = match is_first {
                false => longest.end,
                true if start < covered_to => covered_to.min(next_start),
                true => section_of(code, start).map_or(0, |section| section.end).min(next_start),
            };
            functions[at].bytes = end.saturating_sub(start).min(u32::MAX.into()) as u32;
        }
    }
}

fn section_of(code: &[Range<u64>], address: u64) -> Option<&Range<u64>> {
    let next = code.partition_point(|range| range.start <= address);
    code.get(next.checked_sub(1)?).filter(|range| range.contains(&address))
}

/// Finds the parts of functions that lie behind others in them.
fn outer_parts(functions: &[Function]) -> Vec<OuterPart> {
    let mut parts: Vec<OuterPart> = Vec::new();
    // Functions that may go on behind the last one, the innermost last.
    let mut open: Vec<u32> = Vec::new();
    let mut at = 0;
    while let Some(first) = functions.get(at) {
        let next = functions[at..].iter().position(|next| next.start > first.start);
        let next = next.map_or(functions.len(), |more| at + more);
        let next_start = functions.get(next).map_or(u64::MAX, |next| next.start);
        // The first of those with the same start is the longest.
        let mut from = first.end();
        while from < next_start
            && let Some(outer) = open.last()
        {
            let end = functions[*outer as usize].end().min(next_start);
            if end > from {
                parts.push(OuterPart { addresses: from..end, function: *outer });
                from = end;
            }
            if from < next_start {
                open.pop();
            }
        }
        let longer = (at..next).take_while(|at| functions[*at].end() > next_start);
        open.extend(longer.map(|at| at as u32));
        at = next;
    }
    parts
}

/// The functions of a file by address.
#[derive(Debug, Default)]
pub(crate) struct FunctionIndex {
    /// By start, and then the longest first.
    functions: Vec<Function>,
    outer_parts: Vec<OuterPart>,
}

/// The symbols of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundFunction {
    /// Where its function begins.
    pub start: u64,
    /// The addresses around it that have the same symbols.
    pub addresses: Range<u64>,
    /// At least one symbol.
    pub aliases: Vec<SymbolId>,
}

impl FunctionIndex {
    /// Returns whether there are no functions.
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// Returns the symbols that contain an address.
    pub fn find(&self, address: u64) -> Option<FoundFunction> {
        let next = self.functions.partition_point(|function| function.start <= address);
        let last = self.functions.get(next.checked_sub(1)?)?;
        let first = self.functions[..next].partition_point(|other| other.start < last.start);
        let same_start = &self.functions[first..next];
        let longer = same_start.partition_point(|function| function.end() > address);
        if let Some(function) = longer.checked_sub(1).map(|at| same_start[at]) {
            let shorter_end = same_start.get(longer).map(Function::end);
            let next_start = self.functions.get(next).map_or(u64::MAX, |next| next.start);
            let from = shorter_end.unwrap_or(function.start);
            return Some(self.found(&function, from..function.end().min(next_start)));
        }
        let next = self.outer_parts.partition_point(|part| part.addresses.start <= address);
        let part = self.outer_parts.get(next.checked_sub(1)?)?;
        let function = self.functions.get(part.function as usize)?;
        let is_within = part.addresses.contains(&address);
        is_within.then(|| self.found(function, part.addresses.clone()))
    }

    fn found(&self, function: &Function, addresses: Range<u64>) -> FoundFunction {
        let key = |function: &Function| (function.start, Reverse(function.bytes));
        let first = self.functions.partition_point(|other| key(other) < key(function));
        let same = self.functions[first..].iter().take_while(|other| key(other) == key(function));
        let aliases = same.take(ALIASES_MAX).map(|function| function.id).collect();
        FoundFunction { start: function.start, addresses, aliases }
    }
}

#[cfg(test)]
mod tests;
