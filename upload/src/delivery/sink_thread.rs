//! The thread of a sink. Each has a runtime of its own, so that a sink that hangs, blocks or panics
//! delays no other sink.

use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::StartError;
use super::queues::Generation;
use super::sink_loop::{SinkContext, SinkControl, SinkLoop};
use crate::config::ConfigError;
use crate::debug_info::DebugInfoSource;
use crate::disk::InUse;
use crate::sinks::{Sink, SinkConfig};

/// Threads of each runtime for blocking calls: name resolution, opening files.
const BLOCKING_THREADS_MAX: usize = 8;

/// A running thread of a sink. Dropping this handle stops it at once.
#[derive(Debug)]
pub struct SinkThread {
    pub generation: Generation,
    pub control: watch::Sender<SinkControl>,
    /// Notified when a batch is queued.
    pub wake: Arc<Notify>,
    pub join_handle: JoinHandle<()>,
}

impl SinkThread {
    /// Sets the time by which the thread ends.
    pub fn stop_at(&self, stop_at: Instant) {
        self.control.send_modify(|control| control.stop_at = Some(stop_at));
    }
}

/// Creates a sink and starts its thread.
///
/// # Errors
/// [`StartError`] of the sink, or if the system provides no thread.
pub fn start(context: SinkContext) -> Result<SinkThread, StartError> {
    let generation = context.generation.clone();
    let name = generation.sink.clone();
    let thread_error = |source| StartError::Thread { name: name.to_string(), source };
    let runtime = new_runtime().map_err(thread_error)?;
    let wake = Arc::new(Notify::new());
    let initial = SinkControl { settings: context.settings.clone(), stop_at: None };
    let (control, control_receiver) = watch::channel(initial);
    let (started_sender, started) = mpsc::channel();
    let loop_wake = wake.clone();
    let run = move || match claimed_sink(&runtime, &context) {
        Ok(sink) => {
            let _ = started_sender.send(Ok(()));
            SinkLoop::new(context, sink, control_receiver, loop_wake).run(&runtime);
            runtime.shutdown_background(); // does not wait for a name resolution that hangs
        }
        Err(error) => {
            let _ = started_sender.send(Err(error));
        }
    };
    let spawned = thread::Builder::new().name("everytick-sink".into()).spawn(run);
    let join_handle = spawned.map_err(thread_error)?;
    started.recv().map_err(|_| StartError::Defect(name.to_string()))??;
    Ok(SinkThread { generation, control, wake, join_handle })
}

/// Creates a sink and drops it, to find errors in its settings.
///
/// # Errors
/// [`StartError`] of the sink.
pub fn check(name: &str, settings: &SinkConfig) -> Result<(), StartError> {
    let thread_error = |source| StartError::Thread { name: name.to_owned(), source };
    let runtime = new_runtime().map_err(thread_error)?;
    new_sink(&runtime, settings, None)?;
    Ok(())
}

fn new_runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING_THREADS_MAX).build()
}

/// Creates a sink that has its destination to itself.
fn claimed_sink(runtime: &Runtime, context: &SinkContext) -> Result<Sink, StartError> {
    let mut sink = new_sink(runtime, &context.settings, context.debug_info.as_ref())?;
    sink.claim(context.pacing.lock_wait).map_err(|InUse(path)| StartError::StoreInUse(path))?;
    Ok(sink)
}

fn new_sink(
    runtime: &Runtime,
    settings: &SinkConfig,
    debug_info: Option<&Arc<dyn DebugInfoSource>>,
) -> Result<Sink, ConfigError> {
    let _guard = runtime.enter();
    Sink::new(settings, debug_info)
}
