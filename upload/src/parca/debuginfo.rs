//! Debug info for Parca: which files it is asked about, and the dialogue for each.
//!
//! ```text
//! ShouldInitiateUpload -> no: never again, or later if another upload is on its way
//!                      -> yes: InitiateUpload -> GRPC:       Upload, a stream of pieces
//!                                             -> SIGNED_URL: HTTP PUT to the address given
//!                              MarkUploadFinished
//! ```
//! Only files with debug info, symbols or Go's table are offered: Parca keeps the first that it gets, however
//! little is in it, and looks nowhere else afterwards. Where something better turns up later it is sent
//! by force.
//!
//! All of it happens beside the delivery of parcels, two files at a time, and nothing waits for it. A server on
//! default settings reads for five seconds (`--http-read-timeout`), so that a large file needs a fast network.
//!
//! Source: `pkg/debuginfo` of Parca 0.28.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tonic::Code;

use super::message::{
    BUILD_ID_GNU, DEBUGINFO, InitiateUploadRequest, InitiateUploadResponse,
    MarkUploadFinishedRequest, MarkUploadFinishedResponse, STRATEGY_GRPC, STRATEGY_SIGNED_URL,
    ShouldInitiateUploadRequest, ShouldInitiateUploadResponse, UploadData, UploadInfo,
    UploadInstructions, UploadRequest, UploadResponse,
};
use crate::StartError;
use crate::debug_file::{DebugFile, Quality, Unfit};
use crate::debuginfo::DebugInfo;
use crate::parcel::{Parcel, text_at};
use crate::transport::{CallError, Connection, Grpc, Http, PutBody, TransportError};

/// Files at a time.
const PARALLEL: usize = 2;
/// Build ids that wait; those beyond are offered again with a later parcel.
const QUEUE_MAX: usize = 1024;
/// Build ids that are remembered.
const KNOWN_MAX: usize = 65_536;
/// Rest between two files of one worker, so that a new agent does not flood its server.
const REST: Duration = Duration::from_millis(200);
/// When to come again about an upload that cannot be now.
const RETRY_AFTER: Duration = Duration::from_secs(300);
/// When to look again for better debug info, or for a service that was not there.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);
/// How long one upload may take. Source: the server's `--debuginfo-upload-max-duration`.
const UPLOAD_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Bytes of one message of an upload.
const PIECE_BYTES: usize = 1 << 20;
/// Pieces that are read ahead.
const PIECES_AHEAD: usize = 4;
/// Where distributions put debug info, by build id.
const SEPARATE: &str = "/usr/lib/debug/.build-id";

const SHOULD_INITIATE: &str = "/parca.debuginfo.v1alpha1.DebuginfoService/ShouldInitiateUpload";
const INITIATE: &str = "/parca.debuginfo.v1alpha1.DebuginfoService/InitiateUpload";
const UPLOAD: &str = "/parca.debuginfo.v1alpha1.DebuginfoService/Upload";
const FINISHED: &str = "/parca.debuginfo.v1alpha1.DebuginfoService/MarkUploadFinished";

/// Uploads beside the delivery of parcels. They end when it is dropped.
pub(super) struct Uploads {
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

/// What became of one file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    /// The server has it, or something in its place.
    Done(Quality),
    /// There is no debug info, or none better than before.
    Nothing,
    /// Not now.
    Later(Duration),
}

impl Uploads {
    /// Starts the workers on the runtime that this is called in.
    pub fn start(connection: &Connection, source: Arc<dyn DebugInfo>) -> Result<Self, StartError> {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let waiting = Arc::new(AsyncMutex::new(waiting));
        let known = Arc::new(Mutex::new(Known::default()));
        let mut workers = Vec::new();
        for _ in 0..PARALLEL {
            let worker = Worker {
                dialogue: Dialogue {
                    // Not every server unpacks messages, and no answer says so before the upload.
                    grpc: Grpc::new(connection)?.without_compression(),
                    http: Http::new(connection)?,
                },
                source: source.clone(),
                known: known.clone(),
            };
            workers.push(tokio::spawn(worker.run(waiting.clone())).abort_handle());
        }
        Ok(Self { known, queue, workers })
    }

    /// Takes up what a parcel names and is not known yet.
    pub fn offer(&self, parcel: &Parcel) {
        let profile = &parcel.profile;
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

/// Parca takes ids of more than two letters; ours become part of a path.
fn is_build_id(text: &str) -> bool {
    text.len() > 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

struct Worker {
    dialogue: Dialogue,
    source: Arc<dyn DebugInfo>,
    known: Arc<Mutex<Known>>,
}

impl Worker {
    async fn run(mut self, waiting: Arc<AsyncMutex<mpsc::Receiver<String>>>) {
        loop {
            let next = waiting.lock().await.recv().await;
            let Some(build_id) = next else { return };
            let outcome = self.upload(&build_id).await;
            lock(&self.known).settle(&build_id, outcome);
            tokio::time::sleep(REST).await;
        }
    }

    async fn upload(&mut self, build_id: &str) -> Outcome {
        let had = lock(&self.known).had(build_id);
        let Some(file) = best(self.source.clone(), build_id.to_owned()).await else {
            return Outcome::Nothing;
        };
        if had.is_some_and(|had| file.quality() <= had) {
            return Outcome::Nothing;
        }
        match self.dialogue.hold(build_id, file, had.is_some()).await {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::debug!("the debug info of {build_id} was not uploaded: {error}");
                match error {
                    CallError::Status { code: Code::Unimplemented, .. } => {
                        Outcome::Later(LOOK_AGAIN)
                    }
                    _ => Outcome::Later(RETRY_AFTER),
                }
            }
        }
    }
}

/// Finds the best debug info for a build id, on a thread of its own that may hang without harm.
async fn best(source: Arc<dyn DebugInfo>, build_id: String) -> Option<DebugFile> {
    let (give, found) = oneshot::channel();
    let look = move || {
        let executable = source.open(&build_id);
        let separate = File::open(separate_path(Path::new(SEPARATE), &build_id)).ok();
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
        let _ = give.send(best);
    };
    std::thread::Builder::new().name("debuginfo".into()).spawn(look).ok()?;
    found.await.ok()?
}

/// `ab/cdef.debug` below a directory.
fn separate_path(directory: &Path, build_id: &str) -> PathBuf {
    let (first, rest) = build_id.split_at_checked(2).unwrap_or((build_id, ""));
    directory.join(first).join(format!("{rest}.debug"))
}

/// Speaks with the server about one file after the other.
struct Dialogue {
    grpc: Grpc,
    http: Http,
}

impl Dialogue {
    async fn hold(
        &mut self,
        build_id: &str,
        file: DebugFile,
        force: bool,
    ) -> Result<Outcome, CallError> {
        let quality = file.quality();
        if let Some(outcome) = self.should_initiate(build_id, &file, force).await? {
            return Ok(outcome);
        }
        let length = file.length();
        let instructions = match self.initiate(build_id, &file, force).await {
            Ok(instructions) => instructions,
            Err(CallError::Status {
                code: Code::AlreadyExists | Code::InvalidArgument,
                text,
                ..
            }) => {
                tracing::debug!("the server refuses the debug info of {build_id}: {text}");
                return Ok(Outcome::Done(quality));
            }
            Err(error) => return Err(error),
        };
        let arrived = match instructions.upload_strategy {
            STRATEGY_GRPC => self.by_grpc(build_id, &instructions, file).await?,
            STRATEGY_SIGNED_URL => self.by_address(&instructions, file).await?,
            other => return Err(unknown_strategy(other)),
        };
        if arrived != length {
            let text = format!("{arrived} of {length} bytes arrived");
            return Err(TransportError::new(crate::Failure::Unreachable, text).into());
        }
        self.finished(build_id, &instructions).await?;
        tracing::debug!("uploaded the debug info of {build_id}, {length} bytes");
        Ok(Outcome::Done(quality))
    }

    /// `None`: go on.
    async fn should_initiate(
        &mut self,
        build_id: &str,
        file: &DebugFile,
        force: bool,
    ) -> Result<Option<Outcome>, CallError> {
        let request = ShouldInitiateUploadRequest {
            build_id: build_id.to_owned(),
            hash: file.hash().to_owned(),
            force,
            r#type: DEBUGINFO,
            build_id_type: BUILD_ID_GNU,
        };
        let answer: ShouldInitiateUploadResponse = self.ask(SHOULD_INITIATE, &request).await?;
        if answer.should_initiate_upload {
            return Ok(None);
        }
        match answer.reason.contains("still in-progress") {
            true => Ok(Some(Outcome::Later(RETRY_AFTER))),
            false => Ok(Some(Outcome::Done(file.quality()))),
        }
    }

    async fn initiate(
        &mut self,
        build_id: &str,
        file: &DebugFile,
        force: bool,
    ) -> Result<UploadInstructions, CallError> {
        let request = InitiateUploadRequest {
            build_id: build_id.to_owned(),
            size: i64::try_from(file.length()).unwrap_or(i64::MAX),
            hash: file.hash().to_owned(),
            force,
            r#type: DEBUGINFO,
            build_id_type: BUILD_ID_GNU,
        };
        let answer: InitiateUploadResponse = self.ask(INITIATE, &request).await?;
        answer.upload_instructions.ok_or_else(|| unknown_strategy(0))
    }

    /// Gives the number of bytes that have arrived.
    async fn by_grpc(
        &mut self,
        build_id: &str,
        instructions: &UploadInstructions,
        file: DebugFile,
    ) -> Result<u64, CallError> {
        let info = UploadInfo {
            build_id: build_id.to_owned(),
            upload_id: instructions.upload_id.clone(),
            r#type: DEBUGINFO,
        };
        let first = UploadRequest { data: Some(UploadData::Info(info)) }.encode_to_vec();
        let message = |piece: Vec<u8>| {
            let data = Some(UploadData::ChunkData(piece.into()));
            Bytes::from(UploadRequest { data }.encode_to_vec())
        };
        let messages = read_ahead(file, Some(first.into()), message);
        let called = self.grpc.client_streaming::<UploadResponse>(UPLOAD, messages, UPLOAD_LIMIT);
        Ok(called.await?.message.size)
    }

    async fn by_address(
        &mut self,
        instructions: &UploadInstructions,
        file: DebugFile,
    ) -> Result<u64, CallError> {
        let length = file.length();
        let body = PutBody { length, pieces: read_ahead(file, None, Bytes::from) };
        let reply = self.http.put_elsewhere(&instructions.signed_url, body, UPLOAD_LIMIT).await?;
        match reply.status {
            200..300 => Ok(length),
            status => {
                let text = format!("the store of the server answers {status}");
                Err(TransportError::new(crate::Failure::Unavailable, text).into())
            }
        }
    }

    async fn finished(
        &mut self,
        build_id: &str,
        instructions: &UploadInstructions,
    ) -> Result<(), CallError> {
        let request = MarkUploadFinishedRequest {
            build_id: build_id.to_owned(),
            upload_id: instructions.upload_id.clone(),
            r#type: DEBUGINFO,
        };
        self.ask::<MarkUploadFinishedResponse>(FINISHED, &request).await.map(|_| ())
    }

    async fn ask<A: Message + Default + 'static>(
        &mut self,
        path: &'static str,
        request: &impl Message,
    ) -> Result<A, CallError> {
        let called = self.grpc.unary(path, request.encode_to_vec().into()).await?;
        Ok(called.message)
    }
}

fn unknown_strategy(strategy: i32) -> CallError {
    let text = format!("the server wants uploads in a way that is not known ({strategy})");
    TransportError::new(crate::Failure::Protocol, text).into()
}

/// Reads a file on a thread of its own, a few pieces ahead. A file that cannot be read to its end gives fewer
/// bytes than it should, which is noticed where they are counted.
fn read_ahead(
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
        let path = separate_path(Path::new("/d"), "abcdef");
        assert_eq!(path, Path::new("/d/ab/cdef.debug"));
    }
}
