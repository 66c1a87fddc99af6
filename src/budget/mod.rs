//! The overhead budget: what the agent may use, what it uses, and how it samples less.
//!
//! `usage` measures. [`Ladder`] decides after each window at which step the next one is sampled.
//! [`MemoryShares`] divides the memory before anything starts, so that the sum of all bounds stays
//! below the limit.

mod ladder;
mod shares;
mod usage;

pub use ladder::{Assessment, BudgetLimits, Ladder, Step};
pub use shares::MemoryShares;
pub use usage::{ResidentMemory, ResourceUsage, UsageMeter};
