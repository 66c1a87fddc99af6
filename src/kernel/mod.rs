//! The boundary to the kernel: all shipped `unsafe` code, and the only code that names libbpf.
//!
//! It provides a [`Sampler`] that runs in the ticks of each [`CpuClock`], a [`SampleReader`] for
//! its ring, [`SideBand`] rings of process events, [`PerfSamples`] rings of perf's own records of
//! ticks, a [`TaskSampler`] for users without capabilities, [`CpuNotices`] of CPUs that come and
//! go, the [`WalkMaps`] by which the programs unwind, the reaping and the confinement of worker
//! processes, mapped files, where the code of BPF programs is, and the C library's heap. What
//! leaves this module is plain bytes and numbers in the shapes of [`abi`]; `events` interprets
//! them.
//!
//! All but the task sampler needs CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN), and BTF of the
//! running kernel.
#![allow(unsafe_code)]

pub mod abi;
mod bpf_code;
mod children;
mod config;
mod confinement;
mod cpu_clock;
mod cpus;
mod heap;
mod load;
mod log;
mod mapped_file;
mod perf;
mod perf_ring;
mod perf_samples;
mod sample_reader;
mod sampler;
mod side_band;
mod skeleton;
mod task_sampler;
mod unwinder;
mod verifier;
mod walk_maps;

pub use bpf_code::bpf_code;
pub use children::{ReapedChild, try_reap};
pub use config::{CpuSelection, Filters, SamplerConfig, SamplingRate};
pub use confinement::confine;
pub use cpu_clock::CpuClock;
pub use cpus::{CpuNotices, CpuWakeup, online_cpus, parse_cpu_list, wait_for_cpu_notice};
pub use heap::{share_heap, trim_heap};
pub use load::{LoadError, LoadErrorKind};
pub use mapped_file::map_file;
pub use perf::{PERF_STACK_BYTES, PerfError, cpu_clock_opens};
pub use perf_samples::PerfSamples;
pub use sample_reader::SampleReader;
pub use sampler::Sampler;
pub use side_band::{SIDE_BAND_BYTES, SideBand};
pub use task_sampler::{
    TaskClockCount, TaskEvents, TaskRings, TaskSampler, TaskSamplerConfig, TaskScope,
    task_clock_opens,
};
pub use unwinder::{Unwinder, has_ring_buffer};
pub use verifier::{VerifierCost, verifier_costs};
pub use walk_maps::WalkMaps;
