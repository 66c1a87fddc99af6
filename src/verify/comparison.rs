//! Compares the stacks that two unwinders found for the same tick.

use profile::StackEnd;

/// How a stack ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkEnd {
    /// At the root.
    Complete,
    /// The unwinder found no caller, and why.
    Stopped(&'static str),
    /// At a limit, which is no defect of the unwinder.
    Limit(IncomparableReason),
}

impl From<StackEnd> for WalkEnd {
    fn from(end: StackEnd) -> Self {
        match end {
            StackEnd::Complete | StackEnd::Guessed => Self::Complete,
            StackEnd::Depth => Self::Limit(IncomparableReason::OurDepth),
            StackEnd::TimeLimit => Self::Limit(IncomparableReason::OurTime),
            StackEnd::NoTable => Self::Limit(IncomparableReason::OurTable),
            StackEnd::MappingReplaced => Self::Limit(IncomparableReason::OurMapping),
            StackEnd::SnapshotEnd => Self::Limit(IncomparableReason::OurSnapshotEnded),
            StackEnd::ThirtyTwoBit => Self::Limit(IncomparableReason::ThirtyTwoBit),
            StackEnd::Absent
            | StackEnd::NoRow
            | StackEnd::BadReturnAddress
            | StackEnd::Unreadable
            | StackEnd::KernelUnavailable
            | StackEnd::NoMapping
            | StackEnd::NotExpressible
            | StackEnd::MappingsUnread => Self::Stopped(end.text()),
        }
    }
}

impl WalkEnd {
    /// Returns the text for reports.
    pub fn text(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Stopped(why) => why,
            Self::Limit(reason) => reason.text(),
        }
    }
}

/// Why a tick could not be compared, or only in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IncomparableReason {
    /// perf's record of the tick was lost, or is of another instant.
    NoRecord,
    /// perf's stack snapshot ended before framehop did.
    SnapshotEnded,
    /// perf's stack snapshot ended at a page that was not in memory, or framehop read past its end.
    SnapshotHole,
    /// Our stack has more frames than the limit.
    OurDepth,
    /// Our tick took too long.
    OurTime,
    /// The unwind table of an executable was not loaded yet.
    OurTable,
    /// A mapping of our stack had been replaced.
    OurMapping,
    /// The stack snapshot of a tick without tables in the kernel ended.
    OurSnapshotEnded,
    /// framehop was stopped at the frame limit.
    FramehopLimit,
    /// 32-bit code, which neither unwinds.
    ThirtyTwoBit,
}

impl IncomparableReason {
    /// All reasons, in the order of reports.
    pub const ALL: [Self; 10] = [
        Self::NoRecord,
        Self::SnapshotEnded,
        Self::SnapshotHole,
        Self::OurDepth,
        Self::OurTime,
        Self::OurTable,
        Self::OurMapping,
        Self::OurSnapshotEnded,
        Self::FramehopLimit,
        Self::ThirtyTwoBit,
    ];

    /// Returns whether the stacks were compared, and agree, up to a limit of one of them.
    pub fn is_cut(self) -> bool {
        !matches!(self, Self::NoRecord | Self::ThirtyTwoBit)
    }

    /// Returns the text for reports.
    pub fn text(self) -> &'static str {
        match self {
            Self::NoRecord => "no perf record of the tick",
            Self::SnapshotEnded => "end of perf's stack snapshot of 64 KiB",
            Self::SnapshotHole => "hole in perf's stack snapshot",
            Self::OurDepth => "ours was cut at the depth limit",
            Self::OurTime => "ours was cut at the time limit of the tick",
            Self::OurTable => "ours had no unwind table",
            Self::OurMapping => "ours was cut at a replaced mapping",
            Self::OurSnapshotEnded => "end of our stack snapshot",
            Self::FramehopLimit => "framehop was cut at the frame limit",
            Self::ThirtyTwoBit => "32-bit code",
        }
    }
}

/// The stack that an unwinder found: raw addresses, innermost first, and how it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnwoundStack {
    pub frames: Vec<u64>,
    pub end: WalkEnd,
}

/// Our stack compared with framehop's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Comparison {
    /// The same frames.
    Equal,
    /// Ours stops earlier and agrees up to there.
    Shorter,
    /// Ours continues where framehop stops.
    Longer,
    /// The two differ at some frame.
    Different,
}

/// The result of comparing two stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StackComparison {
    /// Number of equal frames from the innermost on.
    pub agreed: usize,
    pub result: Result<Comparison, IncomparableReason>,
    /// Whether both stacks claim to end at the root.
    pub both_complete: bool,
}

/// Compares two stacks frame by frame. Both start at the same instruction.
pub(super) fn compare(ours: &UnwoundStack, theirs: &UnwoundStack) -> StackComparison {
    let both = ours.frames.iter().zip(&theirs.frames);
    let agreed = both.take_while(|(ours, theirs)| ours == theirs).count();
    let (our_len, their_len) = (ours.frames.len(), theirs.frames.len());
    let limit = |end: WalkEnd| match end {
        WalkEnd::Limit(reason) => Err(reason),
        WalkEnd::Complete | WalkEnd::Stopped(_) => Ok(()),
    };
    let result = if agreed < our_len.min(their_len) {
        Ok(Comparison::Different)
    } else if our_len < their_len {
        limit(ours.end).map(|()| Comparison::Shorter)
    } else if our_len > their_len {
        limit(theirs.end).map(|()| Comparison::Longer)
    } else {
        limit(ours.end).and(limit(theirs.end)).map(|()| Comparison::Equal)
    };
    let both_complete = (ours.end, theirs.end) == (WalkEnd::Complete, WalkEnd::Complete);
    StackComparison { agreed, result, both_complete }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOPPED: WalkEnd = WalkEnd::Stopped("no unwind row");
    const LIMIT: WalkEnd = WalkEnd::Limit(IncomparableReason::SnapshotEnded);

    fn stack(frames: &[u64], end: WalkEnd) -> UnwoundStack {
        UnwoundStack { frames: frames.into(), end }
    }

    /// Compares two complete stacks.
    fn complete(ours: &[u64], theirs: &[u64]) -> (usize, Result<Comparison, IncomparableReason>) {
        let compared = compare(&stack(ours, WalkEnd::Complete), &stack(theirs, WalkEnd::Complete));
        assert!(compared.both_complete);
        (compared.agreed, compared.result)
    }

    #[test]
    fn complete_stacks_are_compared_frame_by_frame() {
        assert_eq!(complete(&[1, 2, 3], &[1, 2, 3]), (3, Ok(Comparison::Equal)));
        assert_eq!(complete(&[1, 2, 3], &[1, 9, 3]), (1, Ok(Comparison::Different)));
        assert_eq!(complete(&[1, 2], &[1, 2, 3]), (2, Ok(Comparison::Shorter)));
        assert_eq!(complete(&[1, 2, 3], &[1, 2]), (2, Ok(Comparison::Longer)));
        assert_eq!(complete(&[1, 3], &[1, 2, 3]), (1, Ok(Comparison::Different)));
    }

    #[test]
    fn limit_excuses_missing_frames_but_no_wrong_one() {
        let check = |ours: &UnwoundStack, theirs: &UnwoundStack, expected| {
            assert_eq!(compare(ours, theirs).result, expected, "{ours:?} {theirs:?}");
        };
        let whole = stack(&[1, 2, 3], WalkEnd::Complete);
        check(&whole, &stack(&[1, 2], LIMIT), Err(IncomparableReason::SnapshotEnded));
        check(&whole, &stack(&[1, 9], LIMIT), Ok(Comparison::Different));
        check(&stack(&[1, 2], LIMIT), &whole, Err(IncomparableReason::SnapshotEnded));
        check(&whole, &stack(&[1, 2, 3, 4], LIMIT), Ok(Comparison::Shorter));
        check(&stack(&[1, 2], STOPPED), &whole, Ok(Comparison::Shorter));
        check(&whole, &stack(&[1, 2], STOPPED), Ok(Comparison::Longer));
    }

    #[test]
    fn stopping_at_the_same_frame_is_equal_but_not_complete() {
        let both = stack(&[1, 2], STOPPED);
        let compared = compare(&both, &both);
        assert_eq!((compared.result, compared.both_complete), (Ok(Comparison::Equal), false));
    }
}
