//! Why a runtime that was recognized gets no frames.

/// Why the frames of an interpreter are not walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecognitionError {
    /// A version whose structures are not known.
    UnsupportedVersion,
    /// The file does not say, or contradicts itself about, which version it is.
    UnknownVersion,
    /// The structures are not as in other builds of the version.
    UnknownLayout,
    /// No way was found to the state of the current thread.
    NoThreadState,
    /// A C library that keeps values of threads in an unknown way.
    UnknownLibrary,
    /// The process has mapped no C library that is known, and the state of its threads is there.
    NoLibrary,
    /// What the file helper answered is inconsistent.
    Malformed,
}

impl RecognitionError {
    /// All of them, each at the index of its value.
    pub const ALL: &'static [Self] = &[
        Self::UnsupportedVersion,
        Self::UnknownVersion,
        Self::UnknownLayout,
        Self::NoThreadState,
        Self::UnknownLibrary,
        Self::NoLibrary,
        Self::Malformed,
    ];

    /// Returns it in words, as metrics and the log have it.
    pub fn text(self) -> &'static str {
        match self {
            Self::UnsupportedVersion => "unsupported version",
            Self::UnknownVersion => "unknown version",
            Self::UnknownLayout => "unknown layout",
            Self::NoThreadState => "no thread state",
            Self::UnknownLibrary => "unknown C library",
            Self::NoLibrary => "no C library",
            Self::Malformed => "malformed",
        }
    }
}
