//! Identifiers of processes, threads, CPUs and executables.

use std::fmt;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

/// A process id in the agent's pid namespace (the kernel's `tgid`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pid(pub u32);

/// A thread id in the agent's pid namespace (the kernel's `pid`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tid(pub u32);

/// The number of a CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cpu(pub u32);

/// An executable: its index in the agent's table of executables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExecutableId(pub u32);

impl ExecutableId {
    /// The running kernel with its modules.
    pub const KERNEL: Self = Self(0);
    /// Memory that belongs to no known executable.
    pub const UNKNOWN: Self = Self(1);
    /// The vsyscall page, which is at the same address in every process.
    pub const VSYSCALL: Self = Self(2);
    /// Functions that interpreters run: one for each language, from this one on.
    pub const FIRST_INTERPRETED: Self = Self(3);

    /// The first that is not reserved: those below are in every table, whatever is mapped.
    pub const FIRST_UNRESERVED: Self = Self(16);

    /// Returns whether it is one of the reserved ones.
    pub fn is_reserved(self) -> bool {
        self < Self::FIRST_UNRESERVED
    }
}

/// A name that does not follow from executable and address: of code of a JIT compiler, of code that
/// comes into the kernel, or of a function that an interpreter runs. Its key in the agent's table
/// of such names, which may get the name later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CodeNameId(pub NonZeroU32);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A GNU build ID: the linker's fingerprint of an ELF file.
///
/// Displayed in hexadecimal, as `file` and `readelf -n` do.
///
/// ```
/// use profile::BuildId;
///
/// let id = BuildId::from_hex("abcdef").expect("three bytes");
/// assert_eq!(id.as_bytes(), [0xab, 0xcd, 0xef]);
/// assert_eq!(id.to_string(), "abcdef");
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BuildId(Box<[u8]>);

impl BuildId {
    /// Longest build ID accepted, in bytes. Linkers write 8, 16 or 20; pprof stores accept any.
    pub const MAX_LEN: usize = 64;

    /// Returns the build ID with these bytes; `None` if there are none or too many.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (1..=Self::MAX_LEN).contains(&bytes.len()).then(|| Self(bytes.into()))
    }

    /// Parses hexadecimal digits; `None` if they are no build ID.
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() > 2 * Self::MAX_LEN || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let bytes = (0..text.len()).step_by(2).map(|at| text.get(at..at + 2));
        let bytes = bytes.map(|byte| u8::from_str_radix(byte?, 16).ok());
        Self::new(&bytes.collect::<Option<Vec<u8>>>()?)
    }

    /// Returns the bytes of the build ID.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the path at which distributions install the debug info of the file.
    pub fn debug_file(&self) -> PathBuf {
        let text = self.to_string();
        let (first, rest) = text.split_at(2);
        Path::new("/usr/lib/debug/.build-id").join(first).join(format!("{rest}.debug"))
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_file_path_is_made_of_the_build_id() {
        let id = BuildId::from_hex("abcdef").expect("three bytes");
        assert_eq!(id.debug_file(), Path::new("/usr/lib/debug/.build-id/ab/cdef.debug"));
    }

    #[test]
    fn parses_what_it_displays() {
        let id = BuildId::new(&[0, 1, 0xfe, 0x9a]).expect("four bytes");
        assert_eq!(BuildId::from_hex(&id.to_string()), Some(id));
        for text in ["", "0", "0g", "+1", "\u{20ac}a", &"00".repeat(BuildId::MAX_LEN + 1)] {
            assert_eq!(BuildId::from_hex(text), None, "{text}");
        }
    }
}
