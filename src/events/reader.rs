//! The reader: one thread that empties the kernel's rings and parses what it finds.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::SyncSender;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::epoll;

use super::{Event, Orderer, TimedEvent, now, perf_sample, sample, side_band};
use crate::kernel::{PerfSamples, SampleReader, SideBand};

/// Samples wait in the ring for five ticks of their clock, within these bounds, unless it fills up or a process event
/// wakes the reader.
const PERIOD_MIN: Duration = Duration::from_millis(100);
const PERIOD_MAX: Duration = Duration::from_millis(250);
const PERIOD_TICKS: u32 = 5;
/// The same after a tick that took its stack along, and after new code was mapped: by then their turn has come, and
/// what walks lack can be given to the kernel.
const SOON: Duration = Duration::from_nanos(Orderer::SLACK_NS + 1_000_000);
/// After a wake-up: a burst of process events costs one wake-up per pause, not one each.
const PAUSE: Duration = Duration::from_millis(1);

/// What the rings held in one turn.
#[derive(Debug, Default)]
pub struct EventBatch {
    /// Events in no particular order.
    pub events: Vec<TimedEvent>,
    /// Records of the sampler, parsed or not.
    pub received: u64,
    /// Records of the sampler that made no sense.
    pub malformed: u64,
    /// Process events that found no room in their ring.
    pub side_band_lost: u64,
    /// perf's own records of ticks that found no room in their ring.
    pub perf_samples_lost: u64,
    /// All that happened up to here has been read, nanoseconds of CLOCK_MONOTONIC.
    pub drained: u64,
}

/// The running reader.
#[derive(Debug)]
pub struct Reader {
    stop: OwnedFd,
    thread: JoinHandle<io::Result<()>>,
}

impl Reader {
    /// Reads once more what the rings hold, hands it on, and ends.
    ///
    /// # Errors
    /// When the reader could not read.
    pub fn finish(self) -> io::Result<()> {
        drop(self.stop); // the reader sees the pipe close
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the reader died")))
    }
}

/// The rings that the kernel fills.
pub struct Rings {
    /// The sampler's.
    pub samples: SampleReader,
    /// Process events, of each CPU.
    pub side_bands: Vec<SideBand>,
    /// perf's own records of ticks, of each CPU, if they were asked for.
    pub perf_samples: Vec<PerfSamples>,
}

/// Starts the reader. `tick`: time between the ticks of a CPU. Batches go to `batches`; while nobody takes them it waits, and what
/// the rings then have no room for is counted as lost there.
///
/// # Errors
/// When the thread or its descriptors cannot be made.
pub fn spawn_reader(
    rings: Rings,
    tick: Duration,
    batches: SyncSender<EventBatch>,
) -> io::Result<Reader> {
    let period = (tick * PERIOD_TICKS).clamp(PERIOD_MIN, PERIOD_MAX);
    let (stopped, stop) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let thread = thread::Builder::new()
        .name("reader".into())
        .spawn(move || run(rings, period, &batches, &stopped))?;
    Ok(Reader { stop, thread })
}

/// Niceness of the reader: what it is late for is lost.
const NICE: i32 = -10;

fn run(
    rings: Rings,
    period: Duration,
    batches: &SyncSender<EventBatch>,
    stopped: &OwnedFd,
) -> io::Result<()> {
    // Refused, it stays as others are, and the rings have room for two seconds.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
    let Rings { samples, mut side_bands, mut perf_samples } = rings;
    let current = RefCell::new(EventBatch::default());
    let mut outcome = Ok(());
    samples.read(
        |record| take_sample(&mut current.borrow_mut(), record),
        |readable, drain_samples| {
            let waiting = wait_on(stopped, readable, &side_bands, &perf_samples);
            outcome = waiting.and_then(|waiting| {
                let mut patience = period;
                loop {
                    let is_last = waiting.wait(patience)?;
                    let drained = now();
                    drain_samples();
                    for ring in &mut side_bands {
                        ring.drain(|record| take_side_band(&mut current.borrow_mut(), record));
                    }
                    for ring in &mut perf_samples {
                        ring.drain(|record| take_perf_sample(&mut current.borrow_mut(), record));
                    }
                    let batch = EventBatch { drained, ..current.take() };
                    patience = if batch.events.is_empty() {
                        PERIOD_MAX // nothing happens at all
                    } else if batch.events.iter().any(is_pressing) {
                        SOON
                    } else {
                        period
                    };
                    if batches.send(batch).is_err() || is_last {
                        return Ok(());
                    }
                }
            });
        },
    )?;
    outcome
}

fn is_pressing(timed: &TimedEvent) -> bool {
    match &timed.event {
        Event::Sample(sample) => sample.snapshot.is_some(),
        event => matches!(event, Event::Mmap(_)),
    }
}

fn take_sample(batch: &mut EventBatch, record: &[u8]) {
    batch.received += 1;
    match sample::parse(record) {
        Some(timed) => batch.events.push(timed),
        None => batch.malformed += 1,
    }
}

fn take_side_band(batch: &mut EventBatch, record: &[u8]) {
    match side_band::parse(record) {
        side_band::Parsed::Event(timed) => batch.events.push(timed),
        side_band::Parsed::Lost(count) => batch.side_band_lost += count,
        side_band::Parsed::Nothing => {}
    }
}

fn take_perf_sample(batch: &mut EventBatch, record: &[u8]) {
    match perf_sample::parse(record) {
        perf_sample::Parsed::Sample(timed) => batch.events.push(timed),
        perf_sample::Parsed::Lost(count) => batch.perf_samples_lost += count,
        perf_sample::Parsed::Nothing => {}
    }
}

/// Everything that the reader sleeps on.
struct Waiting {
    epoll: OwnedFd,
}

const STOPPED: u64 = 0;
const READABLE: u64 = 1;

fn wait_on(
    stopped: &OwnedFd,
    samples: std::os::fd::BorrowedFd<'_>,
    side_bands: &[SideBand],
    perf_samples: &[PerfSamples],
) -> io::Result<Waiting> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let readable = epoll::EventFlags::IN;
    epoll::add(&epoll, stopped, epoll::EventData::new_u64(STOPPED), readable)?;
    epoll::add(&epoll, samples, epoll::EventData::new_u64(READABLE), readable)?;
    for ring in side_bands {
        epoll::add(&epoll, ring, epoll::EventData::new_u64(READABLE), readable)?;
    }
    for ring in perf_samples {
        epoll::add(&epoll, ring, epoll::EventData::new_u64(READABLE), readable)?;
    }
    Ok(Waiting { epoll })
}

impl Waiting {
    /// Sleeps until there is something to read or the patience, less than a second, is over; tells whether to stop.
    fn wait(&self, patience: Duration) -> io::Result<bool> {
        let mut found = Vec::with_capacity(8);
        let period = rustix::time::Timespec { tv_sec: 0, tv_nsec: patience.subsec_nanos().into() };
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut found), Some(&period)) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        if found.iter().any(|event| event.data.u64() == STOPPED) {
            return Ok(true);
        }
        thread::sleep(PAUSE);
        Ok(false)
    }
}
