//! Asks the symbolizer for addresses in arbitrary bytes as an ELF file: by debug info, symbol
//! tables, MiniDebugInfo, Go's function table and linkage stubs.
#![no_main]

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use libfuzzer_sys::fuzz_target;
use rustix::fs::{MemfdFlags, memfd_create};
use symbolizer::proto::{FileRole, Request};
use symbolizer::{MappedFile, OwnMemory, Worker};

/// Memory of the process, which the fuzzer bounds, and of a request, in bytes.
const PROCESS_MEMORY: u64 = 16 << 40;
const REQUEST_MEMORY: u64 = 64 << 20;
/// More than the process has, so that no limit of a request ends it.
const OWN_MEMORY: OwnMemory = OwnMemory { resident_kib: 0, data_kib: 8 << 30 };
/// Addresses of one request, and their distance.
const ADDRESSES: u64 = 32;
const DISTANCE: u64 = 9;

fuzz_target!(|file: &[u8]| {
    let Some(entry) = file.get(24..32).and_then(|bytes| bytes.try_into().ok()) else { return };
    let entry = u64::from_le_bytes(entry);
    let addresses = (0..ADDRESSES).map(|number| entry.wrapping_add(number * DISTANCE));
    let open = || {
        let mut open = File::from(memfd_create("input", MemfdFlags::CLOEXEC)?);
        open.write_all(file)?;
        io::Result::Ok(open)
    };
    let mut worker = Worker::new(PROCESS_MEMORY, || OWN_MEMORY, read);
    let request = Request {
        addresses: addresses.collect(),
        files: vec![FileRole::Own.into()],
        memory_max: REQUEST_MEMORY,
        ..Request::default()
    };
    let limited = Request { symbols_only: true, names_max: 4096, ..request.clone() };
    for request in [request, limited] {
        let response = worker.answer(&request, vec![open().expect("memory for the input")]);
        assert!(response.symbols.len() <= request.addresses.len());
        for function in response.symbols.iter().flat_map(|symbol| &symbol.functions) {
            assert!(!function.name.is_empty() && function.name.len() <= symbolizer::TEXT_MAX);
        }
    }
});

fn read(mut file: &File) -> io::Result<MappedFile> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    Ok(Box::new(bytes))
}
