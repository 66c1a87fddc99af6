//! Loads the BPF programs as the configuration requires, and explains why the kernel refused.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, PrintLevel};
use zerocopy::IntoBytes;

use super::abi::KERNEL_FRAMES_MAX;
use super::perf::PerfError;
use super::skeleton::{EverytickSkel, EverytickSkelBuilder, OpenEverytickSkel, types};
use super::{SamplerConfig, Unwinder, log};

/// Why the sampler could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel refused a BPF program or map.
    #[error("the kernel refused the BPF programs: {source}")]
    Bpf {
        /// The error of libbpf.
        source: libbpf_rs::Error,
        /// libbpf's messages, with the verifier's log.
        log: String,
    },
    /// The kernel refused a sampling clock.
    #[error(transparent)]
    Perf(#[from] PerfError),
    /// The kernel refused the rings of the task sampler.
    #[error("cannot create the rings of {} KiB for each CPU: {source}", .bytes >> 10)]
    Rings {
        /// Bytes of a ring of samples.
        bytes: u32,
        /// The error of the last attempt.
        source: PerfError,
    },
    /// The list of CPUs could not be read, or a descriptor not be duplicated.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The kind of a [`LoadError`], as far as it determines what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadErrorKind {
    /// The kernel denied permission.
    Denied,
    /// The kernel does not support what is needed.
    Unsupported,
    /// Anything else.
    Other,
}

/// What libbpf writes before the verifier's log.
const VERIFIER_LOG: &str = "BEGIN PROG LOAD LOG";

impl LoadError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> LoadErrorKind {
        let kind_of_io = |error: &io::Error| match error.kind() {
            io::ErrorKind::PermissionDenied => LoadErrorKind::Denied,
            io::ErrorKind::Unsupported => LoadErrorKind::Unsupported,
            _ => LoadErrorKind::Other,
        };
        match self {
            // EACCES with a log is the verifier's: we may load programs, but not this one.
            Self::Bpf { source, log } => match source.kind() {
                libbpf_rs::ErrorKind::PermissionDenied if !log.contains(VERIFIER_LOG) => {
                    LoadErrorKind::Denied
                }
                _ => LoadErrorKind::Other,
            },
            Self::Perf(error) | Self::Rings { source: error, .. } => kind_of_io(&error.source),
            Self::Io(error) => kind_of_io(error),
        }
    }
}

impl From<libbpf_rs::Error> for LoadError {
    fn from(source: libbpf_rs::Error) -> Self {
        Self::Bpf { source, log: String::new() }
    }
}

/// Loads the programs and fills the maps that they need before their first run.
pub(super) fn load(config: &SamplerConfig) -> Result<EverytickSkel<'static>, LoadError> {
    let load = |moves| {
        log::with_messages(PrintLevel::Warn, || {
            open(config, moves)?.load().and_then(|mut skeleton| {
                fill_filters(&mut skeleton, config)?;
                if config.unwinder == Unwinder::TailCalls {
                    install_tail_call(&skeleton)?;
                }
                Ok(skeleton)
            })
        })
    };
    for moves in [MoveProbe::Function, MoveProbe::Tracepoint] {
        if let (Ok(skeleton), _) = load(moves) {
            return Ok(skeleton);
        }
    }
    let (loaded, log) = load(MoveProbe::None);
    loaded.map_err(|source| LoadError::Bpf { source, log })
}

/// How the programs learn that mremap moves code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MoveProbe {
    /// From the function that does it. Not every kernel has trampolines to trace functions.
    Function,
    /// From a tracepoint of all writes of mappings, if processes are selected.
    Tracepoint,
    /// Not at all.
    None,
}

/// Opens the skeleton and configures it.
pub(super) fn open(
    config: &SamplerConfig,
    moves: MoveProbe,
) -> libbpf_rs::Result<OpenEverytickSkel<'static>> {
    // The skeleton borrows the storage of its object. A few bytes of storage, leaked once for each
    // sampler, keep `Sampler` free of that lifetime; dropping the skeleton frees the object.
    let storage = Box::leak(Box::new(MaybeUninit::uninit()));
    let mut skeleton = EverytickSkelBuilder::default().open(storage)?;

    skeleton.progs.follow_fork.set_autoload(config.follows_command);
    skeleton.progs.follow_exec.set_autoload(config.follows_command);
    skeleton.progs.follow_free.set_autoload(config.follows_command);
    skeleton.progs.memory_copy.set_autoload(moves == MoveProbe::Function);
    let is_by_tracepoint = moves == MoveProbe::Tracepoint && config.selects_processes();
    skeleton.progs.memory_write.set_autoload(is_by_tracepoint);
    choose_unwinder(&mut skeleton, config.unwinder)?;
    skeleton.maps.ring.set_max_entries(config.ring_bytes)?;
    let filters = &config.filters;
    shrink(&mut skeleton.maps.pids, filters.processes.len())?;
    shrink(&mut skeleton.maps.tids, filters.threads.len())?;
    shrink(&mut skeleton.maps.cgroups, filters.cgroups.len())?;
    shrink(&mut skeleton.maps.comms, filters.comms.len())?;
    if !config.follows_command {
        shrink(&mut skeleton.maps.descendants, 0)?;
    }
    skeleton.maps.interpreters.set_autocreate(config.walks_interpreters())?;
    skeleton.maps.code_tags.set_autocreate(config.walks_interpreters())?;

    let rodata = skeleton.maps.rodata_data.as_deref_mut();
    let no_rodata = || io::Error::other("the programs have no configuration");
    rodata.ok_or_else(no_rodata)?.config = in_kernel(config);
    Ok(skeleton)
}

/// Returns the configuration as the programs read it.
fn in_kernel(config: &SamplerConfig) -> types::sampler_config {
    let filters = &config.filters;
    let filters_processes =
        !config.whole_machine && (config.follows_command || !filters.processes.is_empty());
    types::sampler_config {
        kernel_stacks: config.kernel_stacks.into(),
        user_stacks: config.user_stacks.into(),
        idle: config.idle.into(),
        filter_processes: filters_processes.into(),
        filter_cgroups: (!filters.cgroups.is_empty()).into(),
        filter_comms: (!filters.comms.is_empty()).into(),
        perf_samples: config.perf_samples.into(),
        filter_threads: (!filters.threads.is_empty()).into(),
        runtimes: config.walks_interpreters().into(),
        reserved: [0; 3],
        kernel_frames_limit: config.kernel_frames_limit.min(KERNEL_FRAMES_MAX),
        user_frames_limit: config.user_frames_limit.clamp(1, config.unwinder.frames_max()),
        pid_namespace: config.pid_namespace.unwrap_or_default(),
        ring_wakeup_bytes: config.ring_bytes / 4,
        ring_snapshot_bytes: config.ring_bytes / 2,
        tick_limit: config.tick_limit,
    }
}

/// Leaves out what the other unwinder needs: a kernel without `bpf_loop` would refuse it.
fn choose_unwinder(
    skeleton: &mut OpenEverytickSkel<'static>,
    unwinder: Unwinder,
) -> libbpf_rs::Result<()> {
    let by_tail_calls = unwinder != Unwinder::Loop;
    skeleton.progs.sample.set_autoload(!by_tail_calls);
    skeleton.progs.sample_tailcall.set_autoload(by_tail_calls);
    skeleton.progs.unwind_tailcall.set_autoload(by_tail_calls);
    skeleton.maps.tail_calls.set_autocreate(by_tail_calls)
}

/// Lets the tail-call unwinder call itself.
fn install_tail_call(skeleton: &EverytickSkel<'static>) -> libbpf_rs::Result<()> {
    let program = skeleton.progs.unwind_tailcall.as_fd().as_raw_fd();
    skeleton.maps.tail_calls.update(&0u32.to_ne_bytes(), &program.to_ne_bytes(), MapFlags::ANY)
}

/// Sizes a filter's map for its entries: an empty map takes next to no memory.
fn shrink(map: &mut libbpf_rs::OpenMapMut<'_>, entries: usize) -> libbpf_rs::Result<()> {
    map.set_max_entries(entries.max(1) as u32)
}

fn fill_filters(
    skeleton: &mut EverytickSkel<'static>,
    config: &SamplerConfig,
) -> libbpf_rs::Result<()> {
    let (maps, filters) = (&skeleton.maps, &config.filters);
    for (pid, start) in &filters.processes {
        maps.pids.update(&pid.to_ne_bytes(), &start.to_ne_bytes(), MapFlags::ANY)?;
    }
    for (tid, start) in &filters.threads {
        maps.tids.update(&tid.to_ne_bytes(), &start.to_ne_bytes(), MapFlags::ANY)?;
    }
    for key in &filters.cgroups {
        maps.cgroups.update(key.as_bytes(), &[1], MapFlags::ANY)?;
    }
    for key in &filters.comms {
        maps.comms.update(key.as_bytes(), &[1], MapFlags::ANY)?;
    }
    Ok(())
}
