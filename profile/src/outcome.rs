//! How a tick, a stack and a sample can end. Each list is complete.
//!
//! [`TickOutcome`] and [`StackEnd`] have the values of `enum outcome` and `enum stack_end` in
//! `bpf/abi.h`; the build of the agent verifies that. Their texts appear in summaries, metrics and
//! pprof files.

/// Declares an enum whose variants are numbered from 0, each with its one text.
macro_rules! closed_list {
    ($(#[$list:meta])* $name:ident { $($(#[$item:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$list])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $($(#[$item])* $variant,)* }

        impl $name {
            /// All variants, each at the index of its value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// Number of variants.
            pub const COUNT: usize = Self::ALL.len();

            /// Returns the text for summaries, metrics and pprof.
            pub fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// Returns the variant with a value.
            pub fn from_value(value: u8) -> Option<Self> {
                Self::ALL.get(usize::from(value)).copied()
            }
        }
    };
}

closed_list! {
    /// How a tick of the sampling clock ended. Every tick ends in exactly one way.
    TickOutcome {
        /// Its record is in the ring.
        Delivered = "delivered",
        /// It had a sequence number, but its record did not fit into the ring.
        LostRingFull = "ring full",
        /// The idle task ran, and idle time is not sampled.
        SkippedIdle = "idle",
        /// The process or thread is filtered out.
        SkippedProcess = "other process or thread",
        /// The cgroup is filtered out.
        SkippedCgroup = "other cgroup",
        /// The name is filtered out.
        SkippedComm = "other name",
        /// All frames are of a mode, user or kernel, that is filtered out.
        SkippedMode = "mode left out",
        /// The process is not visible in the agent's pid namespace.
        SkippedNamespace = "outside the pid namespace",
    }
}

impl TickOutcome {
    /// Returns whether the tick was filtered out and became no sample.
    pub fn is_skipped(self) -> bool {
        !matches!(self, Self::Delivered | Self::LostRingFull)
    }
}

closed_list! {
    /// Why a kernel or user stack ends where it ends.
    StackEnd {
        /// There is no such stack, or it is not sampled.
        Absent = "no such stack",
        /// The stack is complete.
        Complete = "complete",
        /// It has more frames than the limit.
        Depth = "depth limit",
        /// An address has no unwind row, and its frame pointer does not lead to a caller.
        NoRow = "no unwind row",
        /// The return address is not a user address.
        BadReturnAddress = "bad return address",
        /// Stack memory could not be read.
        Unreadable = "unreadable stack",
        /// 32-bit code, which is not unwound.
        ThirtyTwoBit = "32-bit code",
        /// The kernel returned no stack.
        KernelUnavailable = "no kernel stack given",
        /// An address is in no executable mapping.
        NoMapping = "address outside code",
        /// The unwind rule is not expressible, or needs an unknown register.
        NotExpressible = "rule not expressible",
        /// The tick took too long.
        TimeLimit = "time limit of the tick",
        /// The unwind table of an executable was not loaded yet, does not fit or is in backoff.
        NoTable = "no unwind table",
        /// The stack snapshot ended before the stack did.
        SnapshotEnd = "end of the stack snapshot",
        /// An address is in no known mapping, and not all mappings of the process are known: they
        /// were beyond a limit or could not be read.
        MappingsUnread = "mappings not read",
        /// The kernel walked a frame by a mapping that had been replaced by then.
        MappingReplaced = "mapping replaced",
        /// The root was reached, but by way of a guess that may have omitted a caller.
        Guessed = "guessed",
    }
}

impl StackEnd {
    /// Returns the end of a stack with frames that are `guessed`: it is not known to be complete.
    pub fn with_guesses(self, guessed: bool) -> Self {
        if guessed && self == Self::Complete { Self::Guessed } else { self }
    }

    /// Returns whether outer frames of the stack are missing.
    pub fn is_cut(self) -> bool {
        !matches!(self, Self::Absent | Self::Complete | Self::Guessed)
    }
}

closed_list! {
    /// Why a tick that the configured frequency calls for was not requested from any clock.
    NotSampled {
        /// The rate was lowered to stay within the CPU budget.
        Budget = "budget",
        /// The rate was lowered to stay within the memory budget.
        Memory = "memory",
        /// The CPU was online without a sampling clock.
        NoClock = "no clock",
        /// The clocks stood still, or no session ran.
        Gap = "gap",
        /// Of the clock of a task that may not sample the kernel: the task was in the kernel, or
        /// the tick was missed. Which of the two is unknown.
        KernelCode = "kernel code or missed",
    }
}

closed_list! {
    /// Why a sample that the sampler emitted did not become part of a window.
    Loss {
        /// Its record did not fit into the ring.
        RingFull = "ring full",
        /// Its record is malformed.
        Malformed = "malformed record",
        /// Its stack did not fit into the window.
        WindowFull = "window full",
    }
}
