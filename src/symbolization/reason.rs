//! Why frames have no symbol, and how often names were cut.

use profile::{pluralize, thousands};

use super::client::SymbolizeError;
use crate::processes::CodeNameGap;

/// Why a frame stayed an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsymbolizedReason {
    /// The file was read and has no symbol there.
    NoSymbol,
    /// The code is in memory without a file, such as a JIT compiler's, and its process has neither
    /// perf map nor jitdump, which are called the map below.
    NoFile,
    /// The map of the process has no entry for the address.
    NoMapEntry,
    /// The map is not a regular file.
    MapNotRegular,
    /// The map is not owned by the user of the process.
    MapOfOtherUser,
    /// The map was written before the process started.
    MapStale,
    /// The map contains no entry.
    MapMalformed,
    /// The map is a jitdump of another version, CPU or byte order.
    MapUnsupported,
    /// The map has more bytes than are read of one.
    MapTooLarge,
    /// The entries of the map, or its names, take more memory than they may.
    MapMemory,
    /// The file system of the map did not answer.
    MapUnanswered,
    /// An interpreter runs the function, and the name of its code object did not arrive.
    NameNotReceived,
    /// The file is not open: it could not be opened in time, or too many are.
    NotOpen,
    /// The file was overwritten after it was mapped.
    Changed,
    /// The file, or its symbols, cannot be read.
    Unreadable,
    /// The file takes too much CPU time.
    CpuTime,
    /// The file takes too much memory.
    Memory,
    /// The symbolizer died while it read the file.
    Died,
    /// The CPU time that names may take is spent: in all, or of the owner of the file.
    ShareSpent,
    /// The time to symbolize the window was over.
    WindowTime,
    /// The names of the window take all the memory that they may: in all, of this file, or of the
    /// owner of the process.
    NamesFull,
    /// The kernel hides its symbols.
    KernelHidden,
    /// No symbolizer could be started.
    NotStarted,
    /// Files are not symbolized, as the user has set.
    NotWanted,
}

impl UnsymbolizedReason {
    /// Number of reasons.
    pub const COUNT: usize = 24;

    /// All reasons, in the order of their numbers.
    pub const ALL: &[Self; Self::COUNT] = &[
        Self::NoSymbol,
        Self::NoFile,
        Self::NoMapEntry,
        Self::MapNotRegular,
        Self::MapOfOtherUser,
        Self::MapStale,
        Self::MapMalformed,
        Self::MapUnsupported,
        Self::MapTooLarge,
        Self::MapMemory,
        Self::MapUnanswered,
        Self::NameNotReceived,
        Self::NotOpen,
        Self::Changed,
        Self::Unreadable,
        Self::CpuTime,
        Self::Memory,
        Self::Died,
        Self::ShareSpent,
        Self::WindowTime,
        Self::NamesFull,
        Self::KernelHidden,
        Self::NotStarted,
        Self::NotWanted,
    ];

    /// Why perf maps and jitdumps are not read.
    const OF_PERF_MAPS: [Self; 8] = [
        Self::MapNotRegular,
        Self::MapOfOtherUser,
        Self::MapStale,
        Self::MapMalformed,
        Self::MapUnsupported,
        Self::MapTooLarge,
        Self::MapMemory,
        Self::MapUnanswered,
    ];

    /// Returns the value of the label `reason`.
    pub fn text(self) -> &'static str {
        match self {
            Self::NoSymbol => "no symbol",
            Self::NoFile => "no file",
            Self::NoMapEntry => "not in perf map or jitdump",
            Self::MapNotRegular => "perf map or jitdump not a regular file",
            Self::MapOfOtherUser => "perf map or jitdump of another user",
            Self::MapStale => "perf map or jitdump older than its process",
            Self::MapMalformed => "perf map or jitdump malformed",
            Self::MapUnsupported => "jitdump of another version or machine",
            Self::MapTooLarge => "perf map or jitdump too large",
            Self::MapMemory => "perf map or jitdump takes too much memory",
            Self::MapUnanswered => "perf map or jitdump not read in time",
            Self::NameNotReceived => "name of code object not received",
            Self::NotOpen => "file not open",
            Self::Changed => "file overwritten",
            Self::Unreadable => "file unreadable",
            Self::CpuTime => "file takes too much CPU time",
            Self::Memory => "file takes too much memory",
            Self::Died => "symbolizer died",
            Self::ShareSpent => "CPU share spent",
            Self::WindowTime => "window time over",
            Self::NamesFull => "names full",
            Self::KernelHidden => "kernel symbols hidden",
            Self::NotStarted => "symbolizer not started",
            Self::NotWanted => "files not symbolized",
        }
    }
}

impl From<CodeNameGap> for UnsymbolizedReason {
    fn from(gap: CodeNameGap) -> Self {
        match gap {
            CodeNameGap::NoMap => Self::NoFile,
            CodeNameGap::NoEntry => Self::NoMapEntry,
            CodeNameGap::NotRegular => Self::MapNotRegular,
            CodeNameGap::OtherOwner => Self::MapOfOtherUser,
            CodeNameGap::Stale => Self::MapStale,
            CodeNameGap::Malformed => Self::MapMalformed,
            CodeNameGap::Unsupported => Self::MapUnsupported,
            CodeNameGap::TooLarge => Self::MapTooLarge,
            CodeNameGap::NoSpace => Self::MapMemory,
            CodeNameGap::OpenFiles => Self::NotOpen,
            CodeNameGap::Unanswered | CodeNameGap::NotAsked => Self::MapUnanswered,
            CodeNameGap::ShareSpent => Self::ShareSpent,
            CodeNameGap::NotReceived => Self::NameNotReceived,
        }
    }
}

impl From<&SymbolizeError> for UnsymbolizedReason {
    fn from(error: &SymbolizeError) -> Self {
        match error {
            SymbolizeError::Unreadable(_) => Self::Unreadable,
            SymbolizeError::NotOpen => Self::NotOpen,
            SymbolizeError::Changed => Self::Changed,
            SymbolizeError::KernelHidden(_) => Self::KernelHidden,
            SymbolizeError::Died => Self::Died,
            SymbolizeError::TooSlow => Self::CpuTime,
            SymbolizeError::OutOfMemory => Self::Memory,
            SymbolizeError::ShareSpent => Self::ShareSpent,
            SymbolizeError::NoTime => Self::WindowTime,
            SymbolizeError::NotStarted(_) => Self::NotStarted,
            SymbolizeError::NotWanted => Self::NotWanted,
        }
    }
}

/// Names of one window, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameCounts {
    /// Distinct frames with a symbol.
    pub symbolized: u64,
    /// Distinct frames without, by [`UnsymbolizedReason`].
    pub unsymbolized: [u64; UnsymbolizedReason::COUNT],
    /// Names and paths that were cut because they are too long, when they were read.
    pub cut: u64,
    /// Executables whose debug info was not read, because it takes too much or is malformed: they
    /// have the names of their symbol tables.
    pub without_debug_info: u64,
}

impl NameCounts {
    /// Returns the number of frames that stayed addresses.
    pub fn unsymbolized(&self) -> u64 {
        self.unsymbolized.iter().sum()
    }

    /// Returns the number of frames that stayed addresses for a reason.
    pub fn of(&self, reason: UnsymbolizedReason) -> u64 {
        self.unsymbolized[reason as usize]
    }

    /// Counts a frame without a symbol.
    pub(super) fn add_unsymbolized(&mut self, reason: UnsymbolizedReason) {
        self.unsymbolized[reason as usize] += 1;
    }

    /// Returns why perf maps and jitdumps were not read, and how many frames have no name for that.
    pub fn refused_perf_maps(&self) -> impl Iterator<Item = (UnsymbolizedReason, u64)> {
        let reasons = UnsymbolizedReason::OF_PERF_MAPS.iter();
        let counts = reasons.map(|reason| (*reason, self.of(*reason)));
        counts.filter(|(_, frames)| *frames > 0)
    }

    /// Adds what an earlier attempt at the same window left out of the names that were kept.
    pub fn add_left_out(&mut self, earlier: &Self) {
        self.cut += earlier.cut;
        self.without_debug_info += earlier.without_debug_info;
    }

    /// Adds another window.
    pub fn add(&mut self, other: &Self) {
        self.symbolized += other.symbolized;
        self.cut += other.cut;
        self.without_debug_info += other.without_debug_info;
        for (sum, count) in self.unsymbolized.iter_mut().zip(other.unsymbolized) {
            *sum += count;
        }
    }

    /// Describes what is missing, for the comments of a profile; `None` when nothing is.
    pub fn comment(&self) -> Option<String> {
        let mut parts = Vec::new();
        let missing = self.unsymbolized();
        if missing > 0 {
            let count = |reason: &UnsymbolizedReason| self.of(*reason);
            let mut reasons = UnsymbolizedReason::ALL.to_vec();
            reasons.retain(|reason| count(reason) > 0);
            reasons.sort_by_key(|reason| u64::MAX - count(reason));
            let reason =
                |reason: &UnsymbolizedReason| format!("{}: {}", reason.text(), count(reason));
            let reasons: Vec<String> = reasons.iter().map(reason).collect();
            let frames = pluralize(missing + self.symbolized, "frame", "frames");
            parts.push(format!(
                "{} of {frames} without a symbol ({})",
                thousands(missing),
                reasons.join(", ")
            ));
        }
        if self.cut > 0 {
            parts.push(format!("{} cut", pluralize(self.cut, "name", "names")));
        }
        if self.without_debug_info > 0 {
            let files = pluralize(self.without_debug_info, "executable", "executables");
            parts.push(format!("debug info of {files} not read"));
        }
        (!parts.is_empty()).then(|| format!("{:<14}{}", "names", parts.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_their_numbers_and_texts() {
        for (number, reason) in UnsymbolizedReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, number);
        }
        let mut texts: Vec<_> =
            UnsymbolizedReason::ALL.iter().map(|reason| reason.text()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), UnsymbolizedReason::COUNT);
    }

    #[test]
    fn comment_lists_reasons_by_count() {
        let mut counts = NameCounts { symbolized: 3000, ..NameCounts::default() };
        assert_eq!(counts.comment(), None);
        counts.add_unsymbolized(UnsymbolizedReason::ShareSpent);
        (0..2).for_each(|_| counts.add_unsymbolized(UnsymbolizedReason::NoSymbol));
        let mut sum = counts;
        sum.add(&NameCounts { cut: 1, without_debug_info: 2, ..NameCounts::default() });
        assert_eq!(
            sum.comment().as_deref(),
            Some(
                "names         3 of 3,003 frames without a symbol (no symbol: 2, \
                 CPU share spent: 1); 1 name cut; debug info of 2 executables not read"
            )
        );
    }
}
