//! Labels processes by what they execute and which cgroup they are in.
//!
//! Only sampled processes are read, each once per executable. That happens when a sample arrives,
//! before it is the sample's turn, because the process may exit soon. A process that has exited
//! before gets the cgroup of its parent.

mod labeller;
mod process_labels;

pub use labeller::LabelCounts;
pub(super) use labeller::Labeller;
#[cfg(test)]
pub(super) use process_labels::REREAD_AFTER_NS;
pub(super) use process_labels::{CgroupSource, ProcessLabels};
