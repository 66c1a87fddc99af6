//! From what a file has at an address to functions with bounded names.

use crate::debug_info::DebugFunction;
use crate::demangle::demangle;
use crate::go::GoFunction;
use crate::proto::{SourceFunction, Symbol};
use crate::symbols::NamedFunction;
use crate::text::bounded;

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

    /// Converts the functions that debug info has at an address, innermost first; `None` once the
    /// response is full. `own`: the function at the address by the symbol tables of the file.
    pub fn by_debug_info(
        &mut self,
        found: Vec<DebugFunction>,
        address: u64,
        own: Option<&NamedFunction>,
    ) -> Option<Symbol> {
        let outermost = found.len().saturating_sub(1);
        let functions = found.into_iter().enumerate().map(|(number, function)| {
            let DebugFunction { name, file, line, start_line } = function;
            // A symbol without a size may be that of the function before.
            let own = own.filter(|own| number == outermost && (own.is_sized || name.is_empty()));
            self.function(Names::of(&name, own), Place { file, line, start_line })
        });
        let functions = functions.filter(|function| !function.name.is_empty()).collect();
        self.fit(Symbol { functions, start: address, end: address })
    }

    /// Converts the functions at an address by Go's function table, innermost first; `None` once
    /// the response is full.
    pub fn by_go_table(&mut self, found: Vec<GoFunction>, address: u64) -> Option<Symbol> {
        let functions = found.into_iter().map(|function| {
            let GoFunction { name, file, line, start_line } = function;
            self.function(Names::of(&name, None), Place { file, line, start_line })
        });
        // A table that is damaged may have no name for a function.
        let functions = functions.filter(|function| !function.name.is_empty()).collect();
        self.fit(Symbol { functions, start: address, end: address })
    }

    /// Converts the function at an address by the symbol tables; `None` once the response is full.
    pub fn by_symbol_table(&mut self, own: Option<&NamedFunction>) -> Option<Symbol> {
        match own {
            Some(own) => self.named(&own.name, own.addresses.start, own.addresses.end),
            None => Some(Symbol::default()),
        }
    }

    /// Returns a symbol of one function; `None` once the response is full.
    pub fn named(&mut self, name: &str, start: u64, end: u64) -> Option<Symbol> {
        let functions = vec![self.function(Names::of(name, None), Place::default())];
        self.fit(Symbol { functions, start, end })
    }

    fn fit(&mut self, symbol: Symbol) -> Option<Symbol> {
        let bytes: usize = symbol.functions.iter().map(SourceFunction::bytes).sum();
        self.left = self.left.checked_sub(bytes)?;
        Some(symbol)
    }

    fn function(&mut self, names: Names<'_>, place: Place) -> SourceFunction {
        let mut count = |(text, is_cut)| {
            self.cut += u64::from(is_cut);
            text
        };
        let (system_name, _) = bounded(names.linker); // it is cut where its demangled form is
        SourceFunction {
            name: count(demangle(names.people)),
            system_name,
            file: count(bounded(&place.file)),
            line: place.line,
            start_line: place.start_line,
        }
    }
}

/// A place in the source, and where its function starts.
#[derive(Debug, Default)]
struct Place {
    file: String,
    line: u32,
    start_line: u32,
}

/// The names of a function before they are demangled.
struct Names<'a> {
    /// What its name for people is made of.
    people: &'a str,
    linker: &'a str,
}

impl<'a> Names<'a> {
    /// Returns the names of a function that has one in debug info and one in the symbol table.
    ///
    /// Debug info may have no more than `operator()` for a lambda, or `new` for a method, where the
    /// symbol table has all of the scope. Of a part that the compiler has split off, as `f.cold`,
    /// it has the name of the function.
    fn of(debug_info: &'a str, own: Option<&'a NamedFunction>) -> Self {
        let Some(NamedFunction { name, .. }) = own else {
            return Self { people: debug_info, linker: debug_info };
        };
        let suffix = name.strip_prefix(debug_info).filter(|_| !debug_info.is_empty());
        let is_part = suffix.is_some_and(|suffix| suffix.starts_with('.'));
        Self { people: if is_part { debug_info } else { name }, linker: name }
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

    #[test]
    fn no_function_has_an_empty_name() {
        let mut builder = FunctionBuilder::new(0);
        let named = GoFunction { name: "main.f".into(), ..GoFunction::default() };
        let symbol = builder.by_go_table(vec![GoFunction::default(), named], 1);
        let functions = symbol.expect("space").functions;
        let names: Vec<&str> = functions.iter().map(|function| function.name.as_str()).collect();
        assert_eq!(names, ["main.f"]);
    }
}
