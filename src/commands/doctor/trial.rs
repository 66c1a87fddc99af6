//! A short recording of this process.

use std::time::Duration;

use anyhow::{Context, ensure};
use profile::{Tid, error_chain};
use rustix::time::{ClockId, clock_gettime};

use crate::commands::load_diagnostics::{explain, explain_tasks};
use crate::commands::workers::SELF_EXE;
use crate::host::{
    TaskAccess, kernel_frames_limit, max_sample_rate, pid_namespace, ring_bytes, task_ring_bytes,
};
use crate::kernel::{CpuSelection, Filters, SamplerConfig, TaskSamplerConfig};
use crate::procfs::start_ticks;
use crate::session::{ScanScope, Session, SessionLimits, TaskSelection};

/// Sampling frequency of the trial in Hz.
const FREQUENCY: u32 = 199;
const DURATION: Duration = Duration::from_millis(200);
/// Ring of each CPU for process events: there are none.
const RING_BYTES: u32 = 16 << 10;

/// Records. Returns what was recorded, or why nothing was.
pub(super) fn trial() -> Result<String, String> {
    let (samples, tick_us) = record().map_err(|error| error_chain(error.as_ref()))?;
    Ok(format!(
        "{samples} samples of this process in {} ms, {tick_us:.1} us per tick",
        DURATION.as_millis()
    ))
}

/// Records this thread by a clock of its own. Returns what was recorded, or why nothing was.
pub(super) fn trial_of_tasks(access: TaskAccess) -> Result<String, String> {
    let samples = record_thread(access).map_err(|error| error_chain(error.as_ref()))?;
    let code = if access.samples_kernel { "user and kernel code" } else { "user code" };
    Ok(format!("{code}: {samples} samples of this process in {} ms", DURATION.as_millis()))
}

fn record_thread(access: TaskAccess) -> anyhow::Result<u64> {
    let config = TaskSamplerConfig {
        frequency: FREQUENCY,
        samples_kernel: access.samples_kernel,
        kernel_frames_limit: kernel_frames_limit(),
        cpus: CpuSelection::default(),
        ring_bytes: task_ring_bytes(FREQUENCY, None),
        side_band_bytes: RING_BYTES,
    };
    let tid = Tid(rustix::thread::gettid().as_raw_nonzero().get() as u32);
    let selection = TaskSelection { processes: Vec::new(), threads: vec![tid] };
    let session =
        Session::start_for_tasks(SELF_EXE, config, &selection, SessionLimits::default(), None)
            .map_err(explain_tasks)?;
    spin();
    let ledger = session.finish()?.last.ledger;
    ledger.check()?;
    ensure!(ledger.aggregated > 0, "clocks open, but there are no samples of this process");
    Ok(ledger.aggregated)
}

/// Returns the number of samples, and the mean duration of a tick in microseconds.
fn record() -> anyhow::Result<(u64, f64)> {
    let own_pid = std::process::id();
    let start = start_ticks(own_pid).context("/proc does not show this process")?;
    let config = SamplerConfig {
        follows_command: true,
        filters: Filters { processes: vec![(own_pid, start)], ..Filters::default() },
        pid_namespace: pid_namespace()?,
        kernel_frames_limit: kernel_frames_limit(),
        ring_bytes: ring_bytes(FREQUENCY),
        ..SamplerConfig::machine(FREQUENCY.min(max_sample_rate()))
    };
    let scope = ScanScope::Only(Vec::new());
    let mut session = Session::start(SELF_EXE, config, scope, SessionLimits::default(), None, None)
        .map_err(explain)?;
    session.launch(spin).map_err(explain)?;
    let last = session.finish()?.last;
    last.ledger.check()?;
    ensure!(
        last.ledger.aggregated > 0,
        "the BPF programs load, but there are no samples of this process"
    );
    let per_tick = last.counts.sampler.per_tick();
    Ok((last.ledger.aggregated, per_tick.as_secs_f64() * 1e6))
}

/// Keeps a CPU busy: an idle machine may not tick.
fn spin() {
    let now = || {
        let time = clock_gettime(ClockId::Monotonic);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let start = now();
    while now() - start < DURATION {
        std::hint::spin_loop();
    }
}
