//! Unwind tables and mappings published to the kernel, within a limit of bytes.
//!
//! Nothing is loaded before it is needed:
//!
//! 1. A tick that misses rows or mappings takes a snapshot of its stack.
//! 2. [`SnapshotUnwinder`] finishes the walk in user space and requests the rows it lacks.
//! 3. [`RowStore`] has them read by its loader thread, or from the [`Cache`] of an earlier run,
//!    and publishes them; a worker process derives rows where a file has none. It evicts the
//!    tables used least recently when the limit is reached.
//! 4. [`MappingPublisher`] publishes the mappings of the process. From then on, ticks are walked
//!    in the kernel.
//!
//! A session without BPF programs takes a snapshot in every tick: rows are loaded all the same, and
//! nothing is published.
//!
//! Publication writes the bytes first, then what refers to them. Withdrawal goes the other way
//! round, and a slot is reused only after every tick that may read it has ended.

mod backoff;
mod block_readers;
mod burst_priority;
mod cache;
mod counts;
mod deriver;
mod guard;
mod large_files;
mod load_request;
mod loader;
mod loader_cache;
mod loader_cpu;
mod loader_derived;
mod published;
mod published_runtime;
mod publisher;
mod row_limits;
mod row_store;
mod slabs;
mod slots;
mod snapshot_unwinder;
mod table_entry;

pub use cache::{Cache, CacheCounts};
pub use counts::TableCounts;
pub use deriver::{RowSource, serve as serve_deriver};
pub use load_request::LoadingCanceller;
pub use publisher::MappingPublisher;
pub use row_limits::RowLimits;
pub use row_store::RowStore;
pub use snapshot_unwinder::{SnapshotUnwinder, WalkOutcome, WalkedStack};
