//! Limits of what one cause may cost, so that it cannot take from the others, and of what one owner
//! may take of it.

mod owner;
mod owner_time_shares;
mod priority;
mod shared_pool;
mod shared_rate;
mod time_share;

pub use owner::Owner;
pub use owner_time_shares::OwnerTimeShares;
pub use priority::raise_priority;
pub use shared_pool::{Charge, SharedPool};
pub use shared_rate::SharedRate;
pub use time_share::TimeShare;
