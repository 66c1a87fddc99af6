//! The worker: reads requests, answers them, and dies instead of its parent.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use blazesym::MaybeDefault;
use blazesym::symbolize::source::{Elf, Kernel, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::Usage;
use crate::demangle::demangle;
use crate::protocol::{Line, Request, Response, Symbol, receive, send};
use crate::usage::anonymous_kib;

/// The part of its memory that the worker may have taken before it forgets what it has read.
const KEPT_PART: u64 = 4;

/// Answers requests until their sender closes the stream. `memory_max`: bytes of its own that the worker may have; mapped
/// files do not count.
///
/// What a file made the parser keep serves the next requests about it, until it is to be forgotten, or until all that is kept is
/// more than a quarter of that memory.
///
/// # Errors
/// When a stream breaks or a message makes no sense.
pub fn serve(
    requests: &mut impl Read,
    responses: &mut impl Write,
    memory_max: u64,
) -> io::Result<()> {
    limit(Resource::Data, memory_max);
    limit(Resource::Core, 0);
    let mut parsers = Parsers::default();
    while let Some(request) = receive::<Request>(requests)? {
        let mut response = Response::default();
        request.forget.iter().for_each(|key| drop(parsers.files.remove(key)));
        match parsers.name(&request) {
            Ok(symbols) => response.symbols = symbols,
            Err(error) => response.error = format!("{error:#}"),
        }
        let Usage { cpu, peak_rss_kib } = Usage::own();
        (response.cpu_ns, response.peak_rss_kib) = (cpu.as_nanos() as u64, peak_rss_kib);
        send(responses, &response)?;
        if anonymous_kib() > memory_max / KEPT_PART / 1024 {
            parsers = Parsers::default();
        }
    }
    Ok(())
}

/// A parser of each file, so that one is forgotten alone; and one of the kernel.
#[derive(Default)]
struct Parsers {
    files: HashMap<u64, Symbolizer>,
    kernel: Option<Symbolizer>,
}

impl Parsers {
    fn name(&mut self, request: &Request) -> Result<Vec<Symbol>, blazesym::Error> {
        if request.addresses.is_empty() {
            return Ok(Vec::new());
        }
        let new = || Symbolizer::builder().enable_demangling(false).build();
        let (parser, source, input) = if request.path.is_empty() {
            let parser = self.kernel.get_or_insert_with(new);
            (parser, kernel(), Input::AbsAddr(request.addresses.as_slice()))
        } else {
            let mut file = Elf::new(PathBuf::from(&request.path));
            file.debug_syms = !request.symbols_only;
            let parser = self.files.entry(request.file).or_insert_with(new);
            (parser, Source::Elf(file), Input::VirtOffset(request.addresses.as_slice()))
        };
        let found = parser.symbolize(&source, input)?;
        Ok(found.into_iter().map(symbol).collect())
    }
}

/// Lowers a limit of this process. It only protects: where it cannot be set we go on without.
fn limit(resource: Resource, value: u64) {
    let _ = setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) });
}

/// The kernel's own list of symbols: it has modules and BPF programs too.
fn kernel() -> Source<'static> {
    Source::Kernel(Kernel { vmlinux: MaybeDefault::None, debug_syms: false, ..Kernel::default() })
}

/// blazesym gives the function first and what is inlined in it from there inwards; each has
/// the place of the call to the next, and the innermost the place of the instruction.
fn symbol(found: Symbolized<'_>) -> Symbol {
    let Some(sym) = found.into_sym() else { return Symbol::default() };
    let Sym { name, code_info, inlined, addr, size, .. } = sym;
    // Without lines the whole function has this one name.
    let is_whole = code_info.is_none() && inlined.is_empty();
    let size = size.filter(|_| is_whole).unwrap_or(0);
    let mut lines = vec![line(&name, code_info.as_deref())];
    for function in &inlined {
        lines.push(line(&function.name, function.code_info.as_ref()));
    }
    lines.reverse();
    Symbol { lines, start: addr, end: addr.saturating_add(size as u64) }
}

fn line(name: &str, place: Option<&CodeInfo<'_>>) -> Line {
    Line {
        function: demangle(name),
        system_name: name.to_owned(),
        file: place.map(|p| p.to_path().to_string_lossy().into_owned()).unwrap_or_default(),
        line: place.and_then(|p| p.line).unwrap_or(0),
    }
}
