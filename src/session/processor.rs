//! The processor: the thread that runs the pipeline.
//!
//! It takes batches from the reader, and commands from the session, which it obeys between two
//! batches. Closing a window takes two commands: [`Command::Hold`], so that no sample is processed
//! while the sampler's counters are read, and [`Command::CloseWindow`], which makes the boundary
//! take effect before the next sample.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver as BatchReceiver, Select};

use super::pipeline::Pipeline;
use super::results::ClosedWindow;
use super::window_boundary::WindowBoundary;
use crate::events::EventBatch;
use crate::limits::raise_priority;

/// A command of the session to the processor.
enum Command {
    /// Process no batch before the next command; answered by [`Reply::Holding`].
    Hold,
    /// Close the window at this boundary; answered by [`Reply::Closed`] once it is complete.
    CloseWindow(Box<WindowBoundary>),
    /// There is no boundary: the window goes on.
    Resume,
}

enum Reply {
    Holding,
    Closed(Box<ClosedWindow>),
}

/// The running processor.
pub(super) struct Processor {
    thread: JoinHandle<Pipeline>,
    commands: Sender<Command>,
    replies: Receiver<Reply>,
}

impl Processor {
    /// Starts the thread. It processes batches until the reader has ended. `samples`: receives
    /// the number of samples counted so far.
    ///
    /// # Errors
    /// When the thread cannot be created.
    pub fn spawn(
        batches: BatchReceiver<EventBatch>,
        pipeline: Pipeline,
        samples: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        let (commands, received) = mpsc::channel();
        let (sent, replies) = mpsc::channel();
        let run = move || run(pipeline, &batches, &received, &sent, &samples);
        let thread = thread::Builder::new().name("processor".into()).spawn(run)?;
        Ok(Self { thread, commands, replies })
    }

    /// Closes the window and begins the next; waits until the closed one is complete.
    /// `read_boundary` is called while no sample is processed.
    ///
    /// # Errors
    /// The error of `read_boundary`, after which the window goes on; when the processor has ended.
    pub fn close_window(
        &self,
        read_boundary: impl FnOnce() -> io::Result<WindowBoundary>,
    ) -> io::Result<ClosedWindow> {
        self.command(Command::Hold)?;
        self.replies.recv().map_err(|_| ended())?;
        match read_boundary() {
            Ok(boundary) => self.command(Command::CloseWindow(Box::new(boundary)))?,
            Err(error) => {
                self.command(Command::Resume)?;
                return Err(error);
            }
        }
        match self.replies.recv() {
            Ok(Reply::Closed(window)) => Ok(*window),
            Ok(Reply::Holding) | Err(_) => Err(ended()),
        }
    }

    fn command(&self, command: Command) -> io::Result<()> {
        self.commands.send(command).map_err(|_| ended())
    }

    /// Waits until every batch is processed. Returns the pipeline.
    ///
    /// # Errors
    /// When the processor has panicked.
    pub fn join(self) -> io::Result<Pipeline> {
        self.thread.join().map_err(|_| ended())
    }
}

fn ended() -> io::Error {
    io::Error::other("the processor thread panicked")
}

fn run(
    mut pipeline: Pipeline,
    batches: &BatchReceiver<EventBatch>,
    commands: &Receiver<Command>,
    replies: &Sender<Reply>,
    samples: &AtomicU64,
) -> Pipeline {
    raise_priority(); // the next tick of a new process needs what is published
    while let Some(batch) = next_batch(&mut pipeline, batches) {
        if let Ok(Command::Hold) = commands.try_recv() {
            hold(&mut pipeline, commands, replies);
        }
        if let Some(closed) = pipeline.process_batch(batch) {
            let _ = replies.send(Reply::Closed(Box::new(closed))); // the session may have ended
        }
        samples.store(pipeline.samples(), Ordering::Relaxed);
    }
    pipeline
}

/// Waits for the next batch, and publishes rows as they are loaded meanwhile; `None` once the
/// reader has ended.
fn next_batch(pipeline: &mut Pipeline, batches: &BatchReceiver<EventBatch>) -> Option<EventBatch> {
    while pipeline.is_loading() {
        let mut channels = Select::new();
        let batch = channels.recv(batches);
        pipeline.select_loaded(&mut channels);
        if channels.ready() == batch {
            break;
        }
        pipeline.finish_loaded();
    }
    batches.recv().ok()
}

/// Processes nothing until the session has read a boundary, or failed to.
fn hold(pipeline: &mut Pipeline, commands: &Receiver<Command>, replies: &Sender<Reply>) {
    let _ = replies.send(Reply::Holding);
    if let Ok(Command::CloseWindow(boundary)) = commands.recv() {
        pipeline.close_window(*boundary);
    }
}
