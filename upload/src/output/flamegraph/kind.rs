//! What a frame is, by the model of the profile, and the colour that shows it.
//!
//! The colours are those of Okabe and Ito ("Color Universal Design", 2008), which readers with any
//! form of colour blindness tell apart, and on which black text has a contrast of at least 5 to 1.
//! Cut and guessed stacks and idle time have a pattern besides.

use profile::MappingKind;

/// What a frame of the picture is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum FrameKind {
    /// The kernel, its modules and BPF programs.
    Kernel,
    /// A function of a program or a library.
    Native,
    /// A function that the compiler inlined into its caller.
    Inlined,
    /// Code in memory without a file, which a JIT compiler made.
    Jit,
    /// Code of a file without a symbol, or of no known mapping.
    Unnamed,
    /// Placeholder for the outer frames missing from a stack.
    Cut,
    /// Marks stacks with a frame found by frame pointer alone.
    Guessed,
    /// All stacks, a process, or a thread.
    Task,
    /// Time in which no task ran.
    Idle,
    /// Frames too narrow to be drawn one by one.
    Rest,
}

impl FrameKind {
    /// The kinds that the legend explains, in its order.
    pub const LEGEND: [Self; 7] = [
        Self::Kernel,
        Self::Native,
        Self::Inlined,
        Self::Jit,
        Self::Unnamed,
        Self::Cut,
        Self::Guessed,
    ];
    /// The kinds whose colour has a pattern on it.
    pub const WITH_PATTERN: [Self; 3] = [Self::Cut, Self::Guessed, Self::Idle];

    /// Returns the kind of a function. `is_inlined`: into another function at the same address.
    pub fn of_function(mapping: MappingKind, is_inlined: bool) -> Self {
        match (mapping, is_inlined) {
            (MappingKind::Kernel, _) => Self::Kernel,
            (MappingKind::Memory, _) => Self::Jit,
            (_, true) => Self::Inlined,
            (_, false) => Self::Native,
        }
    }

    /// Returns the kind of code without a symbol.
    pub fn of_unnamed(mapping: MappingKind) -> Self {
        match mapping {
            MappingKind::Kernel => Self::Kernel,
            MappingKind::Memory => Self::Jit,
            MappingKind::File | MappingKind::Vdso | MappingKind::Unknown => Self::Unnamed,
        }
    }

    /// Returns the word for the legend and for tooltips.
    pub fn label(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Native => "native",
            Self::Inlined => "inlined",
            Self::Jit => "JIT",
            Self::Unnamed => "unnamed",
            Self::Cut => "cut",
            Self::Guessed => "guessed",
            Self::Task => "task",
            Self::Idle => "idle",
            Self::Rest => "narrow",
        }
    }

    /// Returns what frames of this kind mean, in a sentence.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Kernel => "code of the kernel",
            Self::Native => "functions of programs and libraries",
            Self::Inlined => "functions that the compiler inlined into their callers",
            Self::Jit => "code in memory without a file, made by a JIT compiler",
            Self::Unnamed => "code without a symbol",
            Self::Cut => "the outer frames of these stacks are missing, for the reason in brackets",
            Self::Guessed => {
                "a frame of these stacks was found by frame pointer alone, and nothing confirms it"
            }
            Self::Task => "a process or a thread",
            Self::Idle => "no task ran",
            Self::Rest => "frames that are too narrow to be drawn one by one",
        }
    }

    /// Returns the colour, as SVG writes it.
    pub fn color(self) -> &'static str {
        match self {
            Self::Kernel => "#e69f00",
            Self::Native => "#56b4e9",
            Self::Inlined => "#f0e442",
            Self::Jit => "#009e73",
            Self::Unnamed => "#c0c0c0",
            Self::Cut => "#d55e00",
            Self::Guessed => "#cc79a7",
            Self::Task => "#e8e8e8",
            Self::Idle | Self::Rest => "#f7f7f7",
        }
    }
}
