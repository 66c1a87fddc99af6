//! The worker: reads requests, answers them, and dies instead of its parent.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::file::{FileSymbols, MapFile};
use crate::functions::FunctionBuilder;
use crate::kernel::Functions;
use crate::kernel_access::KernelAccess;
use crate::limits::{OwnMemory, limit_process, limit_request};
use crate::proto::{Request, Response, Symbol};
use crate::text::printable;

/// The worker may take its memory limit divided by this before it forgets what it has read.
const CACHED_DIVISOR: u64 = 2;
/// Files that are cached. Each is open, and so is its debug file; a process may open 1,024.
const FILES_MAX: usize = 400;

/// Answers requests about files and the kernel.
///
/// What a file made the parser cache serves the next requests about it, until the request that
/// forgets it, or until all that is cached, mapped files included, is more than half of the memory
/// limit: then the least recently used files are forgotten.
pub struct Worker {
    parsers: Parsers,
    cached_kib: u64,
    own_memory: fn() -> OwnMemory,
}

impl Worker {
    /// Limits the memory of this process. `memory_max`: bytes of its own that it may have; mapped
    /// files do not count. `own_memory`: measures the memory of this process. `map`: maps files.
    pub fn new(memory_max: u64, own_memory: fn() -> OwnMemory, map: MapFile) -> Self {
        limit_process(memory_max);
        let code_kib = code_kib();
        let cached_kib = own_memory().resident_kib + code_kib + memory_max / CACHED_DIVISOR / 1024;
        let parsers = Parsers { files: HashMap::new(), kernel: None, requests: 0, map };
        Self { parsers, cached_kib, own_memory }
    }

    /// Answers a request. `files`: those that it is about, see [`Request`].
    pub fn answer(&mut self, request: &Request, files: Vec<File>) -> Response {
        request.forget.iter().for_each(|key| drop(self.parsers.files.remove(key)));
        limit_request((self.own_memory)().data_kib, request.memory_max, request.cpu_seconds_max);
        let mut response = self.parsers.answer(request, &files);
        response.error = printable(&response.error);
        response.debug_info_error = printable(&response.debug_info_error);
        let is_full = |parsers: &Parsers| {
            parsers.files.len() > FILES_MAX || (self.own_memory)().resident_kib > self.cached_kib
        };
        while is_full(&self.parsers) && self.parsers.forget_oldest() {}
        response
    }
}

/// A parser for each file, so that each is forgotten alone; and the kernel's functions.
struct Parsers {
    files: HashMap<u64, FileSymbols>,
    kernel: Option<Functions>,
    requests: u64,
    map: MapFile,
}

impl Parsers {
    fn answer(&mut self, request: &Request, files: &[File]) -> Response {
        self.requests += 1;
        if request.addresses.is_empty() {
            return Response::default();
        }
        if request.is_kernel {
            return self.symbolize_kernel(request, files);
        }
        // The parser trusts some numbers of a file, such as the index of a source file.
        let symbolize = AssertUnwindSafe(|| self.symbolize_file(request, files));
        let response = catch_unwind(symbolize).unwrap_or_else(|_| {
            self.files.remove(&request.file);
            if request.symbols_only {
                return failed("the parser panicked".into());
            }
            let symbols_only = Request { symbols_only: true, ..request.clone() };
            let by_symbols = AssertUnwindSafe(|| self.symbolize_file(&symbols_only, files));
            let panicked = "the parser panicked";
            let response = catch_unwind(by_symbols).unwrap_or_else(|_| failed(panicked.into()));
            Response { debug_info_error: panicked.into(), ..response }
        });
        if !response.error.is_empty() {
            self.files.remove(&request.file);
        }
        response
    }

    fn symbolize_kernel(&mut self, request: &Request, files: &[File]) -> Response {
        let functions = match (self.kernel.take(), files.first()) {
            (Some(functions), _) => functions,
            (None, Some(list)) => match Functions::read(list) {
                Ok(functions) if functions.is_empty() => {
                    return failed(KernelAccess::NoCapability.to_string());
                }
                Ok(functions) => functions,
                Err(error) => return failed(error.to_string()),
            },
            (None, None) => return failed(KernelAccess::NoList.to_string()),
        };
        let functions = self.kernel.insert(functions);
        let mut builder = FunctionBuilder::new(request.names_max);
        let symbol = |address: &u64| match functions.find(*address) {
            Some((name, Range { start, end })) => builder.named(name, start, end),
            None => Some(Symbol::default()),
        };
        let symbols = request.addresses.iter().map_while(symbol).collect();
        Response { symbols, ..Response::default() }
    }

    fn symbolize_file(&mut self, request: &Request, files: &[File]) -> Response {
        let file = match self.files.entry(request.file) {
            Entry::Occupied(file) => file.into_mut(),
            Entry::Vacant(space) => match FileSymbols::open(request, files, self.map) {
                Ok(file) => space.insert(file),
                Err(error) => return failed(error),
            },
        };
        file.used = self.requests;
        let mut builder = FunctionBuilder::new(request.names_max);
        match file.symbolize(request, &mut builder) {
            Ok(symbols) => {
                let debug_info_error = file.debug_info_error.clone();
                let no_debug_info = !request.symbols_only && file.has_no_debug_info();
                let (error, cut) = (String::new(), builder.cut);
                Response { symbols, error, cut, debug_info_error, no_debug_info }
            }
            Err(error) => failed(error),
        }
    }

    /// Forgets the least recently used file. Returns whether there was one.
    fn forget_oldest(&mut self) -> bool {
        let oldest = self.files.iter().min_by_key(|(_, file)| file.used).map(|(key, _)| *key);
        oldest.is_some_and(|key| self.files.remove(&key).is_some())
    }
}

fn failed(error: String) -> Response {
    Response { error, ..Response::default() }
}

/// Memory of the code that the process has not read yet: about half of its file.
fn code_kib() -> u64 {
    std::fs::metadata("/proc/self/exe").map_or(0, |exe| exe.len()) / 2048
}
