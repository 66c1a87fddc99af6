//! The fence around the kernel: the only shipped `unsafe` and the only place that names libbpf.
//!
//! Gives a [`Sampler`] that ticks, a [`SampleReader`] for its ring, [`SideBand`]
//! rings of process events, [`PerfSamples`] rings of perf's own records of ticks, and [`abi`], the shapes of what comes out of them; and the C library's heap. What
//! leaves here is plain bytes and numbers; their meaning is the business of `events`.
//!
//! Needs CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN), and BTF of the running kernel.
#![allow(unsafe_code)]

pub mod abi;
mod config;
mod heap;
mod log;
mod perf;
mod perf_ring;
mod perf_samples;
mod sampler;
mod side_band;
mod skeleton;
mod unwinder;
mod verifier;
mod walk_maps;

pub use config::{Filters, SamplerConfig, SamplingRate};
pub use heap::{share_heap, trim_heap};
pub use perf::{PERF_STACK_BYTES, PerfError, cpu_clock_opens, online_cpus};
pub use perf_samples::PerfSamples;
pub use sampler::{Answer, LoadError, SampleReader, Sampler};
pub use side_band::{SIDE_BAND_BYTES, SideBand, SideBandSwitch};
pub use unwinder::{Unwinder, has_ring_buffer};
pub use verifier::{VerifierCost, verifier_costs};
pub use walk_maps::WalkMaps;
