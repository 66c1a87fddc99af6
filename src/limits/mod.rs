//! Limits of what one cause may cost, so that it cannot take from the others.

mod cpu_share;

pub use cpu_share::CpuShare;
