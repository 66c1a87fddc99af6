//! The log: events of `tracing` become lines on standard error.
//!
//! No thread ever waits for the log. A pipe that no process reads, or a terminal that is paused,
//! stops only the writer thread; meanwhile lines wait in a bounded queue, and those beyond it are
//! dropped and counted.
//!
//! ```text
//! event -> throttle: the same text once a minute -> line, escaped -> queue -> writer thread
//! ```

mod counts;
mod event;
mod layer;
mod line;
mod pipeline;
mod queue;
mod throttle;
mod writer;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

pub use counts::{LogCounts, counts};
use layer::LogLayer;
pub use line::LineStyle;
use pipeline::LogPipeline;

/// Time at the end for lines that are still queued.
const LAST_LINES: Duration = Duration::from_millis(500);

/// The log of this process. Dropping it waits for queued lines, half a second at most.
pub struct Log {
    level: reload::Handle<LevelFilter, Registry>,
    pipeline: Arc<LogPipeline>,
}

impl Log {
    /// Starts the log of this process, panics included.
    ///
    /// # Errors
    /// When the writer thread cannot be started.
    pub fn start(level: LevelFilter, style: LineStyle) -> io::Result<Self> {
        let pipeline = Arc::new(LogPipeline::new(style));
        writer::spawn(Arc::clone(&pipeline), io::stderr())?;
        let (filter, handle) = reload::Layer::new(level);
        let layer = LogLayer(Arc::clone(&pipeline));
        // Fails only if another log was started, which then goes on.
        let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
        std::panic::set_hook(Box::new(log_panic));
        Ok(Self { level: handle, pipeline })
    }

    /// Changes the least important level that is logged.
    pub fn set_level(&self, level: LevelFilter) {
        let _ = self.level.reload(level); // fails only after the subscriber is dropped
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.pipeline.log_suppressed(None);
        self.pipeline.queue.wait_until_written(LAST_LINES);
    }
}

/// Replaces the default hook, which writes to standard error and may block there.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let text = panic.payload_as_str().unwrap_or("no message");
    tracing::error!(
        thread = thread.name().unwrap_or("unnamed"),
        location,
        "panic, please report this: {text}"
    );
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::mpsc::{self, Receiver, Sender};
    use std::time::Instant;

    use super::event::LogEvent;
    use super::*;

    /// A pipe that accepts a line for each permission it gets.
    struct SlowPipe {
        permissions: Receiver<()>,
        lines: Sender<String>,
    }

    impl Write for SlowPipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.permissions.recv();
            let _ = self.lines.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_pipe_blocks_no_thread_and_drops_are_reported() {
        let (permit, permissions) = mpsc::channel();
        let (sender, lines) = mpsc::channel();
        let pipeline = Arc::new(LogPipeline::new(LineStyle::Text));
        writer::spawn(Arc::clone(&pipeline), SlowPipe { permissions, lines: sender })
            .expect("a thread");
        let before = counts().dropped;
        let event = LogEvent::new(tracing::Level::WARN, "x".repeat(3000));
        for _ in 0..130 {
            pipeline.queue.push(pipeline.style.format(&event), pipeline.style);
        }
        let dropped = counts().dropped - before;
        assert!((1..130).contains(&dropped), "{dropped} lines are dropped");
        let started = Instant::now();
        pipeline.queue.wait_until_written(Duration::from_millis(50));
        assert!(started.elapsed() < Duration::from_secs(30));
        drop(permit); // the pipe moves again
        pipeline.queue.wait_until_written(Duration::from_secs(60));
        drop(pipeline);
        let lines: Vec<String> = lines.try_iter().collect();
        let last = lines.last().expect("lines");
        assert!(last.contains("log lines were dropped"), "{last}");
        assert!(last.contains(&format!(" {dropped} ")), "{last} lacks {dropped}");
        assert_eq!(lines.len() as u64, 130 - dropped + 1);
    }

    #[test]
    fn counts_of_repeats_are_logged_when_the_log_ends() {
        let pipeline = Arc::new(LogPipeline::new(LineStyle::Text));
        let subscriber = tracing_subscriber::registry().with(LogLayer(Arc::clone(&pipeline)));
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..9 {
                tracing::warn!(number, "the disk {} is full", number + 7);
            }
        });
        assert_eq!(pipeline.queue.take_all().len(), 1);
        pipeline.log_suppressed(Some(Instant::now()));
        assert_eq!(pipeline.queue.take_all(), Vec::<String>::new());
        pipeline.log_suppressed(None);
        let lines = pipeline.queue.take_all();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("the disk 15 is full number=8 repeats=8"), "{lines:?}");
    }
}
