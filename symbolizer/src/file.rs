//! The symbols of one file: by its debug info, else by its symbol tables.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{Input, Reason, Symbolized, Symbolizer};
use profile::{BuildId, error_chain};

use crate::functions::{Full, FunctionBuilder};
use crate::proto::{Request, Symbol};
use crate::raw_names::raw_names;
use crate::sections::Sections;

/// Sections that name another file, which the parser would open. They are not followed: the author
/// of the file wrote them, and a path of its mount namespace is another file in ours.
const LINKS: [&str; 3] = [".gnu_debuglink", ".gnu_debugaltlink", ".debug_sup"];
/// Addresses that are symbolized at once: when the response is full, the others are not looked up.
const ADDRESSES_AT_ONCE: usize = 256;
/// Mapped debug info that is read, as a multiple of the memory that a request may take: most of it
/// is skipped.
const MAPPED_PER_MEMORY: u64 = 16;
/// The parser has an index of 8 bytes for each symbol of 16 or 24.
const SYMBOL_BYTES_PER_INDEX: u64 = 2;

/// Where the debug info of a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum DebugInfo {
    /// In the file itself.
    Own,
    /// In this file, which a distribution has installed for its build ID.
    Separate(PathBuf),
    /// Nowhere, or not to be read.
    None,
}

/// Reads the symbols of one file, and keeps what it has read.
pub(crate) struct FileSymbols {
    /// Number of the last request about it.
    pub used: u64,
    sections: Sections,
    debug_info: DebugInfo,
    /// Why debug info that exists is not read; empty when it is.
    pub debug_info_error: String,
    parser: Symbolizer,
}

impl FileSymbols {
    /// Opens the file of a request.
    ///
    /// # Errors
    /// When it cannot be read, or its sections take more memory than the request may.
    pub fn open(request: &Request) -> Result<Self, String> {
        let read = File::open(&request.path).and_then(|file| Sections::read(&file));
        let sections = read.map_err(|error| error.to_string())?;
        let memory_max = if request.memory_max == 0 { u64::MAX } else { request.memory_max };
        check_symbols(&sections, memory_max)?;
        let mut this = Self {
            used: 0,
            sections,
            debug_info: DebugInfo::None,
            debug_info_error: String::new(),
            parser: new_parser(),
        };
        if !request.symbols_only {
            this.find_debug_info(BuildId::new(&request.build_id).as_ref(), memory_max);
        }
        Ok(this)
    }

    fn find_debug_info(&mut self, build_id: Option<&BuildId>, memory_max: u64) {
        let separate = build_id.map(BuildId::debug_file).filter(|file| file.is_file());
        let sections = match &separate {
            Some(path) => File::open(path).and_then(|file| Sections::read(&file)),
            None => Ok(self.sections.clone()),
        };
        let is_linked = |sections: &Sections| LINKS.iter().any(|name| sections.has(name));
        let checked = sections
            .map_err(|error: io::Error| error.to_string())
            .and_then(|sections| check_debug_info(&sections, memory_max));
        match (checked, separate) {
            (Err(error), _) => self.debug_info_error = error,
            (Ok(()), Some(path)) => self.debug_info = DebugInfo::Separate(path),
            (Ok(()), None) if is_linked(&self.sections) => {}
            (Ok(()), None) => self.debug_info = DebugInfo::Own,
        }
    }

    /// Returns the symbols of the addresses, until the response is full.
    ///
    /// # Errors
    /// When the file has no symbol tables that can be read.
    pub fn symbolize(
        &mut self,
        request: &Request,
        builder: &mut FunctionBuilder,
    ) -> Result<Vec<Symbol>, String> {
        let mut symbols = Vec::new();
        for addresses in request.addresses.chunks(ADDRESSES_AT_ONCE) {
            let chunk = self.symbolize_chunk(Path::new(&request.path), addresses, builder)?;
            let is_full = chunk.len() < addresses.len();
            symbols.extend(chunk);
            if is_full {
                break;
            }
        }
        Ok(symbols)
    }

    fn symbolize_chunk(
        &mut self,
        own: &Path,
        addresses: &[u64],
        builder: &mut FunctionBuilder,
    ) -> Result<Vec<Symbol>, String> {
        let (file, is_own) = match &self.debug_info {
            DebugInfo::Own => (own.to_owned(), true),
            DebugInfo::Separate(path) => (path.clone(), false),
            DebugInfo::None => return self.by_symbol_tables(own, addresses, builder),
        };
        let found = self.parse(&file, true, addresses, builder);
        if let Some(error) = found.useless() {
            self.debug_info = DebugInfo::None;
            self.debug_info_error = error;
            return self.by_symbol_tables(own, addresses, builder);
        }
        Ok(self.complete(own, addresses, found.symbols, is_own, builder))
    }

    /// Looks up in the symbol tables what has no name by debug info: a separate file may lack
    /// functions that the file itself has, and a name may be no text.
    fn complete(
        &self,
        own: &Path,
        addresses: &[u64],
        found: Vec<Option<Symbol>>,
        is_own: bool,
        builder: &mut FunctionBuilder,
    ) -> Vec<Symbol> {
        let is_missing = |symbol: &Option<Symbol>| match symbol {
            Some(symbol) => symbol.functions.is_empty() && !is_own,
            None => true,
        };
        let missing: Vec<usize> = (0..found.len()).filter(|at| is_missing(&found[*at])).collect();
        let mut symbols: Vec<Symbol> = found.into_iter().map(Option::unwrap_or_default).collect();
        let rest: Vec<u64> = missing.iter().map(|at| addresses[*at]).collect();
        let named = self.by_symbol_tables(own, &rest, builder).unwrap_or_default();
        missing.into_iter().zip(named).for_each(|(at, symbol)| symbols[at] = symbol);
        symbols
    }

    fn by_symbol_tables(
        &self,
        own: &Path,
        addresses: &[u64],
        builder: &mut FunctionBuilder,
    ) -> Result<Vec<Symbol>, String> {
        let found = self.parse(own, false, addresses, builder);
        let error = found.useless();
        let found = found.symbols;
        let failed: Vec<usize> = (0..found.len()).filter(|at| found[*at].is_none()).collect();
        let mut symbols: Vec<Symbol> = found.into_iter().map(Option::unwrap_or_default).collect();
        if failed.is_empty() {
            return Ok(symbols);
        }
        let rest: Vec<u64> = failed.iter().map(|at| addresses[*at]).collect();
        let names = File::open(own).and_then(|file| raw_names(&file, &self.sections, &rest));
        let names = names.unwrap_or_default();
        if let Some(error) = error.filter(|_| names.iter().all(Option::is_none)) {
            return Err(error);
        }
        for (at, name) in failed.into_iter().zip(names) {
            let name = name.and_then(|name| builder.named(&name, addresses[at], addresses[at]));
            symbols[at] = name.unwrap_or_default();
        }
        Ok(symbols)
    }

    /// Looks addresses up. `None`: the parser rejects what is there, or it has no name. Ends early
    /// when the response is full.
    fn parse(
        &self,
        file: &Path,
        debug_syms: bool,
        addresses: &[u64],
        builder: &mut FunctionBuilder,
    ) -> Found {
        let source = Source::Elf(Elf { debug_syms, ..Elf::new(file.to_owned()) });
        let single = |address| self.parser.symbolize_single(&source, Input::VirtOffset(address));
        let all = self.parser.symbolize(&source, Input::VirtOffset(addresses));
        let all = all
            .unwrap_or_else(|_| vec![Symbolized::Unknown(Reason::IgnoredError); addresses.len()]);
        let mut found = Found { symbols: Vec::new(), error: None };
        for (address, one) in addresses.iter().zip(all) {
            if matches!(one, Symbolized::Unknown(Reason::IgnoredError)) {
                if found.error.is_none() {
                    found.error = single(*address).err().map(|error| error_chain(&error));
                }
                found.symbols.push(None);
                continue;
            }
            match builder.symbol(one) {
                Ok(symbol) => found.symbols.push(symbol),
                Err(Full) => break,
            }
        }
        found
    }
}

/// What the parser has found.
struct Found {
    /// The symbol of each address; `None` where the parser rejects it, or it has no name.
    symbols: Vec<Option<Symbol>>,
    /// Why the parser rejected one of these.
    error: Option<String>,
}

impl Found {
    /// Returns the error if all addresses were rejected.
    fn useless(&self) -> Option<String> {
        self.error.clone().filter(|_| self.symbols.iter().all(Option::is_none))
    }
}

fn new_parser() -> Symbolizer {
    Symbolizer::builder().enable_demangling(false).build()
}

/// Checks that the symbol tables and their index fit into memory.
fn check_symbols(sections: &Sections, memory_max: u64) -> Result<(), String> {
    let tables = sections.bytes(|name| [".symtab", ".dynsym"].contains(&name));
    let names = sections.bytes(|name| [".strtab", ".dynstr", ".shstrtab"].contains(&name));
    let index = tables.mapped.saturating_add(tables.decompressed) / SYMBOL_BYTES_PER_INDEX;
    let bytes = index.saturating_add(tables.decompressed).saturating_add(names.decompressed);
    if bytes > memory_max {
        return Err(format!("its symbols take {} MiB", bytes >> 20));
    }
    Ok(())
}

/// Checks that the debug info fits into memory once it is decompressed.
fn check_debug_info(sections: &Sections, memory_max: u64) -> Result<(), String> {
    let bytes = sections.bytes(|name| name.starts_with(".debug_"));
    if bytes.decompressed > memory_max {
        return Err(format!("its debug info takes {} MiB decompressed", bytes.decompressed >> 20));
    }
    if bytes.mapped > memory_max.saturating_mul(MAPPED_PER_MEMORY) {
        return Err(format!("its debug info takes {} MiB", bytes.mapped >> 20));
    }
    Ok(())
}
