//! Asks a worker process, the deriver, for rows derived from the machine code of files.
//!
//! Decoding is the work of a large library on untrusted bytes: it never runs in the agent. A worker
//! that takes too long or dies costs its file the derived rows, and nothing else.

mod proto;
mod server;

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use unwind::derived::DerivedRows;

use super::cache::ReadRanges;
use crate::workers::{CallLimits, Reply, Supervisor, Timeout, Usage};
pub(super) use proto::DerivedExtent;
use proto::{DeriveRequest, DeriveResponse};
pub use server::serve;

/// Where rows come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RowSource {
    /// All sources that a file has.
    #[default]
    All,
    /// Machine code alone, as if no file had call frames. Nothing is cached.
    MachineCode,
}

/// CPU time that one file may take.
const CPU_MAX: Duration = Duration::from_secs(5);
/// What one file may take if all of its code is followed.
const LIMITS_OF_ALL: CallLimits = CallLimits { cpu: Duration::from_secs(60), memory: 2 << 30 };
/// How long an answer is waited for on a busy machine, as a multiple of the CPU time.
const WAIT_FACTOR: u32 = 3;
/// How long more urgent work waits meanwhile.
const POLL: Duration = Duration::from_millis(10);

/// What all derivers have used so far, readable from another thread.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedUsage(Arc<Mutex<Usage>>);

impl SharedUsage {
    pub fn get(&self) -> Usage {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, usage: Usage) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = usage;
    }
}

/// Asks the deriver.
pub(super) struct Deriver {
    /// `None` if there is no program that could run as a worker.
    supervisor: Option<Supervisor>,
    usage: SharedUsage,
    memory_max: u64,
}

impl Deriver {
    /// `program` with the one argument `deriver` is to run [`serve`]. It is started on first use.
    /// With an empty `program`, in tests, nothing is derived. `memory_max`: bytes that it may take
    /// for one file, unless all of its code is followed.
    pub fn new(program: &str, memory_max: u64) -> Self {
        let supervisor = Supervisor::new(program, ["deriver".to_owned()]);
        let supervisor = (!program.is_empty()).then_some(supervisor);
        Self { supervisor, usage: SharedUsage::default(), memory_max }
    }

    /// Returns what all derivers use.
    pub fn usage(&self) -> SharedUsage {
        self.usage.clone()
    }

    /// Returns whether rows can be derived at all.
    pub fn is_available(&self) -> bool {
        self.supervisor.is_some()
    }

    /// Returns whether a worker is running.
    pub fn is_running(&self) -> bool {
        self.supervisor.as_ref().is_some_and(Supervisor::is_running)
    }

    /// Derives rows of a file, and records what was read of it. Returns them with the CPU time that
    /// it took; `None` if they are not known. `meanwhile` is called while they are derived.
    pub fn derive(
        &mut self,
        file: &File,
        extent: &DerivedExtent,
        ranges: &ReadRanges,
        meanwhile: &mut dyn FnMut(),
    ) -> (Option<DerivedRows>, Duration) {
        let Some(supervisor) = &mut self.supervisor else { return (None, Duration::ZERO) };
        let before = supervisor.usage().cpu;
        let reply = {
            let limits = match extent {
                DerivedExtent::All => LIMITS_OF_ALL,
                _ => CallLimits { cpu: CPU_MAX, memory: self.memory_max },
            };
            call(supervisor, file, &DeriveRequest::new(extent), limits, meanwhile)
        };
        let usage = supervisor.usage();
        self.usage.set(usage);
        let rows = reply.and_then(|reply| {
            let response = reply.response;
            response.read().for_each(|(offset, bytes)| ranges.add(offset, bytes as usize));
            response.rows()
        });
        (rows, usage.cpu.saturating_sub(before))
    }

    /// Ends the worker, whose memory is not needed until the next file.
    pub fn stop(&mut self) {
        if let Some(supervisor) = &mut self.supervisor {
            supervisor.stop();
            self.usage.set(supervisor.usage());
        }
    }
}

fn call(
    supervisor: &mut Supervisor,
    file: &File,
    request: &DeriveRequest,
    limits: CallLimits,
    meanwhile: &mut dyn FnMut(),
) -> Option<Reply<DeriveResponse>> {
    supervisor.send(request, &[file.as_fd()], &|| false).ok()?;
    let until = Instant::now() + WAIT_FACTOR * limits.cpu;
    while Instant::now() < until {
        if let Some(reply) = supervisor.receive(Timeout::after(POLL), Some(limits)).ok()? {
            return Some(reply);
        }
        meanwhile();
    }
    supervisor.stop();
    None
}
