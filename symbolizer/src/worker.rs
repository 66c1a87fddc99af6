//! The worker: reads requests, answers them, and dies instead of its parent.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::Path;

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer};
use profile::BuildId;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::debug::Debug;
use crate::demangle::demangle;
use crate::kernel::Functions;
use crate::proto::{Request, Response, SourceFunction, Symbol};

/// The worker may take its memory limit divided by this before it forgets what it has read.
const KEPT_DIVISOR: u64 = 2;

/// Answers requests about files and the kernel.
///
/// What a file made the parser keep serves the next requests about it, until it is to be forgotten, or until all that is kept,
/// mapped files included, is more than half of the memory limit: then what was not asked about for longest goes first.
pub struct Worker {
    parsers: Parsers,
    kept_kib: u64,
    resident_kib: fn() -> u64,
}

impl Worker {
    /// Limits the memory of this process. `memory_max`: bytes of its own that it may have; mapped files do not count.
    /// `resident_kib`: measures the resident memory of this process, in KiB.
    pub fn new(memory_max: u64, resident_kib: fn() -> u64) -> Self {
        limit(Resource::Data, memory_max);
        limit(Resource::Core, 0);
        let kept_kib = resident_kib() + code_kib() + memory_max / KEPT_DIVISOR / 1024;
        Self { parsers: Parsers::default(), kept_kib, resident_kib }
    }

    /// Answers a request.
    pub fn answer(&mut self, request: &Request) -> Response {
        request.forget.iter().for_each(|key| drop(self.parsers.files.remove(key)));
        let response = match self.parsers.name(request) {
            Ok(symbols) => Response { symbols, error: String::new() },
            Err(error) => Response { symbols: Vec::new(), error },
        };
        while (self.resident_kib)() > self.kept_kib && self.parsers.forget_oldest() {}
        response
    }
}

/// What is kept of a file.
struct Parser {
    /// The number of the request that it was of use for last.
    used: u64,
    debug: Debug,
    parser: Symbolizer,
}

/// A parser of each file, so that one is forgotten alone; and the kernel's functions.
#[derive(Default)]
struct Parsers {
    files: HashMap<u64, Parser>,
    kernel: Option<Functions>,
    requests: u64,
}

impl Parsers {
    fn name(&mut self, request: &Request) -> Result<Vec<Symbol>, String> {
        self.requests += 1;
        if request.addresses.is_empty() {
            Ok(Vec::new())
        } else if request.path.is_empty() {
            self.name_in_kernel(&request.addresses).map_err(|error| error.to_string())
        } else {
            self.name_in_file(request).map_err(|error| profile::error_chain(&error))
        }
    }

    fn name_in_kernel(&mut self, addresses: &[u64]) -> io::Result<Vec<Symbol>> {
        let functions = match self.kernel.take() {
            Some(functions) => functions,
            None => Functions::of_running_kernel()?,
        };
        let functions = self.kernel.insert(functions);
        let symbol = |address: &u64| match functions.find(*address) {
            Some((name, Range { start, end })) => {
                Symbol { functions: vec![function(name, None)], start, end }
            }
            None => Symbol::default(),
        };
        Ok(addresses.iter().map(symbol).collect())
    }

    fn name_in_file(&mut self, request: &Request) -> Result<Vec<Symbol>, blazesym::Error> {
        let Request { path, addresses, .. } = request;
        let own = Path::new(path);
        let new = || Parser {
            used: 0,
            debug: if request.symbols_only {
                Debug::Symbols
            } else {
                Debug::of(own, BuildId::new(&request.build_id).as_ref())
            },
            parser: Symbolizer::builder().enable_demangling(false).build(),
        };
        let Parser { used, debug, parser } = self.files.entry(request.file).or_insert_with(new);
        *used = self.requests;
        let names = |file: &Path, debug_syms, addresses: &[u64]| {
            let file = Elf { debug_syms, ..Elf::new(file.to_owned()) };
            let found = parser.symbolize(&Source::Elf(file), Input::VirtOffset(addresses))?;
            Ok::<_, blazesym::Error>(found.into_iter().map(symbol).collect::<Vec<_>>())
        };
        let by_debug_info = match &*debug {
            Debug::Own => names(own, true, addresses),
            Debug::Separate(file) => names(file, true, addresses),
            Debug::Symbols => return names(own, false, addresses),
        };
        let Ok(mut symbols) = by_debug_info else {
            *debug = Debug::Symbols; // the other makes no sense
            return names(own, false, addresses);
        };
        if matches!(debug, Debug::Separate(_)) {
            // What has no name there may have one in the file's own symbols.
            let is_nameless = |place: &usize| symbols[*place].functions.is_empty();
            let nameless: Vec<usize> = (0..symbols.len()).filter(is_nameless).collect();
            let rest: Vec<u64> = nameless.iter().map(|place| addresses[*place]).collect();
            let found = if rest.is_empty() { Ok(Vec::new()) } else { names(own, false, &rest) };
            let found = found.unwrap_or_default();
            nameless.into_iter().zip(found).for_each(|(place, symbol)| symbols[place] = symbol);
        }
        Ok(symbols)
    }

    /// Forgets the file that was of no use for longest; says whether there was one.
    fn forget_oldest(&mut self) -> bool {
        let oldest = self.files.iter().min_by_key(|(_, file)| file.used).map(|(key, _)| *key);
        oldest.is_some_and(|key| self.files.remove(&key).is_some())
    }
}

/// Memory of the code that the process will come to, which it has not read yet: about half of its file.
fn code_kib() -> u64 {
    std::fs::metadata("/proc/self/exe").map_or(0, |exe| exe.len()) / 2048
}

/// Lowers a limit of this process. It only protects: where it cannot be set we go on without.
fn limit(resource: Resource, value: u64) {
    let _ = setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) });
}

/// blazesym gives the function first and what is inlined in it from there inwards; each has
/// the place of the call to the next, and the innermost the place of the instruction.
fn symbol(found: Symbolized<'_>) -> Symbol {
    let Some(sym) = found.into_sym() else { return Symbol::default() };
    let Sym { name, code_info, inlined, addr, size, .. } = sym;
    // Without lines the whole function has this one name.
    let is_whole = code_info.is_none() && inlined.is_empty();
    let size = size.filter(|_| is_whole).unwrap_or(0);
    let mut functions = vec![function(&name, code_info.as_deref())];
    for inlined in &inlined {
        functions.push(function(&inlined.name, inlined.code_info.as_ref()));
    }
    functions.reverse();
    Symbol { functions, start: addr, end: addr.saturating_add(size as u64) }
}

fn function(name: &str, place: Option<&CodeInfo<'_>>) -> SourceFunction {
    SourceFunction {
        name: demangle(name),
        system_name: name.to_owned(),
        file: place.map(|p| p.to_path().to_string_lossy().into_owned()).unwrap_or_default(),
        line: place.and_then(|p| p.line).unwrap_or(0),
    }
}
