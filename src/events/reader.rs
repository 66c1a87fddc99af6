//! The reader: the thread that empties the kernel's rings.

use std::cell::RefCell;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::Sender;

use super::batch::EventBatch;
use super::clock::{cpu_time, now};
use super::event::LATE_RECORD_NS;
use super::process_event_limit::ProcessEventLimit;
use super::rings::{ReaderRings, RingChanges, Rings};
use super::wakeup::Wakeup;
use crate::kernel::SampleReader;
use crate::limits::raise_priority;

/// Samples stay in the ring for five ticks of their clock, within these bounds, unless the ring
/// fills up or a process event wakes the reader.
const PERIOD_TICKS: u32 = 5;
const PERIOD_MIN: Duration = Duration::from_millis(100);
const PERIOD_MAX: Duration = Duration::from_millis(250);
/// The period after an urgent batch: by then its events have become due, and the mappings and rows
/// that the kernel lacks can be published.
const PERIOD_URGENT: Duration = Duration::from_nanos(LATE_RECORD_NS + 1_000_000);
/// Turns that are one batch while process events are skipped and still do not fit into their ring.
/// After each such batch every process is stale, and is read when it is sampled again.
const TURNS_OVERFLOWING: u32 = 5;

/// The running reader.
#[derive(Debug)]
pub struct Reader {
    stop: OwnedFd,
    thread: JoinHandle<io::Result<()>>,
}

impl Reader {
    /// Has the reader drain the rings once more and send what they held, then waits for its end.
    ///
    /// # Errors
    /// When the reader failed.
    pub fn finish(self) -> io::Result<()> {
        drop(self.stop); // the reader sees the pipe close
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the reader thread panicked")))
    }
}

/// Starts the reader. Returns it with the handle that changes its rings. `tick`: time between two
/// ticks of a CPU.
///
/// While `batches` is full the reader waits, and the kernel counts what its rings then lose.
/// `limit`: the CPU time that process events may take.
///
/// # Errors
/// When the thread or its descriptors cannot be created.
pub fn spawn_reader(
    rings: Rings,
    tick: Duration,
    limit: ProcessEventLimit,
    batches: Sender<EventBatch>,
) -> io::Result<(Reader, RingChanges)> {
    let period = (tick * PERIOD_TICKS).clamp(PERIOD_MIN, PERIOD_MAX);
    let Rings { samples, cpus } = rings;
    let (rings, changes) = ReaderRings::new(cpus)?;
    let (stopped, stop) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let thread = thread::Builder::new()
        .name("reader".into())
        .spawn(move || run(samples, rings, (period, limit), &batches, &stopped))?;
    Ok((Reader { stop, thread }, changes))
}

fn run(
    samples: Option<SampleReader>,
    mut rings: ReaderRings,
    pace: (Duration, ProcessEventLimit),
    batches: &Sender<EventBatch>,
    stopped: &OwnedFd,
) -> io::Result<()> {
    raise_priority(); // what it reads too late is lost: the rings hold two seconds of events
    let batch = RefCell::new(EventBatch::default());
    let mut outcome = Ok(());
    let run = |readable: Option<BorrowedFd<'_>>, drain_samples: &dyn Fn()| {
        let wakeup = wait_on(stopped, readable, &rings);
        let drain = |wakeup: &Wakeup, skips_process_events| {
            let drained_at = now();
            drain_samples();
            let mut batch = EventBatch { skips_process_events, ..batch.take() };
            rings.drain(&mut batch, wakeup)?;
            Ok(EventBatch { drained_at, ..batch })
        };
        outcome = wakeup.and_then(|wakeup| send_batches(&wakeup, pace, drain, batches));
    };
    match samples {
        Some(samples) => samples.read(
            |record| batch.borrow_mut().add_sampler_record(record),
            |readable, drain_samples| run(Some(readable), drain_samples),
        )?,
        None => run(None, &|| {}),
    }
    outcome
}

fn wait_on(
    stopped: &OwnedFd,
    samples: Option<BorrowedFd<'_>>,
    rings: &ReaderRings,
) -> io::Result<Wakeup> {
    let wakeup = Wakeup::new(stopped)?;
    samples.map_or(Ok(()), |samples| wakeup.add_ring(samples))?;
    rings.register(&wakeup)?;
    Ok(wakeup)
}

/// Drains the rings and sends what they held, until it is stopped or the processor has ended.
fn send_batches(
    wakeup: &Wakeup,
    (period, mut limit): (Duration, ProcessEventLimit),
    mut drain: impl FnMut(&Wakeup, bool) -> io::Result<EventBatch>,
    batches: &Sender<EventBatch>,
) -> io::Result<()> {
    let (mut timeout, mut used) = (period, Duration::ZERO);
    let mut is_overflowing = false;
    loop {
        let (mut batch, is_last) = match limit.is_exceeded() {
            true => skip_process_events(wakeup, is_overflowing, &mut drain)?,
            false => {
                let is_last = wakeup.wait(timeout)?;
                (drain(wakeup, false)?, is_last)
            }
        };
        is_overflowing = batch.side_band_lost > 0;
        let used_before = std::mem::replace(&mut used, cpu_time());
        batch.reader_cpu = used.saturating_sub(used_before);
        timeout = match &batch {
            batch if batch.events.is_empty() => PERIOD_MAX, // the machine is idle
            batch if batch.is_urgent => PERIOD_URGENT,
            _ => period,
        };
        if batches.send(batch).is_err() || is_last {
            return Ok(());
        }
    }
}

/// Drains the rings without waking up for process events, which may come all the time. Returns
/// what they held, and whether the reader is to stop.
fn skip_process_events(
    wakeup: &Wakeup,
    is_overflowing: bool,
    drain: &mut impl FnMut(&Wakeup, bool) -> io::Result<EventBatch>,
) -> io::Result<(EventBatch, bool)> {
    let mut batch = EventBatch::default();
    for _ in 0..if is_overflowing { TURNS_OVERFLOWING } else { 1 } {
        thread::sleep(PERIOD_MIN);
        let is_last = wakeup.wait(Duration::ZERO)?;
        batch.append(drain(wakeup, true)?);
        if is_last {
            return Ok((batch, true));
        }
    }
    Ok((batch, false))
}
