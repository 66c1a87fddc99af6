//! Prints what this crate finds at addresses of a file, for comparison with other symbolizers.
//!
//! ```text
//! symbolize FILE [debug=FILE] [supplementary=FILE] [package=FILE] <ADDRESSES
//! ```
//! Reads an address in hexadecimal from each line. Prints a line for each: its functions, innermost
//! first, separated by tabs, each as linker's name, name for people, file and line, separated by
//! the control character 0x1f.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::process::ExitCode;

use symbolizer::proto::{FileRole, Request, SourceFunction, Symbol};
use symbolizer::{DebugLinks, MappedFile, OwnMemory, Worker};

/// Addresses in one request.
const AT_ONCE: usize = 1000;

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("symbolize: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let (mut roles, mut files) = (Vec::new(), Vec::new());
    for argument in arguments {
        let (role, path) = match argument.split_once('=') {
            Some(("debug", path)) => (FileRole::Debug, path),
            Some(("supplementary", path)) => (FileRole::Supplementary, path),
            Some(("package", path)) => (FileRole::Package, path),
            _ => (FileRole::Own, argument.as_str()),
        };
        roles.push(role.into());
        files.push(File::open(path).map_err(|error| format!("cannot open {path}: {error}"))?);
    }
    let own = files.first().ok_or("no file")?.try_clone()?;
    let build_id = DebugLinks::read(own)?.build_id.unwrap_or_default();
    let lines = io::read_to_string(io::stdin())?;
    let addresses: Result<Vec<u64>, _> =
        lines.split_whitespace().map(|line| u64::from_str_radix(line, 16)).collect();
    let mut worker = Worker::new(16 << 30, || OwnMemory { resident_kib: 0, data_kib: 0 }, read);
    for addresses in addresses?.chunks(AT_ONCE) {
        let (addresses, files) = (addresses.to_vec(), files.iter().map(File::try_clone));
        let files = files.collect::<io::Result<Vec<File>>>()?;
        let request = Request {
            addresses,
            build_id: build_id.clone(),
            files: roles.clone(),
            file: 1,
            ..Request::default()
        };
        let response = worker.answer(&request, files);
        if !response.error.is_empty() {
            return Err(response.error.into());
        }
        response.symbols.iter().for_each(print);
    }
    Ok(())
}

fn print(symbol: &Symbol) {
    let text = |function: &SourceFunction| {
        let SourceFunction { system_name, name, file, line, .. } = function;
        format!("{system_name}\x1f{name}\x1f{file}\x1f{line}")
    };
    println!("{}", symbol.functions.iter().map(text).collect::<Vec<_>>().join("\t"));
}

/// Reads a file in the place of mapping it.
fn read(mut file: &File) -> io::Result<MappedFile> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(Box::new(bytes))
}
