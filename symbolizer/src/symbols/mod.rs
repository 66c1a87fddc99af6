//! The functions of a file by its own symbol tables.
//!
//! They come from `.symtab`, of the file or of its separate debug file; where there is none, from
//! the one in `.gnu_debugdata`; and from `.dynsym`, which the dynamic segment leads to where there
//! are no sections. Each is read on its own: one that is damaged costs only what it holds.
//!
//! A stub of a procedure linkage table is named for the function that it leads to: `puts@plt`.
//!
//! Of several symbols at an address the first of this order is the name: those with a size, those
//! of functions before objects before labels, global before weak before local, the fewest leading
//! underscores, the first in the order of their bytes.

mod code_end;
mod function_starts;
mod index;
mod mini_debug_info;
mod table;

use std::cell::OnceCell;
use std::ops::Range;

use crate::elf::ElfFile;
use crate::plt::{LinkageTables, LinkedFunction};
use function_starts::FunctionStarts;
use index::{FunctionIndex, IndexBuilder, SymbolId};
use table::{Binding, FunctionSymbol, SymbolKind, SymbolTable};

/// Part of the memory of a request that symbols may take.
const MEMORY_DIVISOR: u64 = 2;
/// Bytes of a symbol table for each byte that its index takes.
const TABLE_BYTES_PER_INDEX: u64 = 2;

/// A function that a symbol table has at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedFunction {
    /// Its name for the linker; bytes that are not UTF-8 are replaced.
    pub name: String,
    /// Where it begins.
    pub start: u64,
    /// The addresses around the one that was looked up that have the same name.
    pub addresses: Range<u64>,
    /// Whether the table has its size. One without ends where another begins.
    pub is_sized: bool,
}

/// Checks that the index of a table of so many bytes fits into memory.
///
/// # Errors
/// How much it takes.
fn check_size(bytes: u64, memory_max: u64) -> Result<(), String> {
    let index = bytes / TABLE_BYTES_PER_INDEX;
    if index > memory_max {
        return Err(format!("its symbols take {} MiB", index >> 20));
    }
    Ok(())
}

/// A symbol table, and the file that it is in.
#[derive(Debug)]
struct Source {
    file: usize,
    table: SymbolTable,
}

/// The symbol tables of a file.
#[derive(Debug)]
pub(crate) struct SymbolTables {
    /// The file itself, its separate debug file, what was compressed in it.
    files: Vec<ElfFile>,
    sources: Vec<Source>,
    /// The dynamic symbol table.
    exported: Option<SymbolTable>,
    functions: FunctionIndex,
    /// Read when a symbol without a size is looked up.
    starts: OnceCell<FunctionStarts>,
    stubs: LinkageTables,
    /// Why a table was not read; empty when all were.
    pub error: String,
}

impl SymbolTables {
    /// Reads the symbols of a file. `debug_file`: the one with its debug info and its
    /// symbols, if they are in another. `memory_max`: bytes that they may take.
    pub fn read(file: ElfFile, debug_file: Option<ElfFile>, memory_max: u64) -> Self {
        let code = file.code();
        let mut this = Self {
            sources: Vec::new(),
            exported: None,
            functions: FunctionIndex::default(),
            starts: OnceCell::new(),
            stubs: LinkageTables::read(&file),
            files: vec![file],
            error: String::new(),
        };
        this.find_tables(debug_file, memory_max);
        this.build_index(code, memory_max);
        this
    }

    fn find_tables(&mut self, debug_file: Option<ElfFile>, memory_max: u64) {
        self.files.extend(debug_file);
        for file in (0..self.files.len()).rev() {
            let table = SymbolTable::of_section(&self.files[file], ".symtab");
            self.sources.extend(table.map(|table| Source { file, table }));
        }
        if self.sources.is_empty() {
            match mini_debug_info::read(&self.files[0], memory_max / MEMORY_DIVISOR) {
                Ok(None) => {}
                Ok(Some(mini)) => {
                    let table = SymbolTable::of_section(&mini, ".symtab");
                    let file = self.files.len();
                    self.files.push(mini);
                    self.sources.extend(table.map(|table| Source { file, table }));
                }
                Err(error) => self.error = error,
            }
        }
        let by_section = SymbolTable::of_section(&self.files[0], ".dynsym");
        self.exported = by_section.or_else(|| SymbolTable::of_dynamic(&self.files[0]));
        self.sources.extend(self.exported.map(|table| Source { file: 0, table }));
    }

    fn build_index(&mut self, code: Vec<Range<u64>>, memory_max: u64) {
        let mut builder = IndexBuilder::new(code, memory_max / MEMORY_DIVISOR);
        for (number, Source { file, table }) in self.sources.iter().enumerate() {
            if let Err(error) = check_size(table.bytes(), memory_max) {
                self.error = error;
                continue;
            }
            table.for_each_function(&self.files[*file], |symbol, function| {
                let Some(mut id) = SymbolId::new(number, symbol) else { return false };
                if function.kind == SymbolKind::Label && function.binding == Binding::Local {
                    id = id.as_local_label();
                }
                builder.add(id, function.start, function.bytes)
            });
        }
        if builder.is_full() {
            self.error = "it has too many symbols".into();
        }
        self.functions = builder.finish();
    }

    /// Returns whether no table has a function.
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// Returns the file itself.
    pub fn file(&self) -> &ElfFile {
        &self.files[0]
    }

    /// Returns the function or the stub at an address.
    pub fn find(&self, address: u64) -> Option<NamedFunction> {
        self.find_stub(address).or_else(|| self.find_function(address))
    }

    fn find_stub(&self, address: u64) -> Option<NamedFunction> {
        let (addresses, function) = self.stubs.find(&self.files[0], address)?;
        let name = match function {
            LinkedFunction::DynamicLinker => ".plt".into(),
            LinkedFunction::Symbol(number) => {
                let name = self.exported?.symbol_name(&self.files[0], number);
                if name.is_empty() {
                    return None;
                }
                format!("{}@plt", String::from_utf8_lossy(&name))
            }
            LinkedFunction::SelectedBy(resolver) => {
                let named = self.functions.find(resolver).filter(|found| found.start == resolver);
                match named.and_then(|found| self.best_name(&found.aliases)) {
                    Some((name, _)) => format!("{name}@plt"),
                    None => format!("*ABS*+{resolver:#x}@plt"),
                }
            }
        };
        Some(NamedFunction { name, start: addresses.start, addresses, is_sized: true })
    }

    fn find_function(&self, address: u64) -> Option<NamedFunction> {
        let found = self.functions.find(address)?;
        let (name, is_sized) = self.best_name(&found.aliases)?;
        let mut addresses = found.addresses;
        if !is_sized {
            // What call frames describe is another function, whose symbol was removed.
            let file = &self.files[0];
            let starts = self.starts.get_or_init(|| FunctionStarts::read(file));
            let start = starts.last_up_to(file, address);
            if start.is_some_and(|start| start > found.start) {
                return None;
            }
            if !self.has_local_symbols() && !code_end::contains(file, found.start, address) {
                return None;
            }
            addresses = address..address.saturating_add(1);
        }
        Some(NamedFunction { name, start: found.start, addresses, is_sized })
    }

    fn has_local_symbols(&self) -> bool {
        self.sources.iter().any(|source| Some(source.table) != self.exported)
    }

    /// Returns the best name of several symbols, and whether its table has its size.
    fn best_name(&self, aliases: &[SymbolId]) -> Option<(String, bool)> {
        let symbols = aliases.iter().filter_map(|id| Some((*id, self.symbol(*id)?)));
        let mut symbols: Vec<(SymbolId, Symbol<'_>)> = symbols.collect();
        let rank = |(id, symbol): &(SymbolId, Symbol<'_>)| {
            (!id.is_sized(), symbol.function.kind, symbol.function.binding)
        };
        let best = symbols.iter().map(rank).min()?;
        symbols.retain(|symbol| rank(symbol) == best);
        if symbols.len() > 1 {
            symbols.sort_by_cached_key(|(_, symbol)| {
                let name = symbol.table.name_start(symbol.file, &symbol.function);
                (name.iter().take_while(|byte| **byte == b'_').count(), name)
            });
        }
        let (id, Symbol { file, table, function }) = symbols.first()?;
        let name = table.name(file, function);
        let name = (!name.is_empty()).then(|| String::from_utf8_lossy(&name).into_owned());
        Some((name?, id.is_sized()))
    }

    fn symbol(&self, id: SymbolId) -> Option<Symbol<'_>> {
        let (source, number) = id.split();
        let Source { file, table } = self.sources.get(source)?;
        let file = &self.files[*file];
        Some(Symbol { file, table, function: table.function(file, number)? })
    }
}

/// A symbol, its table, and the file that it is in.
struct Symbol<'a> {
    file: &'a ElfFile,
    table: &'a SymbolTable,
    function: FunctionSymbol,
}

#[cfg(test)]
mod tests;
