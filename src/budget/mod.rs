//! The overhead budget: what the agent may use, what it uses and why, and how it samples less.
//!
//! `usage` measures CPU time by [`Cause`]. [`Ladder`] chooses the sampling rate, and [`CauseRates`]
//! are what the other causes may use. [`MemoryShares`] divides the memory before anything starts,
//! so that the sum of all bounds stays below the limit.

mod cause;
mod ladder;
mod rates;
mod shares;
mod usage;

pub use cause::{Cause, CpuByCause};
pub use ladder::{Assessment, BudgetLimits, BudgetRate, Ladder, Lowered, Percent};
pub use rates::CauseRates;
pub use shares::MemoryShares;
pub use usage::{ResidentMemory, ResourceUsage, UsageMeter};
