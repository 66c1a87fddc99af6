//! An ELF file as the dynamic linker sees it: what is loaded where, and the symbols that the file
//! exports.
//!
//! Only program headers are used, section headers may be missing. The file is untrusted: what is
//! read has fixed bounds, and it is read by `pread`, because a mapping of a file that shrinks would
//! crash the process.

use std::fs::File;
use std::os::unix::fs::FileExt;

use object::LittleEndian as Endian;
use object::elf::{
    DT_GNU_HASH, DT_HASH, DT_NULL, DT_RELA, DT_RELACOUNT, DT_RELASZ, DT_STRTAB, DT_SYMTAB, Dyn64,
    DynamicTag, EM_X86_64, FileHeader64, PF_X, PT_DYNAMIC, PT_LOAD, ProgramHeader64,
    R_X86_64_DTPMOD64, Rela64, SHN_UNDEF, STT_TLS, Sym64,
};
use object::pod::{Pod, from_bytes, slice_from_all_bytes};
use object::read::elf::{Dyn, FileHeader, ProgramHeader, Rela, Sym};

/// Program headers read; the largest real files have about 20.
const PROGRAM_HEADERS_MAX: usize = 128;
/// Bytes of the file that are read at once for its headers: enough for those of most files.
const HEADER_BYTES: usize = 1024;
/// Bytes read of the dynamic segment; linkers write about thirty entries of 16 bytes.
const DYNAMIC_MAX: u64 = 16 << 10;
/// Links followed in a chain of a hash table; real chains have less than ten.
const LINKS_MAX: u32 = 256;
/// Symbols compared with a name in one chain; real hashes hardly ever collide.
const COMPARISONS_MAX: usize = 8;
/// Bytes read of the relocations; those of a large interpreter have 500 KB.
const RELOCATIONS_MAX: u64 = 4 << 20;
/// Bytes of relocations that are read at once.
const RELOCATIONS_AT_ONCE: u64 = 64 << 10;

/// A defined symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Symbol {
    /// Its address in the file.
    pub address: u64,
    /// Bytes that it has, as the file declares them.
    pub size: u64,
}

/// A range of addresses and the bytes of the file that are loaded there.
#[derive(Clone, Copy, Debug)]
struct LoadSegment {
    address: u64,
    offset: u64,
    len: u64,
    is_executable: bool,
}

/// Where the dynamic segment says that tables are; addresses are 0 where there is no table.
#[derive(Clone, Copy, Debug, Default)]
struct DynamicTables {
    symbols: u64,
    names: u64,
    gnu_hash: u64,
    hash: u64,
    relocations: u64,
    relocations_len: u64,
    /// Relocations at the beginning that only add the load bias.
    relative_count: u64,
}

/// An x86-64 ELF file with a dynamic segment, read lazily.
#[derive(Debug)]
pub(super) struct DynamicFile<'a> {
    file: &'a File,
    segments: Vec<LoadSegment>,
    tables: DynamicTables,
}

impl<'a> DynamicFile<'a> {
    /// Reads the headers and the dynamic segment; `None` if it is no x86-64 ELF file, or exports
    /// nothing.
    pub fn read(file: &'a File) -> Option<Self> {
        let mut start = vec![0; HEADER_BYTES];
        let read = file.read_at(&mut start, 0).ok()?;
        start.truncate(read);
        let (header, _) = from_bytes::<FileHeader64<Endian>>(&start).ok()?;
        let endian = header.endian().ok().filter(|_| header.is_supported())?;
        if header.e_machine(endian) != EM_X86_64 {
            return None;
        }
        let count = usize::from(header.e_phnum(endian)).min(PROGRAM_HEADERS_MAX);
        let (offset, bytes) =
            (header.e_phoff(endian), count * size_of::<ProgramHeader64<Endian>>());
        let in_start = usize::try_from(offset).ok().and_then(|from| {
            let to = from.checked_add(bytes)?;
            start.get(from..to)
        });
        let headers = match in_start {
            Some(bytes) => structs::<ProgramHeader64<Endian>>(bytes),
            None => structs(&read_at(file, offset, bytes)?),
        };
        let dynamic = headers.iter().find(|header| header.p_type(endian) == PT_DYNAMIC)?;
        let len = dynamic.p_filesz(endian).min(DYNAMIC_MAX) as usize;
        let tables = DynamicTables::of(&structs(&read_at(file, dynamic.p_offset(endian), len)?));
        let loaded = headers.iter().filter(|header| header.p_type(endian) == PT_LOAD);
        let segments = loaded.map(|header| LoadSegment {
            address: header.p_vaddr(endian),
            offset: header.p_offset(endian),
            len: header.p_filesz(endian),
            is_executable: header.p_flags(endian).0 & PF_X.0 != 0,
        });
        Some(Self { file, segments: segments.collect(), tables })
    }

    /// Returns the symbol of a name if the file defines and exports it.
    pub fn symbol(&self, name: &str) -> Option<Symbol> {
        match self.tables {
            DynamicTables { symbols: 0, .. } | DynamicTables { names: 0, .. } => None,
            DynamicTables { gnu_hash: 0, hash: 0, .. } => None, // no dynamic linker finds them
            DynamicTables { gnu_hash: 0, hash, .. } => self.find_by_hash(hash, name),
            DynamicTables { gnu_hash, .. } => self.find_by_gnu_hash(gnu_hash, name),
        }
    }

    /// Reads a little-endian number of 8 bytes that is loaded at an address.
    pub fn u64_at(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read_exact(address, &mut bytes)?;
        Some(u64::from_le_bytes(bytes))
    }

    /// Fills a buffer with what is loaded at an address; `None` if the file does not have all of
    /// it.
    pub fn read_exact(&self, address: u64, buffer: &mut [u8]) -> Option<()> {
        let (segment, into) = self.segment_of(address)?;
        if segment.len - into < buffer.len() as u64 {
            return None;
        }
        self.file.read_exact_at(buffer, segment.offset.checked_add(into)?).ok()
    }

    /// Reads code at an address: fewer bytes than `max` where its segment ends.
    pub fn code(&self, address: u64, max: usize) -> Option<Vec<u8>> {
        let (segment, into) = self.segment_of(address)?;
        let len = (segment.len - into).min(max as u64) as usize;
        let offset = segment.offset.checked_add(into)?;
        read_at(self.file, offset, len).filter(|_| segment.is_executable)
    }

    /// Returns whether the dynamic linker writes the number of a module with thread-local variables
    /// to an address: the first half of what `__tls_get_addr` takes.
    pub fn is_tls_module_slot(&self, address: u64) -> bool {
        const RELOCATION: u64 = size_of::<Rela64<Endian>>() as u64;
        let DynamicTables { relocations, relocations_len, relative_count, .. } = self.tables;
        let end = relocations.saturating_add(relocations_len.min(RELOCATIONS_MAX));
        let mut at = relocations.saturating_add(relative_count.saturating_mul(RELOCATION));
        while relocations != 0 && at < end {
            let len = (end - at).min(RELOCATIONS_AT_ONCE - RELOCATIONS_AT_ONCE % RELOCATION);
            let mut bytes = vec![0; len as usize];
            if self.read_exact(at, &mut bytes).is_none() {
                return false;
            }
            let is_slot = |relocation: &Rela64<Endian>| {
                relocation.r_offset(Endian) == address
                    && relocation.r_type(Endian, false) == R_X86_64_DTPMOD64
            };
            if structs::<Rela64<Endian>>(&bytes).iter().any(is_slot) {
                return true;
            }
            at += len;
        }
        false
    }

    /// Finds the segment that has bytes of the file for an address, and how far into it that is.
    fn segment_of(&self, address: u64) -> Option<(LoadSegment, u64)> {
        let into = |segment: &LoadSegment| Some((*segment, address.checked_sub(segment.address)?));
        self.segments.iter().filter_map(into).find(|(segment, into)| *into < segment.len)
    }

    /// Reads element `index` of an array of numbers.
    fn u32_of(&self, array: u64, index: u64) -> Option<u32> {
        let mut bytes = [0; 4];
        self.read_exact(array.checked_add(index.checked_mul(4)?)?, &mut bytes)?;
        Some(u32::from_le_bytes(bytes))
    }

    /// Looks a name up in a hash table of type `DT_GNU_HASH`. Its Bloom filter answers for most
    /// names that the file does not have.
    fn find_by_gnu_hash(&self, table: u64, name: &str) -> Option<Symbol> {
        const HEADER: u64 = 16;
        let mut header = [0; HEADER as usize];
        self.read_exact(table, &mut header)?;
        let [buckets, first_symbol, filter_len, shift] = header
            .as_chunks()
            .0
            .try_into()
            .map(|numbers: [[u8; 4]; 4]| numbers.map(u32::from_le_bytes))
            .ok()?;
        if buckets == 0 || filter_len == 0 {
            return None;
        }
        let hash = gnu_hash(name);
        let filter = table.checked_add(HEADER)?;
        let word = u64::from(hash / u64::BITS % filter_len);
        let word = self.u64_at(filter.checked_add(word * 8)?)?;
        let bit = |hash: u32| 1u64 << (hash % u64::BITS);
        let mask = bit(hash) | bit(hash.checked_shr(shift).unwrap_or(0));
        if word & mask != mask {
            return None;
        }
        let bucket_array = filter.checked_add(u64::from(filter_len) * 8)?;
        let chains = bucket_array.checked_add(u64::from(buckets) * 4)?;
        let first = self.u32_of(bucket_array, u64::from(hash % buckets))?;
        if first == 0 {
            return None; // an empty bucket
        }
        let mut comparisons = 0;
        for index in (first..=u32::MAX).take(LINKS_MAX as usize) {
            let entry = self.u32_of(chains, u64::from(index.checked_sub(first_symbol)?))?;
            if entry | 1 == hash | 1 {
                let found = self.symbol_at(index, name);
                comparisons += 1;
                if found.is_some() || comparisons == COMPARISONS_MAX {
                    return found;
                }
            }
            if entry & 1 != 0 {
                break; // the last one of its chain
            }
        }
        None
    }

    /// Looks a name up in a hash table of type `DT_HASH`.
    fn find_by_hash(&self, table: u64, name: &str) -> Option<Symbol> {
        const HEADER: u64 = 2;
        let buckets = self.u32_of(table, 0).filter(|buckets| *buckets != 0)?;
        let bucket = HEADER + u64::from(sysv_hash(name) % buckets);
        let mut index = self.u32_of(table, bucket)?;
        for _ in 0..LINKS_MAX {
            if index == 0 {
                return None;
            }
            let found = self.symbol_at(index, name);
            if found.is_some() {
                return found;
            }
            index = self.u32_of(table, HEADER + u64::from(buckets) + u64::from(index))?;
        }
        None
    }

    /// Returns the symbol at an index if it has this name and is defined.
    fn symbol_at(&self, index: u32, name: &str) -> Option<Symbol> {
        const SYMBOL: usize = size_of::<Sym64<Endian>>();
        let mut bytes = [0; SYMBOL];
        let at = self.tables.symbols.checked_add(u64::from(index) * SYMBOL as u64)?;
        self.read_exact(at, &mut bytes)?;
        let (symbol, _) = from_bytes::<Sym64<Endian>>(&bytes).ok()?;
        let mut found = vec![0; name.len() + 1];
        let at = self.tables.names.checked_add(symbol.st_name(Endian).into())?;
        self.read_exact(at, &mut found)?;
        let is_found = found.split_last() == Some((&0, name.as_bytes()));
        let is_defined = symbol.st_shndx(Endian) != SHN_UNDEF
            && symbol.st_value(Endian) != 0
            && symbol.st_type() != STT_TLS;
        let (address, size) = (symbol.st_value(Endian), symbol.st_size(Endian));
        (is_found && is_defined).then_some(Symbol { address, size })
    }
}

impl DynamicTables {
    fn of(entries: &[Dyn64<Endian>]) -> Self {
        let end = entries.iter().position(|entry| entry.d_tag(Endian) == DT_NULL);
        let entries = &entries[..end.unwrap_or(entries.len())];
        let value = |tag: DynamicTag| {
            let entry = entries.iter().find(|entry| entry.d_tag(Endian) == tag);
            entry.map_or(0, |entry| entry.d_val(Endian))
        };
        Self {
            symbols: value(DT_SYMTAB),
            names: value(DT_STRTAB),
            gnu_hash: value(DT_GNU_HASH),
            hash: value(DT_HASH),
            relocations: value(DT_RELA),
            relocations_len: value(DT_RELASZ),
            relative_count: value(DT_RELACOUNT),
        }
    }
}

/// Reads exactly `len` bytes; `None` when the file is too short or cannot be read. `len` is within
/// bounds already.
fn read_at(file: &File, offset: u64, len: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, offset).ok().map(|()| bytes)
}

/// Returns bytes as the structures that they hold; a rest that is no whole one is left out.
fn structs<T: Pod + Clone>(bytes: &[u8]) -> Vec<T> {
    let whole = bytes.len() - bytes.len() % size_of::<T>();
    slice_from_all_bytes(&bytes[..whole]).unwrap_or_default().to_vec()
}

/// Returns the hash of a name in tables of type `DT_GNU_HASH`.
fn gnu_hash(name: &str) -> u32 {
    name.bytes().fold(5381, |hash: u32, byte| hash.wrapping_mul(33).wrapping_add(byte.into()))
}

/// Returns the hash of a name in tables of type `DT_HASH` (gABI, "Hash Table Section").
fn sysv_hash(name: &str) -> u32 {
    name.bytes().fold(0, |hash: u32, byte| {
        let hash = (hash << 4).wrapping_add(byte.into());
        let high = hash & 0xf000_0000;
        (hash ^ (high >> 24)) & !high
    })
}
