//! The symbols of one file: by its debug info, and by its symbol tables.

use std::cell::OnceCell;
use std::fs::File;
use std::io;

use crate::debug_info::{
    DebugInfo, DebugInfoFiles, MappedFile, is_debug_file_of, is_debug_info, supplementary,
};
use crate::elf::{ElfFile, Section};
use crate::functions::FunctionBuilder;
use crate::go::GoTable;
use crate::proto::{FileRole, Request, Symbol};
use crate::symbols::{NamedFunction, SymbolTables};

/// Mapped debug info that is read, as a multiple of the memory that a request may take: most of it
/// is skipped.
const MAPPED_PER_MEMORY: u64 = 16;

/// Maps a file. It may change or shrink meanwhile, which may end the process.
pub type MapFile = fn(&File) -> io::Result<MappedFile>;

/// Reads the symbols of one file, and keeps what it has read.
pub(crate) struct FileSymbols {
    /// Number of the last request about it.
    pub used: u64,
    symbols: SymbolTables,
    /// Read when an address is not in debug info.
    go: OnceCell<Option<GoTable>>,
    /// `None` if there is none, or it is not to be read.
    debug_info: Option<DebugInfo>,
    /// Why debug info that exists is not read; empty when it is.
    pub debug_info_error: String,
}

impl FileSymbols {
    /// Reads the headers of the files of a request. `files`: their roles are in the request.
    /// `map`: maps them.
    ///
    /// # Errors
    /// When the file itself cannot be read.
    pub fn open(request: &Request, files: &[File], map: MapFile) -> Result<Self, String> {
        let open = |role| {
            let file = request.files().zip(files).find(|(of, _)| *of == role)?.1;
            Some(file.try_clone().and_then(ElfFile::open))
        };
        let own = open(FileRole::Own).ok_or("the file is not open")?;
        let own = own.map_err(|error| error.to_string())?;
        let open = |role| open(role).and_then(Result::ok);
        let debug = open(FileRole::Debug).filter(|file| is_debug_file_of(file, &own));
        let memory_max = if request.memory_max == 0 { u64::MAX } else { request.memory_max };
        let (debug_info, debug_info_error) = match request.symbols_only {
            true => (None, String::new()),
            false => match read_debug_info(&own, debug.as_ref(), open, memory_max, map) {
                Ok(found) => (found, String::new()),
                Err(error) => (None, error),
            },
        };
        let symbols = SymbolTables::read(own, debug, memory_max);
        Ok(Self { used: 0, symbols, go: OnceCell::new(), debug_info, debug_info_error })
    }

    /// Returns whether there is no debug info, neither in the file nor in its debug file.
    pub fn has_no_debug_info(&self) -> bool {
        self.debug_info.is_none() && self.debug_info_error.is_empty()
    }

    /// Returns the symbols of the addresses, until the response is full.
    ///
    /// # Errors
    /// When the file has neither symbol tables nor debug info that can be read.
    pub fn symbolize(
        &mut self,
        request: &Request,
        builder: &mut FunctionBuilder,
    ) -> Result<Vec<Symbol>, String> {
        let find = |address: &u64| self.find(*address, builder);
        let symbols: Vec<Symbol> = request.addresses.iter().map_while(find).collect();
        let is_unnamed = |symbol: &Symbol| symbol.functions.is_empty();
        let is_useless = self.symbols.is_empty() && symbols.iter().all(is_unnamed);
        match &self.symbols.error {
            error if is_useless && !error.is_empty() => Err(error.clone()),
            _ => Ok(symbols),
        }
    }

    /// Returns the symbol of an address; `None` once the response is full.
    fn find(&mut self, address: u64, builder: &mut FunctionBuilder) -> Option<Symbol> {
        let own = self.symbols.find(address);
        let found = self.debug_info.as_ref().map(|info| info.functions(address)).transpose();
        let found = found.unwrap_or_else(|error| {
            self.debug_info_error = error.to_string();
            None
        });
        let (found, left_out) = found.unwrap_or_default();
        builder.cut += left_out;
        // Debug info may have no more than a line in the function that the symbol tables have.
        let is_known = found.last().is_some_and(|f| own.is_some() || !f.name.is_empty());
        match is_known {
            true => builder.by_debug_info(found, address, own.as_ref()),
            false => self.without_debug_info(address, own.as_ref(), builder),
        }
    }

    fn without_debug_info(
        &self,
        address: u64,
        own: Option<&NamedFunction>,
        builder: &mut FunctionBuilder,
    ) -> Option<Symbol> {
        let file = self.symbols.file();
        let table = self.go.get_or_init(|| GoTable::find(file)).as_ref();
        let functions = table.map(|table| table.functions(file, address)).unwrap_or_default();
        // Of functions of other languages the table has neither lines nor ends.
        let has_lines = functions.first().is_some_and(|function| function.line > 0);
        let is_sized = own.is_some_and(|own| own.is_sized);
        match functions.is_empty() || is_sized && !has_lines {
            true => builder.by_symbol_table(own),
            false => builder.by_go_table(functions, address),
        }
    }
}

/// Reads the debug info of a file: that of its debug file, or else its own. `open`: opens another
/// file of the request. `None` if there is none.
///
/// # Errors
/// Why it is not read.
fn read_debug_info(
    own: &ElfFile,
    debug: Option<&ElfFile>,
    open: impl Fn(FileRole) -> Option<ElfFile>,
    memory_max: u64,
    map: MapFile,
) -> Result<Option<DebugInfo>, String> {
    let mut files = debug.into_iter().chain([own]);
    let has_debug_info = |file: &&ElfFile| file.headers.sections.iter().any(is_debug_info);
    let Some(main) = files.find(has_debug_info) else { return Ok(None) };
    let is_supplementary = |file: &ElfFile| {
        supplementary(main).is_some_and(|link| file.build_id() == Some(link.build_id))
    };
    let supplementary = open(FileRole::Supplementary).filter(is_supplementary);
    let package = open(FileRole::Package);
    let (supplementary, package) = (supplementary.as_ref(), package.as_ref());
    let files = DebugInfoFiles { main, supplementary, package };
    check_size(files.iter().flat_map(|file| &file.headers.sections), memory_max)?;
    let map = |file: &ElfFile| match file.bytes.file() {
        Some(open) => map(open),
        None => Err(io::ErrorKind::Unsupported.into()),
    };
    let mapped = files.try_map(|file| map(file).map(|mapped| (file, mapped)));
    DebugInfo::read(mapped.map_err(|error: io::Error| error.to_string())?).map(Some)
}

/// Checks that the debug info in sections fits into memory once it is decompressed.
fn check_size<'a>(
    sections: impl Iterator<Item = &'a Section>,
    memory_max: u64,
) -> Result<(), String> {
    let sections = sections.filter(|section| is_debug_info(section));
    let (mut decompressed, mut mapped) = (0u64, 0u64);
    for section in sections {
        match section.decompressed {
            Some(bytes) => decompressed = decompressed.saturating_add(bytes),
            None => mapped = mapped.saturating_add(section.bytes),
        }
    }
    if decompressed > memory_max {
        return Err(format!("its debug info takes {} MiB decompressed", decompressed >> 20));
    }
    if mapped > memory_max.saturating_mul(MAPPED_PER_MEMORY) {
        return Err(format!("its debug info takes {} MiB", mapped >> 20));
    }
    Ok(())
}
