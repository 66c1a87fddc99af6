//! The thread that writes lines, and that alone may block on standard error.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::counts::{DROPPED, WRITTEN};
use super::pipeline::LogPipeline;

/// Time between two looks for counts of repeats to log.
const IDLE: Duration = Duration::from_secs(10);
/// Pause before another attempt at a pipe that is full and does not block.
const FULL_PIPE_PAUSE: Duration = Duration::from_millis(50);

/// Starts the thread. It ends some time after the log and its subscriber are dropped.
pub(super) fn spawn(
    pipeline: Arc<LogPipeline>,
    mut out: impl Write + Send + 'static,
) -> io::Result<()> {
    let run = move || {
        // The other references are those of the log and of its subscriber.
        while Arc::strong_count(&pipeline) > 1 {
            if let Some(line) = pipeline.queue.take(IDLE) {
                let is_written = write_line(&mut out, line.as_bytes()).is_ok();
                let count = if is_written { &WRITTEN } else { &DROPPED };
                count.fetch_add(1, Ordering::Relaxed);
                pipeline.queue.written();
            }
            pipeline.log_suppressed(Some(Instant::now()));
        }
    };
    thread::Builder::new().name("log".into()).spawn(run)?;
    Ok(())
}

fn write_line(out: &mut impl Write, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match out.write(line) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => line = &line[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(FULL_PIPE_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
