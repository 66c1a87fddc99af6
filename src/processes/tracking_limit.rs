//! What is not tracked, and which limit is the reason.

/// A limit on what is known about processes. Beyond it, stacks may lack frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TrackingLimit {
    /// Memory: the process is not in the table.
    Processes,
    /// Memory: the mapping is not stored.
    Mappings,
    /// Memory: the executable is unknown.
    Executables,
    /// Open files: the executable has no symbols and no unwind table.
    OpenFiles,
    /// Memory of the kernel: mappings are not published, and stacks are finished in user space.
    Published,
    /// CPU time: the process was sampled and not read.
    CpuTime,
    /// Wall time: the process was sampled and not read, or not all of its files were opened,
    /// because that would delay other samples.
    WallTime,
    /// The process or its file system did not answer before, and was not asked.
    Unanswered,
}

impl TrackingLimit {
    /// All limits, each at the index of its value.
    pub const ALL: &'static [Self] = &[
        Self::Processes,
        Self::Mappings,
        Self::Executables,
        Self::OpenFiles,
        Self::Published,
        Self::CpuTime,
        Self::WallTime,
        Self::Unanswered,
    ];

    /// Returns the value of the label `limit` in metrics.
    pub fn text(self) -> &'static str {
        match self {
            Self::Processes => "processes",
            Self::Mappings => "mappings",
            Self::Executables => "executables",
            Self::OpenFiles => "open files",
            Self::Published => "published mappings",
            Self::CpuTime => "CPU time",
            Self::WallTime => "wall time",
            Self::Unanswered => "no answer",
        }
    }
}

/// How often each limit was the reason, indexed by [`TrackingLimit`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusalCounts(pub [u64; TrackingLimit::ALL.len()]);

impl RefusalCounts {
    /// Counts a refusal.
    pub(super) fn count(&mut self, limit: TrackingLimit) {
        self.0[limit as usize] += 1;
    }

    /// Returns the counts with those of the publisher.
    pub fn with_published(mut self, refused: u64) -> Self {
        self.0[TrackingLimit::Published as usize] = refused;
        self
    }

    /// Returns the refusals by a limit.
    pub fn of(&self, limit: TrackingLimit) -> u64 {
        self.0[limit as usize]
    }
}
