//! The closed lists of how a tick, a stack and a sample can end.
//!
//! [`TickOutcome`] and [`StackEnd`] have the values of `enum outcome` and
//! `enum stack_end` in `bpf/abi.h`; the agent proves that while it compiles. Their
//! texts are the ones that summaries, metrics and pprof files show.

/// Declares an enum whose variants are numbered from 0, each with its one text.
macro_rules! closed_list {
    ($(#[$list:meta])* $name:ident { $($(#[$item:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$list])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $($(#[$item])* $variant,)* }

        impl $name {
            /// All of them, each at its own value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// Says it in words.
            pub fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// Gives the one with this value.
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
        /// It had a sequence number, but the ring had no room.
        LostRingFull = "ring full",
        /// The idle task ran, and idle time was not asked for.
        SkippedIdle = "idle",
        /// Another process than those asked for.
        SkippedProcess = "other process",
        /// Another cgroup than those asked for.
        SkippedCgroup = "other cgroup",
        /// Another name than those asked for.
        SkippedComm = "other name",
        /// Only frames of a mode that was left out.
        SkippedMode = "mode left out",
        /// A process that the agent's pid namespace does not show.
        SkippedNamespace = "outside the pid namespace",
    }
}

impl TickOutcome {
    /// Tells the ticks that nobody wanted from those that became samples.
    pub fn is_skipped(self) -> bool {
        !matches!(self, Self::Delivered | Self::LostRingFull)
    }
}

closed_list! {
    /// Why a kernel or user stack ends where it ends.
    StackEnd {
        /// There is no such stack, or it was not asked for.
        Absent = "no such stack",
        /// The stack is complete.
        Complete = "complete",
        /// It has more frames than the limit.
        Depth = "depth limit",
        /// There is no unwind row for an address, and no frame pointer that leads on.
        NoRow = "no unwind row",
        /// What should be a return address is not a user address.
        ReturnAddress = "bad return address",
        /// Stack memory could not be read.
        Unreadable = "unreadable stack",
        /// 32-bit code, which is not unwound.
        ThirtyTwoBit = "32-bit code",
        /// The kernel gave no stack.
        KernelRefused = "no kernel stack given",
        /// An address lies in no executable mapping.
        NoMapping = "address outside code",
        /// The unwind rule cannot be followed.
        NotExpressible = "rule not expressible",
        /// The tick took too long.
        WorkLimit = "time limit of the tick",
        /// The unwind rows of an executable were not there yet, or had no room.
        NoTable = "no unwind table",
        /// The stack snapshot ended before the stack did.
        SnapshotEnd = "end of the stack snapshot",
    }
}

impl StackEnd {
    /// Tells a stack that misses its outer frames from one that is complete or not there.
    pub fn is_cut(self) -> bool {
        !matches!(self, Self::Absent | Self::Complete)
    }
}

closed_list! {
    /// Why a sample that the sampler emitted did not become part of a window.
    Loss {
        /// The ring had no room for it.
        RingFull = "ring full",
        /// Its record made no sense.
        Malformed = "malformed record",
        /// The window had no room for another stack.
        WindowFull = "window full",
    }
}
