//! The dynamic segment, by which the dynamic linker finds symbols and relocations: also in files
//! without section headers.

use object::LittleEndian as Endian;
use object::elf::{
    DT_GNU_HASH, DT_HASH, DT_NULL, DT_STRTAB, DT_SYMTAB, Dyn32, Dyn64, DynamicTag, PT_DYNAMIC,
};
use object::read::elf::Dyn;

use super::bytes::{number, structs};
use super::{ElfFile, FileBytes};

/// Bytes of the segment that are read; linkers write about thirty entries of 16 bytes.
const BYTES_MAX: usize = 64 << 10;
/// Buckets and links of a hash table that are read, which are as many as symbols.
const HASHES_MAX: u64 = 1 << 24;
/// Hashes that are read at a time.
const HASHES_AT_ONCE: usize = 4096;
/// Bytes of a hash.
const HASH: u64 = 4;

/// The entries of a dynamic segment.
#[derive(Debug)]
pub(crate) struct Dynamic {
    entries: Vec<(DynamicTag, u64)>,
}

impl Dynamic {
    /// Reads the dynamic segment of a file; `None` if it has none.
    pub fn read(elf: &ElfFile) -> Option<Self> {
        let segment = elf.segments(PT_DYNAMIC.0).next()?;
        let bytes = segment.bytes.min(BYTES_MAX as u64) as usize;
        let bytes = elf.bytes.read_up_to(segment.offset, bytes);
        let mut entries = match elf.is_64_bit() {
            true => decode::<Dyn64<Endian>>(&bytes),
            false => decode::<Dyn32<Endian>>(&bytes),
        };
        let end = entries.iter().position(|(tag, _)| *tag == DT_NULL);
        entries.truncate(end.unwrap_or(entries.len()));
        Some(Self { entries })
    }

    /// Returns the value of the first entry with a tag.
    pub fn get(&self, tag: DynamicTag) -> Option<u64> {
        self.entries.iter().find(|(found, _)| *found == tag).map(|(_, value)| *value)
    }

    /// Returns the offset in the file of what an entry points to, and the bytes that the file has
    /// from there on.
    pub fn offset(&self, elf: &ElfFile, tag: DynamicTag) -> Option<(u64, u64)> {
        elf.offset_of(self.get(tag)?)
    }

    /// Returns the number of symbols. Only the hash tables have it; where there is none, linkers
    /// write the names directly after the symbols. `symbol_size`: bytes of a symbol.
    pub fn symbol_count(&self, elf: &ElfFile, symbol_size: u64) -> Option<u64> {
        let by_hash = self.offset(elf, DT_HASH).and_then(|(at, _)| {
            let header = elf.bytes.read(at, 8).ok()?;
            Some(number(&header, 4, 4))
        });
        let by_gnu_hash = || {
            let (at, _) = self.offset(elf, DT_GNU_HASH)?;
            gnu_hash_count(&elf.bytes, at, elf.is_64_bit())
        };
        let by_names = || {
            let bytes = self.get(DT_STRTAB)?.checked_sub(self.get(DT_SYMTAB)?)?;
            Some(bytes / symbol_size)
        };
        by_hash.or_else(by_gnu_hash).or_else(by_names)
    }
}

fn decode<D: Dyn<Endian = Endian>>(bytes: &[u8]) -> Vec<(DynamicTag, u64)> {
    let entries = structs::<D>(bytes).iter();
    entries.map(|entry| (entry.d_tag(Endian), entry.d_val(Endian).into())).collect()
}

/// Returns the number of symbols of a GNU hash table: its last chain ends with the last symbol.
///
/// Source: glibc, `elf/dl-lookup.c`. The header is followed by a filter of words, a bucket for each
/// chain with the number of its first symbol, and a hash for each symbol, which is odd at the end
/// of a chain.
fn gnu_hash_count(file: &FileBytes, at: u64, is_64_bit: bool) -> Option<u64> {
    const HEADER: u64 = 16;
    let header = file.read(at, HEADER as usize).ok()?;
    let [buckets, first, filter] = [0, 4, 8].map(|at| number(&header, at, 4));
    let word = if is_64_bit { 8 } else { 4 };
    let buckets_at = at.checked_add(HEADER + filter * word)?;
    let last = hashes(file, buckets_at, buckets).max()?;
    if last < first {
        return Some(first); // no symbol has a hash: all are imported
    }
    let chain_at = buckets_at.checked_add((buckets + (last - first)) * HASH)?;
    let rest = hashes(file, chain_at, HASHES_MAX).position(|hash| hash % 2 == 1)?;
    Some(last + rest as u64 + 1)
}

/// Reads hashes, at most [`HASHES_MAX`], up to the end of the file.
fn hashes(file: &FileBytes, at: u64, count: u64) -> impl Iterator<Item = u64> {
    let count = count.min(HASHES_MAX);
    let pieces = (0..count).step_by(HASHES_AT_ONCE).map_while(move |from| {
        let left = (count - from).min(HASHES_AT_ONCE as u64) * HASH;
        let piece = file.read_up_to(at.saturating_add(from * HASH), left as usize);
        (!piece.is_empty()).then_some(piece)
    });
    pieces.flat_map(|piece| {
        let hashes: Vec<u64> =
            piece.chunks_exact(HASH as usize).map(|hash| number(hash, 0, 4)).collect();
        hashes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(numbers: &[u32]) -> FileBytes {
        FileBytes::from_memory(numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
    }

    #[test]
    fn the_last_chain_of_a_hash_table_ends_with_the_last_symbol() {
        let count = |numbers: &[u32]| gnu_hash_count(&table(numbers), 0, true);
        // Two buckets, first symbol 5, one word of filter; chains of symbols 5 and 6, and 7 to 9.
        let chains = [2, 5, 1, 6, 0, 0, 5, 7, 10, 11, 20, 22, 25];
        assert_eq!(count(&chains), Some(10));
        assert_eq!(count(&[2, 5, 1, 6, 0, 0, 0, 0]), Some(5), "no chain at all");
        assert_eq!(count(&chains[..12]), None, "a chain without an end");
        assert_eq!(count(&[u32::MAX, 1, u32::MAX, 6]), None, "sizes are not believed");
        assert_eq!(count(&[]), None);
    }
}
