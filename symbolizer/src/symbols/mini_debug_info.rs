//! MiniDebugInfo: the symbol table of a stripped file, as a second ELF file, which is compressed by
//! xz in the section `.gnu_debugdata` (GDB manual, "MiniDebugInfo").

use std::io::Read;

use lzma_rust2::XzReader;

use crate::elf::ElfFile;

/// Largest section, in bytes. That of the largest programs of Fedora has 3 MiB.
const COMPRESSED_MAX: u64 = 32 << 20;
/// Part of the memory for symbols that the decompressed file may take, and the dictionary as much.
const MEMORY_DIVISOR: u64 = 2;

/// Reads the file in the section; `None` if there is no section. `memory_max`: bytes that symbols
/// may take.
///
/// # Errors
/// Why the section cannot be read.
pub(crate) fn read(file: &ElfFile, memory_max: u64) -> Result<Option<ElfFile>, String> {
    let Some(section) = file.section(".gnu_debugdata") else { return Ok(None) };
    let whole = section.bytes.min(COMPRESSED_MAX) as usize;
    let compressed = file.bytes.read_up_to(section.offset, whole);
    let bytes = decompress(&compressed, memory_max / MEMORY_DIVISOR)?;
    ElfFile::from_memory(bytes).map(Some).map_err(|error| damaged(&error))
}

/// Decompresses up to so many bytes.
fn decompress(compressed: &[u8], bytes_max: u64) -> Result<Vec<u8>, String> {
    let dictionary_kib = u32::try_from(bytes_max / 1024).unwrap_or(u32::MAX - 1);
    let mut reader = XzReader::new_mem_limit(compressed, false, dictionary_kib).take(bytes_max);
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(|error| damaged(&error))?;
    if bytes.len() as u64 == bytes_max {
        return Err(format!("its .gnu_debugdata takes more than {} MiB", bytes_max >> 20));
    }
    Ok(bytes)
}

fn damaged(error: &std::io::Error) -> String {
    format!("its .gnu_debugdata is damaged: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::damage::Random;

    /// Returns a file of so many bytes, compressed by `xz -0`: a one and 62 zeros, and so on.
    fn compressed(bytes: u32) -> Vec<u8> {
        let plain: Vec<u8> = (0..bytes).map(|at| u8::from(at % 63 == 0)).collect();
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("plain");
        std::fs::write(&path, plain).expect("written");
        let done = std::process::Command::new("xz").arg("-0").arg(&path).status();
        assert!(done.is_ok_and(|status| status.success()), "xz");
        std::fs::read(path.with_extension("xz")).expect("readable")
    }

    #[test]
    fn damaged_streams_end_within_their_bound() {
        const MAX: u64 = 1 << 20;
        let whole = compressed(4000);
        let bytes = decompress(&whole, MAX).expect("sound");
        assert!(bytes.len() == 4000 && bytes[63] == 1);
        let error = decompress(&compressed(MAX as u32 + 1), MAX).expect_err("too long");
        assert!(error.contains("more than 1 MiB"), "{error}");
        let mut random = Random(7);
        let mut errors = 0;
        for _ in 0..3000 {
            let mut damaged = whole.clone();
            random.mutate(&mut damaged);
            if let Err(error) = decompress(&damaged, MAX) {
                errors += 1;
                assert!(error.len() < 200, "{error}");
            }
        }
        assert!(errors > 1000, "{errors}");
    }
}
