//! What rows and those who read them may take.

/// Memory of the rows of a session and of those who read them, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct RowLimits {
    /// All slabs.
    pub slabs: u64,
    /// Files of which blocks are read.
    pub reading: usize,
    /// What the deriver takes for one file.
    pub deriving: u64,
}
