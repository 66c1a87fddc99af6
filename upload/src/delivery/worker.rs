//! The worker of one sink: a thread that delivers its batches, oldest first.
//!
//! Each sink has a thread and a runtime of its own. So a sink that hangs, blocks or panics
//! delays nobody else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::Shared;
use super::complaints::{Complaints, one_line};
use super::pace::{BackOff, Pace};
use super::queues::{End, Life};
use crate::batch::{Answer, Batch, Failure};
use crate::debug_info::DebugInfo;
use crate::sinks::{Sink, SinkSettings, StartError};
use crate::spool::{Name, Unreadable};

/// Threads for calls that block, of each sink: look-ups of names, opened files.
const BLOCKING_MAX: usize = 8;

/// Times that the disk does not give a file after which the file is believed to be damaged. Until then it
/// may be the disk that is away: with the waits between them that is some minutes.
const READS_MAX: u32 = 10;

/// What a worker is told; the latest counts. Anything new also ends a wait.
#[derive(Clone, Debug)]
pub struct Orders {
    /// How to deliver.
    pub settings: Arc<SinkSettings>,
    /// When to stop at the latest. Until then what waits is delivered without a rest, as
    /// long as that works.
    pub stop_at: Option<Instant>,
}

/// A worker, as the delivery holds it. It stops at once when this is dropped.
#[derive(Debug)]
pub struct Handle {
    /// Whose it is.
    pub life: Life,
    /// Its orders.
    pub orders: watch::Sender<Orders>,
    /// Told when a batch has come.
    pub wake: Arc<Notify>,
    /// Its thread.
    pub thread: JoinHandle<()>,
}

/// What a worker is made of.
pub struct Parts {
    pub life: Life,
    pub settings: Arc<SinkSettings>,
    pub debug_info: Option<Arc<dyn DebugInfo>>,
    pub shared: Arc<Shared>,
    pub pace: Pace,
}

struct Worker {
    parts: Parts,
    sink: Sink,
    orders: watch::Receiver<Orders>,
    wake: Arc<Notify>,
    back_off: BackOff,
    complaints: Complaints,
    /// To wait before the first batch.
    first_wait: Duration,
    /// What the disk did not give when it was last read, and how often in a row.
    unread: Option<(Name, u32)>,
}

/// What comes after a batch.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// The next one, after a rest.
    Next(Duration),
    /// The same again, after a wait. `asked`: the server asked for it.
    Again { wait: Duration, asked: bool },
    /// Nothing: the time is over.
    Stop,
}

/// Makes a sink and starts its worker.
///
/// # Errors
/// [`StartError`] of the sink or for want of a thread.
pub fn start(parts: Parts) -> Result<Handle, StartError> {
    let life = parts.life.clone();
    let name = life.sink.clone();
    let no_thread = |source| StartError::Thread { name: name.to_string(), source };
    let runtime = runtime().map_err(no_thread)?;
    let wake = Arc::new(Notify::new());
    let first = Orders { settings: parts.settings.clone(), stop_at: None };
    let (orders, received) = watch::channel(first);
    let (tell, told) = mpsc::channel();
    let notified = wake.clone();
    let work = move || {
        let made = make_sink(&runtime, &parts.settings, parts.debug_info.as_ref());
        match made {
            Ok(sink) => {
                let _ = tell.send(Ok(()));
                Worker::new(parts, sink, received, notified).work(&runtime);
                runtime.shutdown_background(); // a look-up that hangs holds up nobody
            }
            Err(error) => drop(tell.send(Err(error))),
        }
    };
    let thread = thread::Builder::new().name("everytick-sink".into()).spawn(work);
    let thread = thread.map_err(no_thread)?;
    let died =
        || StartError::Settings(format!("the sink `{name}` cannot be made; please report it"));
    told.recv().unwrap_or_else(|_| Err(died()))?;
    Ok(Handle { life, orders, wake, thread })
}

/// Makes a sink and drops it: for its errors.
///
/// # Errors
/// [`StartError`] of the sink.
pub fn check(name: &str, settings: &SinkSettings) -> Result<(), StartError> {
    let no_thread = |source| StartError::Thread { name: name.to_owned(), source };
    let runtime = runtime().map_err(no_thread)?;
    make_sink(&runtime, settings, None).map(drop)
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING_MAX).build()
}

fn make_sink(
    runtime: &Runtime,
    settings: &SinkSettings,
    debug_info: Option<&Arc<dyn DebugInfo>>,
) -> Result<Sink, StartError> {
    let _within = runtime.enter();
    Sink::new(settings, debug_info)
}

impl Worker {
    fn new(parts: Parts, sink: Sink, orders: watch::Receiver<Orders>, wake: Arc<Notify>) -> Self {
        let back_off = BackOff::new(parts.pace, fastrand::Rng::new());
        let (complaints, first_wait) = (Complaints::default(), Duration::ZERO);
        Self { parts, sink, orders, wake, back_off, complaints, first_wait, unread: None }
    }

    /// Delivers until it is told to stop. A panic costs the batch that caused it.
    fn work(mut self, runtime: &Runtime) {
        while catch_unwind(AssertUnwindSafe(|| runtime.block_on(self.run()))).is_err() {
            self.panicked();
        }
    }

    async fn run(&mut self) {
        let first_wait = std::mem::take(&mut self.first_wait);
        if !first_wait.is_zero() {
            self.make_anew();
            self.rest(first_wait).await;
        }
        while let Some(name) = self.next().await {
            self.follow_settings();
            let was_stopping = self.is_stopping();
            match self.deliver(name).await {
                Step::Next(rest) => self.rest(rest).await,
                Step::Again { .. } if was_stopping => return,
                Step::Again { wait, asked } => {
                    self.rest(wait).await;
                    if asked && self.is_stopping() {
                        return;
                    }
                }
                Step::Stop => return,
            }
        }
    }

    /// Waits for a batch. `None` when there will be none, or no time for it.
    async fn next(&mut self) -> Option<Name> {
        loop {
            if self.orders.borrow().stop_at.is_some_and(|at| at <= Instant::now()) {
                return None;
            }
            if let Some(name) = self.parts.shared.queues().next(&self.parts.life) {
                return Some(name);
            }
            if self.is_stopping() {
                return None;
            }
            tokio::select! {
                () = self.wake.notified() => {}
                _ = self.orders.changed() => {}
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.orders.borrow().stop_at.is_some() || self.orders.has_changed().is_err()
    }

    /// Waits; new orders end it early.
    async fn rest(&mut self, duration: Duration) {
        if self.is_stopping() {
            return;
        }
        tokio::select! {
            () = sleep(duration) => {}
            _ = self.orders.changed() => self.back_off.reset(),
        }
    }

    /// Makes the sink anew when its settings have changed.
    fn follow_settings(&mut self) {
        let settings = self.orders.borrow().settings.clone();
        if *settings != *self.parts.settings {
            self.parts.settings = settings;
            self.make_anew();
        }
    }

    /// The settings were checked before; should they fail nevertheless, the old sink stays.
    fn make_anew(&mut self) {
        match Sink::new(&self.parts.settings, self.parts.debug_info.as_ref()) {
            Ok(sink) => self.sink = sink,
            Err(error) => self.complain("keeps its settings", Failure::Defect, &error.to_string()),
        }
    }

    async fn deliver(&mut self, name: Name) -> Step {
        let batch = match self.parts.shared.spool.read(&self.parts.life.sink, name) {
            Ok(batch) => batch,
            Err(unreadable) => return self.unreadable(name, unreadable),
        };
        self.unread = None;
        match self.send_in_time(&batch).await {
            Some(answer) => self.follow(name, answer),
            None => {
                self.parts.shared.queues().again(&self.parts.life, None);
                Step::Stop
            }
        }
    }

    /// `None` when the time to stop came first.
    async fn send_in_time(&mut self, batch: &Batch) -> Option<Answer> {
        let mut orders = self.orders.clone();
        tokio::select! {
            answer = self.sink.send(batch) => Some(answer),
            () = time_to_stop(&mut orders) => None,
        }
    }

    fn follow(&mut self, name: Name, answer: Answer) -> Step {
        match answer {
            Answer::Delivered { bytes } => {
                self.leave(name, End::Delivered(bytes));
                self.over();
                self.go_on(bytes)
            }
            Answer::Partly { bytes, rejected, text } => {
                let text = one_line(&text);
                self.complain("a part of a window is lost", Failure::Rejected, &text);
                self.leave(name, End::Partly { bytes, rejected, text });
                self.go_on(bytes)
            }
            Answer::Refused { reason, text } => {
                let text = one_line(&text);
                self.complain("a window is lost", reason, &text);
                self.leave(name, End::Refused(reason, text));
                self.go_on(0)
            }
            Answer::Later { reason, after, text } => self.again(reason, after, &one_line(&text)),
        }
    }

    fn go_on(&mut self, bytes: u64) -> Step {
        self.back_off.reset();
        Step::Next(self.parts.pace.rest(bytes))
    }

    fn again(&mut self, reason: Failure, after: Option<Duration>, text: &str) -> Step {
        self.complain("windows wait in the spool", reason, text);
        self.parts.shared.queues().again(&self.parts.life, Some((reason, text.to_owned())));
        Step::Again { wait: self.back_off.next(after), asked: after.is_some() }
    }

    /// Takes a batch out of the spool, first its file, then its name. After a reload both may be another worker's.
    fn leave(&mut self, name: Name, end: End) {
        if self.parts.shared.queues().is_over(&self.parts.life) {
            return;
        }
        if let Err(error) = self.parts.shared.spool.remove(&self.parts.life.sink, name) {
            let what = "a window that has left the spool cannot be removed, and may come twice";
            self.complain(what, Failure::of_disk(&error), &error.to_string());
        }
        self.parts.shared.queues().ended(&self.parts.life, end);
    }

    fn unreadable(&mut self, name: Name, unreadable: Unreadable) -> Step {
        let text = format!("{name} in the spool cannot be read: {unreadable}");
        let rest = match unreadable {
            Unreadable::Disk(error) => return self.again(Failure::of_disk(&error), None, &text),
            Unreadable::Device(error) if self.is_read_again(name) => {
                return self.again(Failure::of_disk(&error), None, &text);
            }
            Unreadable::Device(_) | Unreadable::Damaged(_) => {
                self.set_aside(name);
                self.parts.pace.rest(0)
            }
            Unreadable::Gone => Duration::ZERO,
        };
        self.complain("a window is lost", Failure::Damaged, &text);
        self.leave(name, End::Lost(Failure::Damaged, text));
        Step::Next(rest)
    }

    /// Counts that the disk did not give a file. Says whether it is to be read again.
    fn is_read_again(&mut self, name: Name) -> bool {
        let before = self.unread.filter(|(of, _)| *of == name).map_or(0, |(_, times)| times);
        self.unread = Some((name, before + 1));
        before + 1 < READS_MAX
    }

    fn set_aside(&mut self, name: Name) {
        if self.parts.shared.queues().is_over(&self.parts.life) {
            return;
        }
        match self.parts.shared.spool.set_aside(&self.parts.life.sink, name) {
            Ok(()) => self.parts.shared.queues().set_aside(&self.parts.life),
            Err(error) => {
                let what = "a damaged file of the spool cannot be set aside";
                self.complain(what, Failure::of_disk(&error), &error.to_string());
            }
        }
    }

    /// Gives up the batch that made the sink panic; its file is kept for a report.
    fn panicked(&mut self) {
        let sending = self.parts.shared.queues().sending(&self.parts.life);
        if let Some(name) = sending {
            self.set_aside(name);
            let text = format!("the sink panicked with {name}");
            self.complain("a window is lost", Failure::Defect, &text);
            self.leave(name, End::Lost(Failure::Defect, text));
        }
        self.first_wait = self.back_off.next(None);
    }

    /// Tells that the sink takes windows, if it was told that it does not.
    fn over(&mut self) {
        let Parts { life, shared, .. } = &self.parts;
        self.complaints.over(|| {
            let waiting = shared.queues().waiting(&life.sink);
            format!("the sink `{}` takes windows again; {waiting} more wait", life.sink)
        });
    }

    fn who(&self) -> String {
        format!("the sink `{}`", self.parts.life.sink)
    }

    fn complain(&mut self, what: &str, reason: Failure, text: &str) {
        self.complaints.of(&self.who(), what, reason, text);
    }
}

/// Waits until it is time to stop, or nobody is there any more who could tell.
async fn time_to_stop(orders: &mut watch::Receiver<Orders>) {
    let stop_at = match orders.wait_for(|orders| orders.stop_at.is_some()).await {
        Ok(orders) => orders.stop_at,
        Err(_) => None,
    };
    if let Some(at) = stop_at {
        sleep_until(at).await;
    }
}
