//! What of a file is not in its table, and why.

/// Rows that a file has and its table has not, by reason. A function that cannot be read at all
/// counts as one row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Omissions {
    /// FDEs or CIEs that are malformed.
    pub malformed: u64,
    /// The CFA is computed by an expression that is not recognized.
    pub cfa_expression: u64,
    /// The CFA is relative to no general register, or its offset does not fit 32 bits.
    pub cfa_offset: u64,
    /// No [`RegisterRule`](crate::RegisterRule) expresses where the return address or sp is saved.
    pub return_address: u64,
    /// No [`RegisterRule`](crate::RegisterRule) expresses where the frame pointer is saved.
    pub frame_pointer: u64,
    /// More rows or rules than a block holds.
    pub block_full: u64,
    /// The section is larger, or takes more work, than is allowed.
    pub limit: u64,
}

impl Omissions {
    /// Returns each reason with its count.
    pub fn by_reason(&self) -> [(&'static str, u64); 7] {
        let texts = [
            "malformed",
            "CFA expression",
            "CFA offset",
            "return address",
            "frame pointer",
            "block full",
            "limit",
        ];
        let mut counts = self.counts().into_iter();
        texts.map(|text| (text, counts.next().unwrap_or(0)))
    }

    /// Returns the sum over all reasons.
    pub fn total(&self) -> u64 {
        self.counts().iter().sum()
    }

    /// Returns the counts in the order of the fields, which [`CallFrames::to_bytes`] stores.
    ///
    /// [`CallFrames::to_bytes`]: crate::CallFrames::to_bytes
    pub(crate) fn counts(&self) -> [u64; 7] {
        let Self {
            malformed,
            cfa_expression,
            cfa_offset,
            return_address,
            frame_pointer,
            block_full,
            limit,
        } = *self;
        [malformed, cfa_expression, cfa_offset, return_address, frame_pointer, block_full, limit]
    }

    /// Takes what [`Omissions::counts`] returned.
    pub(crate) fn from_counts(counts: [u64; 7]) -> Self {
        let [
            malformed,
            cfa_expression,
            cfa_offset,
            return_address,
            frame_pointer,
            block_full,
            limit,
        ] = counts;
        Self {
            malformed,
            cfa_expression,
            cfa_offset,
            return_address,
            frame_pointer,
            block_full,
            limit,
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let mut counts = self.counts();
        counts.iter_mut().zip(other.counts()).for_each(|(sum, count)| *sum += count);
        *self = Self::from_counts(counts);
    }
}
