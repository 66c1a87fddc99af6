//! What two walks of the same tick come to beside each other.

use profile::StackEnd;

/// Where a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At the outermost frame.
    Complete,
    /// There was no going on, and why.
    Stopped(&'static str),
    /// At a limit, which says nothing about unwinding.
    Limit(Reason),
}

impl From<StackEnd> for End {
    fn from(end: StackEnd) -> Self {
        match end {
            StackEnd::Complete => Self::Complete,
            StackEnd::Depth => Self::Limit(Reason::OurDepth),
            StackEnd::WorkLimit => Self::Limit(Reason::OurTime),
            StackEnd::NoTable => Self::Limit(Reason::OurTable),
            StackEnd::SnapshotEnd => Self::Limit(Reason::OurCopyEnded),
            StackEnd::ThirtyTwoBit => Self::Limit(Reason::ThirtyTwoBit),
            StackEnd::Absent
            | StackEnd::NoRow
            | StackEnd::ReturnAddress
            | StackEnd::Unreadable
            | StackEnd::KernelRefused
            | StackEnd::NoMapping
            | StackEnd::NotExpressible => Self::Stopped(end.text()),
        }
    }
}

impl End {
    /// Says it in words.
    pub fn text(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Stopped(why) => why,
            Self::Limit(reason) => reason.text(),
        }
    }
}

/// Why a tick could not be compared, or not to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// perf's record of the tick was lost, or is of another instant.
    NoRecord,
    /// The copied stack ended before framehop did.
    CopyEnded,
    /// perf's copy of the stack ended at a page that was not in memory, or framehop looked behind its end.
    CopyHole,
    /// Ours has more frames than the limit.
    OurDepth,
    /// Our tick took too long.
    OurTime,
    /// The rows of an executable were not there yet.
    OurTable,
    /// The stack that a tick took along, for want of rows in the kernel, ended.
    OurCopyEnded,
    /// framehop was stopped at a number of frames.
    TheirsLimited,
    /// 32-bit code, which nobody unwinds.
    ThirtyTwoBit,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::NoRecord,
        Self::CopyEnded,
        Self::CopyHole,
        Self::OurDepth,
        Self::OurTime,
        Self::OurTable,
        Self::OurCopyEnded,
        Self::TheirsLimited,
        Self::ThirtyTwoBit,
    ];

    /// Whether the two agree as far as both go: they were compared, but not to the end.
    pub fn is_cut(self) -> bool {
        !matches!(self, Self::NoRecord | Self::ThirtyTwoBit)
    }

    /// Says it in words.
    pub fn text(self) -> &'static str {
        match self {
            Self::NoRecord => "no perf record of the tick",
            Self::CopyEnded => "the copied 64 KiB of stack ended",
            Self::CopyHole => "perf's copy of the stack has an end before that",
            Self::OurDepth => "ours was cut at its depth",
            Self::OurTime => "ours was cut by the time limit of the tick",
            Self::OurTable => "ours had no unwind table",
            Self::OurCopyEnded => "the 24 KiB of stack ended that ours took along",
            Self::TheirsLimited => "framehop was cut at a limit",
            Self::ThirtyTwoBit => "32-bit code",
        }
    }
}

/// A walk: raw addresses, innermost first, and where it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stack {
    pub frames: Vec<u64>,
    pub end: End,
}

/// How ours stands beside theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// The same frames.
    Equal,
    /// Ours stops earlier, and agrees as far as it goes.
    Shorter,
    /// Ours goes on where theirs stops.
    Longer,
    /// They part at some frame.
    Different,
}

/// What came of comparing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Compared {
    /// Frames that are the same, from the innermost on.
    pub agreed: usize,
    pub verdict: Result<Verdict, Reason>,
    /// Both reached what they take for the outermost frame.
    pub both_complete: bool,
}

/// Compares two walks frame by frame. Both start at the same instruction.
pub(super) fn compare(ours: &Stack, theirs: &Stack) -> Compared {
    let both = ours.frames.iter().zip(&theirs.frames);
    let agreed = both.take_while(|(ours, theirs)| ours == theirs).count();
    let (our_len, their_len) = (ours.frames.len(), theirs.frames.len());
    let limit = |end: End| match end {
        End::Limit(reason) => Err(reason),
        End::Complete | End::Stopped(_) => Ok(()),
    };
    let verdict = if agreed < our_len.min(their_len) {
        Ok(Verdict::Different)
    } else if our_len < their_len {
        limit(ours.end).map(|()| Verdict::Shorter)
    } else if our_len > their_len {
        limit(theirs.end).map(|()| Verdict::Longer)
    } else {
        limit(ours.end).and(limit(theirs.end)).map(|()| Verdict::Equal)
    };
    let both_complete = (ours.end, theirs.end) == (End::Complete, End::Complete);
    Compared { agreed, verdict, both_complete }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOPPED: End = End::Stopped("no unwind row");
    const LIMIT: End = End::Limit(Reason::CopyEnded);

    fn stack(frames: &[u64], end: End) -> Stack {
        Stack { frames: frames.into(), end }
    }

    /// Compares two complete stacks.
    fn complete(ours: &[u64], theirs: &[u64]) -> (usize, Result<Verdict, Reason>) {
        let compared = compare(&stack(ours, End::Complete), &stack(theirs, End::Complete));
        assert!(compared.both_complete);
        (compared.agreed, compared.verdict)
    }

    #[test]
    fn complete_stacks_are_equal_only_frame_by_frame() {
        assert_eq!(complete(&[1, 2, 3], &[1, 2, 3]), (3, Ok(Verdict::Equal)));
        assert_eq!(complete(&[1, 2, 3], &[1, 9, 3]), (1, Ok(Verdict::Different)));
        assert_eq!(complete(&[1, 2], &[1, 2, 3]), (2, Ok(Verdict::Shorter)));
        assert_eq!(complete(&[1, 2, 3], &[1, 2]), (2, Ok(Verdict::Longer)));
        assert_eq!(complete(&[1, 3], &[1, 2, 3]), (1, Ok(Verdict::Different)));
    }

    #[test]
    fn a_limit_excuses_what_is_missing_but_no_wrong_frame() {
        let check = |ours: &Stack, theirs: &Stack, expected| {
            assert_eq!(compare(ours, theirs).verdict, expected, "{ours:?} {theirs:?}");
        };
        let whole = stack(&[1, 2, 3], End::Complete);
        check(&whole, &stack(&[1, 2], LIMIT), Err(Reason::CopyEnded));
        check(&whole, &stack(&[1, 9], LIMIT), Ok(Verdict::Different));
        check(&stack(&[1, 2], LIMIT), &whole, Err(Reason::CopyEnded));
        check(&whole, &stack(&[1, 2, 3, 4], LIMIT), Ok(Verdict::Shorter));
        check(&stack(&[1, 2], STOPPED), &whole, Ok(Verdict::Shorter));
        check(&whole, &stack(&[1, 2], STOPPED), Ok(Verdict::Longer));
    }

    #[test]
    fn what_stops_at_the_same_frame_is_equal_and_not_complete() {
        let both = stack(&[1, 2], STOPPED);
        let compared = compare(&both, &both);
        assert_eq!((compared.verdict, compared.both_complete), (Ok(Verdict::Equal), false));
    }
}
