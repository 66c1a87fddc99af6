//! Names of symbols that are not UTF-8, which the parser rejects.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::sections::{Section, Sections, name_at, number};
use crate::text::TEXT_MAX;

/// Symbols read at a time.
const SYMBOLS_AT_ONCE: usize = 4096;
const STT_FUNC: u64 = 2;

/// A function of a symbol table.
struct Function {
    name_offset: u64,
    start: u64,
    bytes: u64,
}

/// Reads the names of functions at these addresses, sorted or not; replaces what is not UTF-8.
/// An address has no name where no function with a size contains it.
///
/// # Errors
/// As reading does.
pub(crate) fn raw_names(
    file: &File,
    sections: &Sections,
    addresses: &[u64],
) -> io::Result<Vec<Option<String>>> {
    let mut names = vec![None; addresses.len()];
    let tables = sections.list.iter().filter(|section| is_symbol_table(section));
    for table in tables {
        let strings = sections.list.get(table.link as usize).filter(|s| s.decompressed.is_none());
        let Some(strings) = strings else { continue };
        for_each_function(file, table, sections.is_64_bit, |function| {
            let end = function.start.saturating_add(function.bytes);
            for (name, address) in names.iter_mut().zip(addresses) {
                if name.is_none() && (function.start..end).contains(address) {
                    *name = read_name(file, strings, function.name_offset);
                }
            }
        })?;
    }
    Ok(names)
}

fn is_symbol_table(section: &Section) -> bool {
    [".symtab", ".dynsym"].contains(&section.name.as_str()) && section.decompressed.is_none()
}

fn for_each_function(
    file: &File,
    table: &Section,
    is_64_bit: bool,
    mut take: impl FnMut(&Function),
) -> io::Result<()> {
    let size = if is_64_bit { 24 } else { 16 };
    let mut symbols = vec![0; SYMBOLS_AT_ONCE * size];
    for at in (0..table.bytes).step_by(symbols.len()) {
        let length = (table.bytes - at).min(symbols.len() as u64) as usize;
        file.read_exact_at(&mut symbols[..length], table.offset.saturating_add(at))?;
        for symbol in symbols[..length].chunks_exact(size) {
            let (kind, start, bytes) = match is_64_bit {
                true => (number(symbol, 4, 1), number(symbol, 8, 8), number(symbol, 16, 8)),
                false => (number(symbol, 12, 1), number(symbol, 4, 4), number(symbol, 8, 4)),
            };
            if kind & 0xf == STT_FUNC && bytes > 0 {
                take(&Function { name_offset: number(symbol, 0, 4), start, bytes });
            }
        }
    }
    Ok(())
}

fn read_name(file: &File, strings: &Section, at: u64) -> Option<String> {
    let left = strings.bytes.checked_sub(at)?.min(TEXT_MAX as u64);
    let mut bytes = vec![0; left as usize];
    file.read_exact_at(&mut bytes, strings.offset.checked_add(at)?).ok()?;
    let name = name_at(&bytes, 0, bytes.len());
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn function_of_this_test(x: u64) -> u64 {
        std::hint::black_box(x) + 1
    }

    #[test]
    fn functions_of_this_program_are_found_by_address() {
        let own = File::open("/proc/self/exe").expect("open");
        let sections = Sections::read(&own).expect("an ELF file");
        let mut function = None;
        let table = sections.list.iter().find(|section| section.name == ".symtab").expect("one");
        let strings = &sections.list[table.link as usize];
        for_each_function(&own, table, true, |found| {
            let name = read_name(&own, strings, found.name_offset);
            if name.is_some_and(|name| name.contains("function_of_this_test")) {
                function = Some(found.start);
            }
        })
        .expect("readable");
        assert_eq!(function_of_this_test(1), 2);
        let start = function.expect("in the symbol table");
        let names = raw_names(&own, &sections, &[start, 0, start]).expect("readable");
        assert!(names[1].is_none() && names[0] == names[2]);
        assert!(names[0].as_ref().is_some_and(|name| name.contains("function_of_this_test")));
    }
}
