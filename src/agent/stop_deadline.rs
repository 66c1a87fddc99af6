//! Ends the process if it has not stopped in time: with a CPU limit of a hundredth of a CPU, or a
//! disk that does not answer, stopping in good order can take longer than an orchestrator waits.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Time from the signal to the end, at most. Orchestrators wait for 10 s or more.
pub(super) const STOP_MAX: Duration = Duration::from_secs(5);
/// The last part of [`STOP_MAX`]: for the end of the process itself, which frees BPF maps.
const EXIT: Duration = Duration::from_millis(300);
/// Time for the last line of the log.
const LAST_LINE: Duration = Duration::from_millis(100);

/// All windows are in the spool, or have no samples.
static ARE_ALL_ACCEPTED: AtomicBool = AtomicBool::new(false);
/// The deadline is over, and the process ends now.
static IS_OVER: AtomicBool = AtomicBool::new(false);
/// Ends the work that only later windows would need.
static END_OTHER_WORK: Mutex<Option<Box<dyn FnOnce() + Send>>> = Mutex::new(None);

/// Sets what ends the work that only later windows would need. It is called with the signal, by
/// another thread: the main thread may be waiting for just that work.
pub(super) fn on_stop(end_other_work: impl FnOnce() + Send + 'static) {
    *END_OTHER_WORK.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(end_other_work));
}

/// Ends the process if it still runs when its time to stop is over. What was accepted is in the
/// spool and is delivered after the next start.
pub(super) fn start() {
    let end = || {
        let until = Instant::now() + STOP_MAX - EXIT;
        let other_work = END_OTHER_WORK.lock().unwrap_or_else(PoisonError::into_inner).take();
        other_work.into_iter().for_each(|end| end());
        thread::sleep(until.saturating_duration_since(Instant::now()));
        IS_OVER.store(true, Ordering::Release);
        let are_all_accepted = ARE_ALL_ACCEPTED.load(Ordering::Acquire);
        match are_all_accepted {
            true => tracing::warn!("ended at the deadline of the stop: the rest is in the spool"),
            false => tracing::error!("ended at the deadline of the stop: the last window is lost"),
        }
        thread::sleep(LAST_LINE);
        process::exit(i32::from(!are_all_accepted));
    };
    // Without the thread, stopping takes as long as it takes.
    let _ = thread::Builder::new().name("stop-deadline".into()).spawn(end);
}

/// Waits for the end of the process if the deadline is over, which has its own last line.
pub(super) fn wait_if_over() {
    while IS_OVER.load(Ordering::Acquire) {
        thread::park();
    }
}

/// Records that no window can be lost any more.
pub(super) fn all_accepted() {
    ARE_ALL_ACCEPTED.store(true, Ordering::Release);
}
