//! Why code has no name.

/// Why code of a JIT compiler has no name from a perf map or a jitdump, called the map here, or a
/// function that an interpreter runs has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CodeNameGap {
    /// The process has neither.
    NoMap,
    /// The map has no entry for the address.
    NoEntry,
    /// The map is not a regular file.
    NotRegular,
    /// The map is not owned by the user of the process.
    OtherOwner,
    /// The map was last written before the process started: it is of another process.
    Stale,
    /// None of the lines or records that were read is an entry.
    Malformed,
    /// A jitdump of another version, CPU or byte order.
    Unsupported,
    /// The map has more bytes than are read of one.
    TooLarge,
    /// Memory: the entries, or the names, do not fit into the part of their owner.
    NoSpace,
    /// Open files: the owner has no share left to hold the map open.
    OpenFiles,
    /// The file system of the map does not answer.
    Unanswered,
    /// The process was not asked: it, or another one of its owner, did not answer before.
    NotAsked,
    /// CPU time: the owner has none left for reading the map.
    ShareSpent,
    /// The interpreter's code object was sampled, and its name did not arrive.
    NotReceived,
}

impl CodeNameGap {
    /// All of them, each at the index of its value.
    pub const ALL: &'static [Self] = &[
        Self::NoMap,
        Self::NoEntry,
        Self::NotRegular,
        Self::OtherOwner,
        Self::Stale,
        Self::Malformed,
        Self::Unsupported,
        Self::TooLarge,
        Self::NoSpace,
        Self::OpenFiles,
        Self::Unanswered,
        Self::NotAsked,
        Self::ShareSpent,
        Self::NotReceived,
    ];

    /// Returns whether a map was found, or looked for, and refused for what it is.
    pub(super) fn is_refusal(self) -> bool {
        !matches!(
            self,
            Self::NoMap | Self::NoEntry | Self::NotAsked | Self::ShareSpent | Self::NotReceived
        )
    }
}
