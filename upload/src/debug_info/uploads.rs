//! Uploads of debug info, for stores that find names themselves: which files a server is asked about, where they
//! come from, and when to come again.
//!
//! Only files with debug info, symbols or Go's table are offered: servers keep the first that they get, however
//! little is in it, and look nowhere else afterwards. What is said about one file is the server's own dialect,
//! a [`Dialogue`].
//!
//! All of it happens beside the delivery of batches, two files at a time, and nothing waits for it.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use profile::BuildId;
use tokio::sync::{Mutex as AsyncMutex, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::file::{DebugFile, Quality, Unfit};
use super::{DebugInfo, UploadEnd};
use crate::batch::{Batch, text_at};

/// Files at a time, each with a dialogue of its own.
pub(crate) const PARALLEL: usize = 2;
/// Build ids that wait; those beyond are offered again with a later batch.
const QUEUE_MAX: usize = 1024;
/// Build ids that are remembered.
const KNOWN_MAX: usize = 65_536;
/// Rest between two files of one worker, so that a new agent does not flood its server.
const REST: Duration = Duration::from_millis(200);
/// When to come again about an upload that cannot be now.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(300);
/// When to look again for better debug info, or for a service that was not there.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(3600);
/// Bytes of one piece of an upload.
const PIECE_BYTES: usize = 1 << 20;
/// Pieces that are read ahead.
const PIECES_AHEAD: usize = 4;
/// How long to wait for files to be found and opened: a large one is hashed, and a file system may never answer.
const LOOK_TIME: Duration = Duration::from_secs(120);
/// Threads that look for files, of one server, those left behind because nothing answers among them.
const LOOKING_MAX: usize = 8;

/// What is said about one file after the other.
pub(crate) trait Dialogue: Send + 'static {
    /// Offers a file to the server, and sends it if it is wanted. `has_other`: the server has something of less
    /// quality from us.
    fn hold(
        &mut self,
        build_id: &str,
        file: DebugFile,
        has_other: bool,
    ) -> impl Future<Output = Outcome> + Send;
}

/// What became of one file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// The server has it, or something in its place.
    Done(Quality),
    /// There is no debug info, or none better than before.
    Nothing,
    /// Not now.
    Later(Duration),
}

impl Outcome {
    fn end(self) -> UploadEnd {
        match self {
            Self::Done(_) => UploadEnd::Held,
            Self::Nothing => UploadEnd::Nothing,
            Self::Later(_) => UploadEnd::Postponed,
        }
    }
}

/// Uploads beside the delivery of batches. They end when it is dropped.
pub(crate) struct Uploads {
    known: Arc<Mutex<Known>>,
    queue: mpsc::Sender<String>,
    workers: Vec<AbortHandle>,
}

/// What became of build ids.
#[derive(Default)]
struct Known(HashMap<String, State>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// In the queue or in work; how much the server has from us.
    Pending(Option<Quality>),
    /// Nothing to do before this time, if there is one; how much the server has from us.
    Settled(Option<Instant>, Option<Quality>),
}

impl Known {
    /// Takes an id up that is new or due.
    fn take_up(&mut self, build_id: &str, now: Instant) -> bool {
        let had = match self.0.get(build_id) {
            None => None,
            Some(State::Settled(Some(due), had)) if *due <= now => *had,
            Some(_) => return false,
        };
        if self.0.len() >= KNOWN_MAX {
            // Asked again, the server says no to what it has.
            self.0.retain(|_, state| matches!(state, State::Pending(_)));
        }
        self.0.insert(build_id.to_owned(), State::Pending(had));
        true
    }

    fn had(&self, build_id: &str) -> Option<Quality> {
        match self.0.get(build_id)? {
            State::Pending(had) | State::Settled(_, had) => *had,
        }
    }

    fn settle(&mut self, build_id: &str, outcome: Outcome) {
        let had = self.had(build_id);
        let later = |after| Some(Instant::now() + after);
        let state = match outcome {
            Outcome::Done(Quality::Dwarf) => State::Settled(None, Some(Quality::Dwarf)),
            Outcome::Done(quality) => State::Settled(later(LOOK_AGAIN), Some(quality)),
            Outcome::Nothing => State::Settled(later(LOOK_AGAIN), had),
            Outcome::Later(after) => State::Settled(later(after), had),
        };
        self.0.insert(build_id.to_owned(), state);
    }
}

impl Uploads {
    /// Starts a worker for each dialogue, on the runtime that this is called in.
    pub fn start(
        dialogues: impl IntoIterator<Item = impl Dialogue>,
        source: &Arc<dyn DebugInfo>,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let waiting = Arc::new(AsyncMutex::new(waiting));
        let known = Arc::new(Mutex::new(Known::default()));
        let places = Arc::new(Semaphore::new(LOOKING_MAX));
        let start = |dialogue| {
            let (source, known, places) = (source.clone(), known.clone(), places.clone());
            let worker = Worker { dialogue, source, known, places };
            tokio::spawn(worker.run(waiting.clone())).abort_handle()
        };
        let workers = dialogues.into_iter().map(start).collect();
        Self { known, queue, workers }
    }

    /// Takes up what a batch names and is not known yet.
    pub fn offer(&self, batch: &Batch) {
        let profile = &batch.profile;
        let files =
            profile.mapping.iter().filter(|m| !text_at(profile, m.filename).starts_with('['));
        let ids = files.map(|mapping| text_at(profile, mapping.build_id));
        let mut known = lock(&self.known);
        for build_id in ids.filter(|id| is_build_id(id)) {
            let Ok(place) = self.queue.try_reserve() else { return };
            if known.take_up(build_id, Instant::now()) {
                place.send(build_id.to_owned());
            }
        }
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        self.workers.iter().for_each(AbortHandle::abort);
    }
}

/// Servers take ids of more than two letters; ours become part of a path.
fn is_build_id(text: &str) -> bool {
    text.len() > 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

struct Worker<D> {
    dialogue: D,
    source: Arc<dyn DebugInfo>,
    known: Arc<Mutex<Known>>,
    /// One for each thread that may look for files.
    places: Arc<Semaphore>,
}

impl<D: Dialogue> Worker<D> {
    async fn run(mut self, waiting: Arc<AsyncMutex<mpsc::Receiver<String>>>) {
        loop {
            let next = waiting.lock().await.recv().await;
            let Some(build_id) = next else { return };
            let outcome = self.upload(&build_id).await;
            lock(&self.known).settle(&build_id, outcome);
            self.source.dealt_with(outcome.end());
            tokio::time::sleep(REST).await;
        }
    }

    async fn upload(&mut self, build_id: &str) -> Outcome {
        let had = lock(&self.known).had(build_id);
        let file = match best(self.source.clone(), build_id.to_owned(), &self.places).await {
            Found::Best(file) => file,
            Found::Unfit => return Outcome::Nothing,
            Found::Away => return Outcome::Later(RETRY_AFTER), // it may be in another window
        };
        if had.is_some_and(|had| file.quality() <= had) {
            return Outcome::Nothing;
        }
        self.dialogue.hold(build_id, file, had.is_some()).await
    }
}

/// Finds the best debug info for a build id, on a thread of its own that may hang without harm: it is left behind,
/// and as long as it hangs there is one thread less for others.
async fn best(source: Arc<dyn DebugInfo>, build_id: String, places: &Arc<Semaphore>) -> Found {
    let Ok(place) = places.clone().try_acquire_owned() else { return Found::Away };
    let (give, found) = oneshot::channel();
    let look = move || {
        let _place = place;
        let executable = source.open(&build_id);
        let separate = BuildId::from_hex(&build_id);
        let separate = separate.and_then(|id| File::open(id.debug_file()).ok());
        let none = if executable.is_some() { Found::Unfit } else { Found::Away };
        let files = [executable, separate].into_iter().flatten();
        let fit = |file| match DebugFile::of(file) {
            Ok(debug) => Some(debug),
            Err(Unfit::Nothing) => None,
            Err(error) => {
                tracing::debug!("no debug info for {build_id}: {error}");
                None
            }
        };
        let best = files.filter_map(fit).max_by_key(DebugFile::quality);
        let _ = give.send(best.map_or(none, Found::Best));
    };
    match std::thread::Builder::new().name("debuginfo".into()).spawn(look) {
        Ok(_) => match tokio::time::timeout(LOOK_TIME, found).await {
            Ok(found) => found.unwrap_or(Found::Away),
            Err(_) => Found::Away,
        },
        Err(_) => Found::Away,
    }
}

/// What there is for a build id.
enum Found {
    /// The best debug info.
    Best(DebugFile),
    /// A file without any.
    Unfit,
    /// No file.
    Away,
}

/// `ab/cdef.debug` below a directory.
/// Reads a file on a thread of its own, a few pieces ahead. A file that cannot be read to its end gives fewer
/// bytes than it should, which is noticed where they are counted.
pub(crate) fn read_ahead(
    file: DebugFile,
    first: Option<Bytes>,
    message: impl Fn(Vec<u8>) -> Bytes + Send + 'static,
) -> mpsc::Receiver<Bytes> {
    let (give, pieces) = mpsc::channel(PIECES_AHEAD);
    let read = move || {
        if first.is_some_and(|first| give.blocking_send(first).is_err()) {
            return;
        }
        if let Err(error) =
            file.copy(PIECE_BYTES, |piece| give.blocking_send(message(piece)).is_ok())
        {
            tracing::debug!("debug info could not be read to its end: {error}");
        }
    };
    if let Err(error) = std::thread::Builder::new().name("debuginfo".into()).spawn(read) {
        tracing::debug!("no thread to read debug info: {error}");
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_id_is_taken_up_once_and_again_when_it_is_due() {
        let mut known = Known::default();
        let now = Instant::now();
        assert!(known.take_up("abcd", now));
        assert!(!known.take_up("abcd", now), "it is pending");
        known.settle("abcd", Outcome::Done(Quality::Functions));
        assert!(!known.take_up("abcd", Instant::now()));
        assert!(known.take_up("abcd", Instant::now() + LOOK_AGAIN), "there may be better by now");
        assert_eq!(known.had("abcd"), Some(Quality::Functions));
        known.settle("abcd", Outcome::Nothing);
        assert_eq!(known.had("abcd"), Some(Quality::Functions), "the server still has it");
        assert!(known.take_up("abcd", Instant::now() + LOOK_AGAIN));
        known.settle("abcd", Outcome::Done(Quality::Dwarf));
        assert!(!known.take_up("abcd", Instant::now() + 100 * LOOK_AGAIN), "nothing is better");
    }

    /// A file system that never answers, until the sender is dropped.
    struct Hangs(Mutex<std::sync::mpsc::Receiver<()>>);

    impl DebugInfo for Hangs {
        fn open(&self, _: &str) -> Option<File> {
            let _ = self.0.lock().map(|never| never.recv());
            None
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_never_opens_is_left_and_the_threads_left_behind_are_few() {
        let (end, never) = std::sync::mpsc::channel();
        let source: Arc<dyn DebugInfo> = Arc::new(Hangs(Mutex::new(never)));
        let places = Arc::new(Semaphore::new(2));
        for left in [1, 0, 0] {
            let found = best(source.clone(), "abcd".into(), &places);
            let found = tokio::time::timeout(2 * LOOK_TIME, found).await;
            assert!(matches!(found, Ok(Found::Away)), "it is tried later");
            assert_eq!(places.available_permits(), left);
        }
        drop(end);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut known = Known::default();
        for id in 0..KNOWN_MAX + 10 {
            let id = format!("{id:08x}");
            assert!(known.take_up(&id, Instant::now()));
            known.settle(&id, Outcome::Nothing);
        }
        assert!(known.0.len() <= KNOWN_MAX);
    }

    #[test]
    fn ids_are_hexadecimal_and_no_path() {
        assert!(is_build_id("0123abcdef"));
        for text in ["", "ab", "../../etc", "0x12", "abc/d"] {
            assert!(!is_build_id(text), "{text}");
        }
    }
}
