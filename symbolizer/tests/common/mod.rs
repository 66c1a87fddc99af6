//! Shared by the tests: programs with known names, and requests about them.
// Each test binary uses a part of this, and a test may panic.
#![allow(dead_code, clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use symbolizer::proto::{FileRole, Request, Response, SourceFunction, Symbol};
use symbolizer::{MappedFile, OwnMemory, Worker};

/// Memory that a request may take in the tests, in bytes: that of an agent.
const MEMORY: u64 = 64 << 20;

/// Runs a command and returns its output; panics if it fails.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a program with arguments that are separated by spaces.
pub fn run(program: &str, arguments: &str, directory: &Path) -> String {
    succeed(Command::new(program).args(arguments.split(' ')).current_dir(directory))
}

/// Writes a source file and compiles it. `compiler`: a program and its arguments.
pub fn compile(directory: &Path, name: &str, source: &str, compiler: &str) -> PathBuf {
    let (program, arguments) = compiler.split_once(' ').unwrap();
    fs::write(directory.join(format!("{name}.{}", extension(program))), source).unwrap();
    run(program, &format!("{arguments} -o {name} {name}.{}", extension(program)), directory);
    directory.join(name)
}

fn extension(compiler: &str) -> &str {
    match compiler {
        "g++" | "clang++" => "cc",
        "rustc" => "rs",
        _ => "c",
    }
}

/// Asks a worker for the symbols of addresses.
pub fn ask(path: &Path, addresses: &[u64]) -> Response {
    ask_with(path, addresses, |_| {})
}

/// Reads a file in the place of mapping it.
fn read_file(mut file: &File) -> io::Result<MappedFile> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    Ok(Box::new(bytes))
}

/// Returns where the debug file of a build ID is installed.
pub fn installed(build_id: &[u8]) -> PathBuf {
    profile::BuildId::new(build_id).unwrap().debug_file()
}

/// Asks as [`ask`] does, with a request that is changed.
pub fn ask_with(path: &Path, addresses: &[u64], change: impl FnOnce(&mut Request)) -> Response {
    // The limits of this process are those of the compilers that other tests run.
    let own_memory = || OwnMemory { resident_kib: 0, data_kib: 4 << 20 };
    let mut worker = Worker::new(8 << 30, own_memory, read_file);
    let mut request =
        Request { addresses: addresses.to_vec(), memory_max: MEMORY, ..Request::default() };
    change(&mut request);
    let mut files = vec![File::open(path).unwrap()];
    request.files = vec![FileRole::Own.into()];
    if !request.build_id.is_empty()
        && let Ok(debug) = File::open(installed(&request.build_id))
    {
        files.push(debug);
        request.files.push(FileRole::Debug.into());
    }
    worker.answer(&request, files)
}

/// Returns the symbols of addresses; panics if there are none at all.
pub fn symbols(path: &Path, addresses: &[u64]) -> Vec<Symbol> {
    let response = ask(path, addresses);
    assert_eq!(response.error, "", "{}", path.display());
    assert_eq!(response.symbols.len(), addresses.len());
    response.symbols
}

/// Returns the name of the outermost function of each address; empty without one.
pub fn names(path: &Path, addresses: &[u64]) -> Vec<String> {
    let name = |symbol: Symbol| symbol.functions.last().map(|f| f.name.clone()).unwrap_or_default();
    symbols(path, addresses).into_iter().map(name).collect()
}

/// Returns the name of the outermost function of an address; empty without one.
pub fn name(path: &Path, address: u64) -> String {
    names(path, &[address]).remove(0)
}

/// Returns the functions at an address, innermost first.
pub fn functions(path: &Path, address: u64) -> Vec<SourceFunction> {
    symbols(path, &[address]).remove(0).functions
}

/// Returns the address of a symbol, by `nm`.
pub fn address(program: &Path, symbol: &str) -> u64 {
    let list = succeed(Command::new("nm").arg(program));
    let fields = list.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let found = fields.filter(|fields| fields.len() == 3).find(|fields| fields[2] == symbol);
    let found = found.unwrap_or_else(|| panic!("no {symbol} in {list}"));
    u64::from_str_radix(found[0], 16).unwrap()
}

/// Returns the addresses of a section, by `readelf`; none if there is no such section.
pub fn section(program: &Path, name: &str) -> std::ops::Range<u64> {
    let list = succeed(Command::new("readelf").arg("-SW").arg(program));
    let fields = list.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let found = fields.filter_map(|fields| {
        let at = fields.iter().position(|field| *field == name)?;
        let number = |at: usize| u64::from_str_radix(fields.get(at)?, 16).ok();
        Some(number(at + 2)?..number(at + 2)? + number(at + 4)?)
    });
    { found }.next().unwrap_or_default()
}

/// The instructions of a section: their addresses, and the symbol that `objdump` has for each.
pub fn instructions(program: &Path, section: &str) -> Vec<(u64, String)> {
    let mut objdump = Command::new("objdump");
    let list = succeed(objdump.args(["-d", "-j", section]).arg(program));
    let mut symbol = String::new();
    let mut instructions = Vec::new();
    for line in list.lines() {
        let (start, rest) = line.split_once([' ', ':']).unwrap_or_default();
        match rest.strip_prefix('<').and_then(|rest| rest.strip_suffix(">:")) {
            Some(found) if !start.is_empty() => symbol = found.into(),
            _ => {
                let (address, _) = line.trim_start().split_once(':').unwrap_or_default();
                if let (true, Ok(address)) =
                    (line.starts_with(' '), u64::from_str_radix(address, 16))
                {
                    instructions.push((address, symbol.clone()));
                }
            }
        }
    }
    instructions
}

/// Removes the section headers of a file: its start, and their number.
pub fn remove_section_headers(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let is_64_bit = bytes[4] == 2;
    let (table, numbers) = if is_64_bit { (40..48, 60..64) } else { (32..36, 48..52) };
    bytes[table].fill(0);
    bytes[numbers].fill(0);
    fs::write(path, bytes).unwrap();
}
