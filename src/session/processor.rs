//! The processor: one thread that takes what the reader brings, and is asked to cut windows.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::{self, JoinHandle};

use super::state::{Kept, State};
use super::windows::Closed;
use super::{Progress, ScanScope};
use crate::events::EventBatch;

/// The running processor.
pub(super) struct Processor {
    thread: JoinHandle<Kept>,
    scanned: Receiver<()>,
    cuts: Sender<Cut>,
}

/// Asks for the end of a window.
struct Cut {
    /// The processor says that it takes no sample until it knows where to cut.
    ready: SyncSender<()>,
    seam: Receiver<Seam>,
    closed: SyncSender<Closed>,
}

impl Cut {
    /// Makes it, unless nobody can say where.
    fn make(self, state: &mut State) {
        if let Some(seam) = self.ready.send(()).ok().and_then(|()| self.seam.recv().ok()) {
            state.cut(seam, self.closed);
        }
    }
}

/// Where one window ends and the next begins.
pub(super) struct Seam {
    /// The number of each CPU's next sample.
    pub emitted: Vec<u64>,
    /// Nobody told of process events up to then, nanoseconds of CLOCK_MONOTONIC.
    pub missed_until: Option<u64>,
}

impl Processor {
    /// Starts the processor. It passes over /proc, then takes batches until there are no more.
    pub fn spawn(
        batches: Receiver<EventBatch>,
        scope: ScanScope,
        mut state: State,
        progress: Arc<Progress>,
    ) -> io::Result<Self> {
        let (done, scanned) = mpsc::sync_channel(1);
        let (cuts, asked) = mpsc::channel::<Cut>();
        let keep = move || {
            state.scan(scope);
            let _ = done.send(()); // nobody waits any more: the start has failed
            while let Some(batch) = state.next(&batches) {
                if let Ok(cut) = asked.try_recv() {
                    cut.make(&mut state);
                }
                state.take(batch);
                progress.samples.store(state.samples(), Ordering::Relaxed);
            }
            state.finish()
        };
        let thread = thread::Builder::new().name("processor".into()).spawn(keep)?;
        Ok(Self { thread, scanned, cuts })
    }

    /// Ends the window and begins the next; waits until the old one is complete. `seam` tells where, and is called while no
    /// sample is taken.
    ///
    /// # Errors
    /// Those of `seam`, after which the window goes on; when the processor has died.
    pub fn cut(&self, seam: impl FnOnce() -> io::Result<Seam>) -> io::Result<Closed> {
        let died = || io::Error::other("the processor died");
        let ((ready, is_ready), (closed, window)) = (mpsc::sync_channel(1), mpsc::sync_channel(1));
        let (tell, told) = mpsc::sync_channel(1);
        self.cuts.send(Cut { ready, seam: told, closed }).map_err(|_| died())?;
        is_ready.recv().map_err(|_| died())?;
        tell.send(seam()?).map_err(|_| died())?;
        window.recv().map_err(|_| died())
    }

    /// Waits until what ran before is known.
    pub fn wait_for_scan(&self) {
        let _ = self.scanned.recv(); // an error means that the processor died: finish() tells
    }

    /// Waits until every batch is taken.
    pub fn finish(self) -> io::Result<Kept> {
        self.thread.join().map_err(|_| io::Error::other("the processor died"))
    }
}
