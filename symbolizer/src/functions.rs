//! From what the parser finds at an address to functions with bounded names.

use blazesym::symbolize::{CodeInfo, Sym, Symbolized};

use crate::demangle::demangle;
use crate::proto::{SourceFunction, Symbol};
use crate::text::bounded;

/// Most functions at one address. Compilers inline about twenty in each other.
const INLINED_MAX: usize = 64;

/// The functions of a response take all bytes that it may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Full;

/// Builds the functions of a response, within its bytes.
#[derive(Debug)]
pub(crate) struct FunctionBuilder {
    /// Bytes that are left for functions.
    left: usize,
    /// Texts cut and functions left out, because there were too many or they were too long.
    pub cut: u64,
}

impl FunctionBuilder {
    /// `bytes_max`: bytes for all functions, see [`SourceFunction::bytes`]; 0 for no limit.
    pub fn new(bytes_max: u64) -> Self {
        let left = if bytes_max == 0 { usize::MAX } else { bytes_max as usize };
        Self { left, cut: 0 }
    }

    /// Converts what was found at an address; `Ok(None)` for a function without a name.
    ///
    /// The parser lists the function first and what is inlined in it from there inwards; each has
    /// the place of the call to the next, and the innermost the place of the instruction.
    ///
    /// # Errors
    /// [`Full`] once the functions do not fit.
    pub fn symbol(&mut self, found: Symbolized<'_>) -> Result<Option<Symbol>, Full> {
        let Some(sym) = found.into_sym() else { return Ok(Some(Symbol::default())) };
        if sym.name.is_empty() {
            return Ok(None);
        }
        let Sym { name, code_info, inlined, addr, size, .. } = sym;
        // Without lines the whole function has this one name.
        let is_whole = code_info.is_none() && inlined.is_empty();
        let size = size.filter(|_| is_whole).unwrap_or(0);
        let mut functions = vec![self.function(&name, code_info.as_deref())];
        let left_out = inlined.len().saturating_sub(INLINED_MAX - 1);
        self.cut += left_out as u64;
        for inlined in inlined[left_out..].iter().filter(|inlined| !inlined.name.is_empty()) {
            functions.push(self.function(&inlined.name, inlined.code_info.as_ref()));
        }
        functions.reverse();
        let symbol =
            self.fit(Symbol { functions, start: addr, end: addr.saturating_add(size as u64) });
        symbol.map(Some).ok_or(Full)
    }

    /// Returns a symbol of one function; `None` once the response is full.
    pub fn named(&mut self, name: &str, start: u64, end: u64) -> Option<Symbol> {
        let functions = vec![self.function(name, None)];
        self.fit(Symbol { functions, start, end })
    }

    fn fit(&mut self, symbol: Symbol) -> Option<Symbol> {
        let bytes: usize = symbol.functions.iter().map(SourceFunction::bytes).sum();
        self.left = self.left.checked_sub(bytes)?;
        Some(symbol)
    }

    fn function(&mut self, name: &str, place: Option<&CodeInfo<'_>>) -> SourceFunction {
        let mut count = |(text, is_cut)| {
            self.cut += u64::from(is_cut);
            text
        };
        let path = place.map(|place| place.to_path().to_string_lossy().into_owned());
        let (system_name, _) = bounded(name); // it is cut where its demangled form is
        SourceFunction {
            name: count(demangle(name)),
            system_name,
            file: count(path.map(|path| bounded(&path)).unwrap_or_default()),
            line: place.and_then(|place| place.line).unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::TEXT_MAX;

    #[test]
    fn names_are_bounded_each_and_together() {
        let mut builder = FunctionBuilder::new(100_000);
        let long = "n".repeat(1 << 20);
        let symbols: Vec<Symbol> =
            (0..100).map_while(|at| builder.named(&long, at, at + 1)).collect();
        assert!((5..100_000 / TEXT_MAX).contains(&symbols.len()), "{}", symbols.len());
        assert_eq!(builder.cut, symbols.len() as u64 + 1, "the last one did not fit");
        for symbol in &symbols {
            let SourceFunction { name, system_name, .. } = &symbol.functions[0];
            assert!(name.len() <= TEXT_MAX && name.ends_with("[1048576 bytes]"));
            assert_eq!(name, system_name);
        }
        let mut unlimited = FunctionBuilder::new(0);
        assert!((0..100).all(|at| unlimited.named(&long, at, at).is_some()));
    }
}
