//! What the agent may cost, what it does cost, and how it samples less when that is too much.
//!
//! `usage` measures, [`Ladder`] decides after each window at which step the next is sampled, and [`Shares`] divides the
//! memory before anything starts, so that the sum of all bounds stays below the limit.

mod ladder;
mod shares;
mod usage;

pub use ladder::{Ladder, Limits, Step, Verdict};
pub use shares::Shares;
pub use usage::{Meter, Resident, Spent, resident};
