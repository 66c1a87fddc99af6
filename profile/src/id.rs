//! Names for the things that have a number.

use std::fmt;

/// A process's number in the agent's pid namespace (the kernel's `tgid`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pid(pub u32);

/// A thread's number in the agent's pid namespace (the kernel's `pid`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tid(pub u32);

/// A CPU's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cpu(pub u32);

/// An executable that the agent has met: its place in the agent's table of executables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExecutableId(pub u32);

impl ExecutableId {
    /// The running kernel with its modules.
    pub const KERNEL: Self = Self(0);
    /// Memory that nothing is known about.
    pub const UNKNOWN: Self = Self(1);
}

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

/// A GNU build id: the linker's fingerprint of an ELF file.
///
/// Shown in hexadecimal, as `file` and `readelf -n` do.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BuildId(Box<[u8]>);

impl BuildId {
    /// The longest build id taken, in bytes. Linkers make 8, 16 or 20; pprof stores take any.
    pub const MAX_LEN: usize = 64;

    /// Takes the bytes of a build id; `None` when there are none or too many.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (1..=Self::MAX_LEN).contains(&bytes.len()).then(|| Self(bytes.into()))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
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
