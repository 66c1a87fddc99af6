//! What a file says about the files with its debug info: their names, and how to know them.
//!
//! The author of a file chooses the names. Here they are read and never opened.

use std::fs::File;
use std::io;

use super::is_debug_info;
use crate::elf::{ElfFile, number};

/// The name of the debug file and its checksum (GDB manual, "Debugging Information in Separate
/// Files").
const DEBUG_LINK: &str = ".gnu_debuglink";
/// The path and the build ID of the supplementary file (dwz(1)).
const ALTERNATE_LINK: &str = ".gnu_debugaltlink";
/// Longest section of a link, in bytes: a path, and what follows it.
const LINK_BYTES_MAX: usize = 4096 + 64;
/// Bytes that are read at a time for a checksum.
const PIECE_BYTES: usize = 1 << 20;

/// The links of a file to its debug info.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DebugLinks {
    /// Its own build ID.
    pub build_id: Option<Vec<u8>>,
    /// Its debug file.
    pub debug: Option<DebugLink>,
    /// Its supplementary file.
    pub supplementary: Option<SupplementaryLink>,
    /// Whether it has debug info itself.
    pub has_debug_info: bool,
}

/// Names a debug file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugLink {
    /// Name without a directory, never empty, `.` or `..`.
    pub name: String,
    /// CRC-32 of the whole debug file.
    pub crc: u32,
}

/// Names a supplementary file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SupplementaryLink {
    /// Path, relative to the directory of the file with this link or absolute.
    pub path: String,
    /// Build ID of the supplementary file.
    pub build_id: Vec<u8>,
}

impl DebugLinks {
    /// Reads the links of an open file. One that is not ELF has none.
    ///
    /// # Errors
    /// As reading does, and when the file has too many sections.
    pub fn read(file: File) -> io::Result<Self> {
        Ok(Self::of(&ElfFile::open(file)?))
    }

    pub(crate) fn of(file: &ElfFile) -> Self {
        Self {
            build_id: file.build_id(),
            debug: contents(file, DEBUG_LINK).and_then(|bytes| debug_link(&bytes)),
            supplementary: supplementary(file),
            has_debug_info: file.headers.sections.iter().any(is_debug_info),
        }
    }
}

/// Returns the link of a file to its supplementary file.
pub(crate) fn supplementary(file: &ElfFile) -> Option<SupplementaryLink> {
    contents(file, ALTERNATE_LINK).and_then(|bytes| supplementary_link(&bytes))
}

/// Returns whether a file is the debug file of another: it has its build ID or, where one of them
/// has none, the checksum in the link to it.
pub(crate) fn is_debug_file_of(file: &ElfFile, own: &ElfFile) -> bool {
    if let (Some(own_id), Some(id)) = (own.build_id(), file.build_id()) {
        return own_id == id;
    }
    let link = contents(own, DEBUG_LINK).and_then(|bytes| debug_link(&bytes));
    link.is_some_and(|link| checksum(file) == link.crc)
}

fn checksum(file: &ElfFile) -> u32 {
    let (mut hasher, mut offset) = (crc32fast::Hasher::new(), 0);
    loop {
        let piece = file.bytes.read_up_to(offset, PIECE_BYTES);
        if piece.is_empty() {
            return hasher.finalize();
        }
        hasher.update(&piece);
        offset += piece.len() as u64;
    }
}

fn contents(file: &ElfFile, section: &str) -> Option<Vec<u8>> {
    let section = file.section(section)?;
    let bytes = section.bytes.min(LINK_BYTES_MAX as u64) as usize;
    Some(file.bytes.read_up_to(section.offset, bytes))
}

/// Returns the text at the start of a section, and the bytes after its zero byte.
fn text_and_rest(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = memchr::memchr(0, bytes)?;
    Some((str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]))
}

fn debug_link(bytes: &[u8]) -> Option<DebugLink> {
    let (name, _) = text_and_rest(bytes)?;
    if ["", ".", ".."].contains(&name) || name.contains('/') {
        return None;
    }
    let checksum = bytes.get((name.len() + 1).next_multiple_of(4)..)?;
    let crc = checksum.get(..4).map(|bytes| number(bytes, 0, 4) as u32)?;
    Some(DebugLink { name: name.into(), crc })
}

fn supplementary_link(bytes: &[u8]) -> Option<SupplementaryLink> {
    let (path, build_id) = text_and_rest(bytes)?;
    let is_complete = !path.is_empty() && !build_id.is_empty();
    is_complete.then(|| SupplementaryLink { path: path.into(), build_id: build_id.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_link_is_a_name_and_an_aligned_checksum() {
        let link = debug_link(b"a.debug\0\x01\x02\x03\x04").expect("a link");
        assert_eq!(link, DebugLink { name: "a.debug".into(), crc: 0x0403_0201 });
        let link = debug_link(b"ab\0\0\xff\0\0\0").expect("a link");
        assert_eq!(link, DebugLink { name: "ab".into(), crc: 0xff });
    }

    #[test]
    fn debug_link_has_no_directory_and_is_whole() {
        let malformed: [&[u8]; 7] = [
            b"",
            b"\0\0\0\0\x01\0\0\0",
            b"..\0\0\x01\0\0\0",
            b"../b\0\0\0\0\x01\0\0\0",
            b"endless",
            b"a.debug\0\x01\x02",
            b"\xff\xfe\0\0\x01\0\0\0",
        ];
        assert!(malformed.iter().all(|bytes| debug_link(bytes).is_none()));
    }

    #[test]
    fn supplementary_link_has_a_build_id() {
        let link = supplementary_link(b"/usr/lib/debug/.dwz/a.debug\0\x12\x34").expect("a link");
        let path = "/usr/lib/debug/.dwz/a.debug".to_owned();
        assert_eq!(link, SupplementaryLink { path, build_id: vec![0x12, 0x34] });
        assert!(supplementary_link(b"a.debug\0").is_none());
        assert!(supplementary_link(b"\0\x12").is_none());
    }
}
