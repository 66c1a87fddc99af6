//! Limits of what one cause may cost, so that it cannot take from the others, and of what one owner
//! may take of it.

mod cpu_share;
mod owner;
mod owner_cpu_shares;
mod shared_pool;
mod shared_rate;

pub use cpu_share::CpuShare;
pub use owner::Owner;
pub use owner_cpu_shares::OwnerCpuShares;
pub use shared_pool::{Charge, SharedPool};
pub use shared_rate::SharedRate;
