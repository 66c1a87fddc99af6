//! Debug info uploads to Parca: a server with the rules of its store, and upload failures.
#![allow(clippy::unwrap_used)]

mod wire;

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prost::Message;
use upload::DebugInfoSource;
use upload::Symbolize;
use upload::sinks::parca::{Config, Sink};
use wire::batches::{BUILD_ID, window};
use wire::server::{RecordedRequest, Reply, Server, grpc, http};
use wire::{assert_delivered, connection};

const SERVICE: &str = "/parca.debuginfo.v1alpha1.DebuginfoService/";
const SHOULD: &str = "ShouldInitiateUpload";
const INITIATE: &str = "InitiateUpload";
const UPLOAD: &str = "Upload";
const FINISHED: &str = "MarkUploadFinished";

/// The messages, defined independently of the sink: a wrong field number there must fail the tests.
mod proto {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Should {
        #[prost(string, tag = "1")]
        pub build_id: String,
        #[prost(string, tag = "2")]
        pub hash: String,
        #[prost(bool, tag = "3")]
        pub force: bool,
        #[prost(int32, tag = "4")]
        pub kind: i32,
        #[prost(int32, tag = "5")]
        pub build_id_type: i32,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ShouldAnswer {
        #[prost(bool, tag = "1")]
        pub should: bool,
        #[prost(string, tag = "2")]
        pub reason: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Initiate {
        #[prost(string, tag = "1")]
        pub build_id: String,
        #[prost(int64, tag = "2")]
        pub size: i64,
        #[prost(string, tag = "3")]
        pub hash: String,
        #[prost(bool, tag = "4")]
        pub force: bool,
        #[prost(int32, tag = "5")]
        pub kind: i32,
        #[prost(int32, tag = "6")]
        pub build_id_type: i32,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct InitiateAnswer {
        #[prost(message, optional, tag = "1")]
        pub instructions: Option<Instructions>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Instructions {
        #[prost(string, tag = "1")]
        pub build_id: String,
        #[prost(string, tag = "2")]
        pub upload_id: String,
        #[prost(int32, tag = "3")]
        pub strategy: i32,
        #[prost(string, tag = "4")]
        pub signed_url: String,
        #[prost(int32, tag = "5")]
        pub kind: i32,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Info {
        #[prost(string, tag = "1")]
        pub build_id: String,
        #[prost(string, tag = "2")]
        pub upload_id: String,
        #[prost(int32, tag = "3")]
        pub kind: i32,
    }
    /// All messages of an upload read as one: the info, then the bytes of each piece.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Pieces {
        #[prost(message, optional, tag = "1")]
        pub info: Option<Info>,
        #[prost(bytes = "vec", repeated, tag = "2")]
        pub pieces: Vec<Vec<u8>>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Uploaded {
        #[prost(string, tag = "1")]
        pub build_id: String,
        #[prost(uint64, tag = "2")]
        pub size: u64,
    }
}

/// The state of Parca's debug info store.
#[derive(Default)]
struct Store {
    /// Build ID to announced size and received bytes.
    uploads: HashMap<String, (i64, Vec<u8>)>,
    finished: Vec<String>,
    /// URL of a bucket that receives the uploads in place of this service.
    bucket: Option<String>,
    /// Reason for which the store declines uploads.
    decline_reason: Option<&'static str>,
}

fn serve(store: &Mutex<Store>, request: &RecordedRequest) -> Reply {
    let mut store = store.lock().unwrap();
    let Some(method) = request.path.strip_prefix(SERVICE) else { return Reply::Message(vec![]) };
    match method {
        SHOULD => {
            let request = proto::Should::decode(&*request.body).unwrap();
            assert!(request.build_id.len() > 2 && !request.hash.is_empty());
            assert_eq!((request.kind, request.build_id_type), (0, 1));
            let reason = store.decline_reason.or_else(|| {
                let exists = store.finished.contains(&request.build_id) && !request.force;
                exists.then_some("Debuginfo already exists and is not marked as invalid")
            });
            let answer = proto::ShouldAnswer {
                should: reason.is_none(),
                reason: reason.unwrap_or("").into(),
            };
            Reply::Message(answer.encode_to_vec())
        }
        INITIATE => {
            let request = proto::Initiate::decode(&*request.body).unwrap();
            assert!(request.size > 0 && !request.hash.is_empty());
            store.uploads.insert(request.build_id.clone(), (request.size, vec![]));
            let bucket = store.bucket.clone();
            let instructions = proto::Instructions {
                upload_id: format!("upload-of-{}", request.build_id),
                strategy: if bucket.is_some() { 2 } else { 1 },
                signed_url: bucket
                    .map(|url| format!("{url}/b/{}?sign=s3cret", request.build_id))
                    .unwrap_or_default(),
                kind: 0,
                build_id: request.build_id,
            };
            Reply::Message(
                proto::InitiateAnswer { instructions: Some(instructions) }.encode_to_vec(),
            )
        }
        UPLOAD => {
            let upload = proto::Pieces::decode(&*request.body).unwrap();
            let info = upload.info.expect("the first message is the info");
            assert_eq!(info.upload_id, format!("upload-of-{}", info.build_id));
            let bytes = upload.pieces.concat();
            let size = bytes.len() as u64;
            store.uploads.get_mut(&info.build_id).expect("an announced upload").1 = bytes;
            Reply::Message(proto::Uploaded { build_id: info.build_id, size }.encode_to_vec())
        }
        FINISHED => {
            let info = proto::Info::decode(&*request.body).unwrap();
            assert_eq!(info.upload_id, format!("upload-of-{}", info.build_id));
            store.finished.push(info.build_id);
            Reply::Message(vec![])
        }
        other => panic!("no such method: {other}"),
    }
}

async fn start(store: Store) -> (Arc<Mutex<Store>>, Server) {
    let store = Arc::new(Mutex::new(store));
    let shared = store.clone();
    let server = Server::with(vec![], None, move |request| serve(&shared, request)).await;
    (store, server)
}

/// Executables by build ID.
struct Files(HashMap<&'static str, PathBuf>);

impl DebugInfoSource for Files {
    fn open(&self, build_id: &str) -> Option<File> {
        File::open(self.0.get(build_id)?).ok()
    }
}

/// Serves this program, which has debug info, as the executable in the windows.
fn this_program() -> Arc<dyn DebugInfoSource> {
    Arc::new(Files([(BUILD_ID, std::env::current_exe().unwrap())].into()))
}

fn sink(server: &Server, files: Arc<dyn DebugInfoSource>) -> Sink {
    let settings = Config {
        connection: connection(&server.url()),
        symbolize: Symbolize::Server,
        ..Config::default()
    };
    Sink::new(&settings, Some(&files)).unwrap()
}

/// Waits until a condition holds; panics after 60 s.
async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "timeout: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns the called methods, in order.
fn calls(server: &Server) -> Vec<String> {
    let requests = server.requests();
    let calls = requests.iter().filter_map(|request| request.path.strip_prefix(SERVICE));
    calls.map(str::to_owned).collect()
}

/// Asserts that the received debug info is that of this program.
fn assert_this_program(bytes: &[u8]) {
    use object::{Object, ObjectSection, ObjectSymbol};
    let elf = object::File::parse(bytes).expect("an ELF file");
    let size = elf.section_by_name(".debug_info").unwrap().data().unwrap().len();
    assert!(size > 1000);
    assert!(elf.symbols().any(|symbol| symbol.name() == Ok("main")));
    assert!(elf.section_by_name(".text").unwrap().data().unwrap().is_empty());
}

#[tokio::test]
async fn an_executable_is_uploaded_once() {
    let (store, server) = start(Store::default()).await;
    let mut sink = sink(&server, this_program());
    for number in 0..3 {
        assert_delivered(&sink.send(&window(number, 2, 4)).await);
    }
    wait_until("a finished upload", || !store.lock().unwrap().finished.is_empty()).await;
    assert_delivered(&sink.send(&window(3, 2, 4)).await);
    assert_eq!(calls(&server), [SHOULD, INITIATE, UPLOAD, FINISHED]);
    let store = store.lock().unwrap();
    let (size, bytes) = &store.uploads[BUILD_ID];
    assert_eq!(*size, bytes.len() as i64);
    assert_this_program(bytes);
}

#[tokio::test]
async fn a_bucket_gets_no_credentials() {
    let bucket = Server::start(vec![]).await;
    let (store, server) = start(Store { bucket: Some(bucket.url()), ..Store::default() }).await;
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "hunter2").unwrap();
    let mut settings = Config {
        connection: connection(&server.url()),
        debug_info: Some(true),
        ..Config::default()
    };
    settings.connection.bearer_token_file = Some(token);
    settings.connection.insecure = true;
    let mut sink = Sink::new(&settings, Some(&this_program())).unwrap();
    assert_delivered(&sink.send(&window(0, 1, 4)).await);
    wait_until("a finished upload", || !store.lock().unwrap().finished.is_empty()).await;
    assert_eq!(calls(&server), [SHOULD, INITIATE, FINISHED]);
    let upload = &bucket.requests()[0];
    assert_eq!(upload.path, format!("/b/{BUILD_ID}"));
    let length: usize = upload.headers["content-length"].to_str().unwrap().parse().unwrap();
    assert_eq!(length, upload.body.len());
    assert!(!upload.headers.contains_key("authorization"));
    assert_eq!(server.requests()[0].headers["authorization"], "Bearer hunter2");
    assert_this_program(&upload.body);
}

#[tokio::test]
async fn a_failed_put_leaves_the_upload_unfinished() {
    let bucket = Server::start(vec![http(403)]).await;
    let (store, server) = start(Store { bucket: Some(bucket.url()), ..Store::default() }).await;
    let mut sink = sink(&server, this_program());
    assert_delivered(&sink.send(&window(0, 1, 4)).await);
    wait_until("a request to the bucket", || !bucket.requests().is_empty()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(store.lock().unwrap().finished.is_empty());
}

#[tokio::test]
async fn unwanted_files_are_not_sent() {
    let (_store, server) =
        start(Store { decline_reason: Some("Debuginfo exists in debuginfod"), ..Store::default() })
            .await;
    let mut sink = sink(&server, this_program());
    for number in 0..2 {
        assert_delivered(&sink.send(&window(number, 1, 4)).await);
        wait_until("a call", || !calls(&server).is_empty()).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(calls(&server), [SHOULD]);
}

#[tokio::test]
async fn files_without_debug_info_are_not_offered() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("script");
    std::fs::write(&script, "#!/bin/sh\n").unwrap();
    for files in [Files([(BUILD_ID, script)].into()), Files(HashMap::new())] {
        let (_store, server) = start(Store::default()).await;
        let mut sink = sink(&server, Arc::new(files));
        assert_delivered(&sink.send(&window(0, 1, 4)).await);
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(calls(&server).is_empty());
    }
}

#[tokio::test]
async fn a_symbolizing_agent_uploads_nothing() {
    let (_store, server) = start(Store::default()).await;
    let settings = Config { connection: connection(&server.url()), ..Config::default() };
    let mut sink = Sink::new(&settings, Some(&this_program())).unwrap();
    assert_delivered(&sink.send(&window(0, 1, 4)).await);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(calls(&server).is_empty());
}

/// Writes a copy of this program with renamed debug sections, so that readers find no DWARF.
fn copy_without_dwarf(path: &std::path::Path) {
    use object::{Object, ObjectSection};
    let mut bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    let (start, length) = elf.section_by_name(".shstrtab").unwrap().file_range().unwrap();
    for at in start as usize..(start + length) as usize {
        if bytes[at..].starts_with(b".debug_") {
            bytes[at + 1] = b'x';
        }
    }
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn better_debug_info_is_sent_with_force() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app");
    copy_without_dwarf(&path);
    let (store, server) = start(Store::default()).await;
    let mut sink = sink(&server, Arc::new(Files([(BUILD_ID, path.clone())].into())));
    assert_delivered(&sink.send(&window(0, 1, 4)).await);
    wait_until("a finished upload", || store.lock().unwrap().finished.len() == 1).await;
    std::fs::remove_file(&path).unwrap();
    std::fs::copy(std::env::current_exe().unwrap(), &path).unwrap();
    assert_delivered(&sink.send(&window(1, 1, 4)).await);
    until_finished(&mut sink, &store, 3601, 2).await;
    let force: Vec<bool> = server
        .bodies(&format!("{SERVICE}{INITIATE}"))
        .iter()
        .map(|body| proto::Initiate::decode(&**body).unwrap().force)
        .collect();
    assert_eq!(force, [false, true]);
    assert_this_program(&store.lock().unwrap().uploads[BUILD_ID].1);
}

/// Advances the clock: failures are retried after five minutes, and files are checked for better
/// debug info after an hour.
async fn advance(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

/// Sends windows at an interval of `seconds` until `uploads` are finished.
async fn until_finished(sink: &mut Sink, store: &Mutex<Store>, seconds: u64, uploads: usize) {
    for number in 10..40 {
        advance(seconds).await;
        assert_delivered(&sink.send(&window(number, 1, 4)).await);
        for _ in 0..50 {
            if store.lock().unwrap().finished.len() == uploads {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    panic!("the upload is not retried");
}

#[tokio::test]
async fn a_failed_upload_is_retried() {
    // The reply to the first call of each method.
    for (method, reply) in [
        (SHOULD, grpc(14)),
        (INITIATE, grpc(9)),
        (UPLOAD, Reply::Disconnect),
        (FINISHED, Reply::Disconnect),
    ] {
        let store = Arc::new(Mutex::new(Store::default()));
        let (shared, failed) = (store.clone(), AtomicBool::new(false));
        let server = Server::with(vec![], None, move |request| {
            let is_method = request.path == format!("{SERVICE}{method}");
            match is_method && !failed.swap(true, Ordering::Relaxed) {
                true => reply.clone(),
                false => serve(&shared, request),
            }
        })
        .await;
        let mut sink = sink(&server, this_program());
        assert_delivered(&sink.send(&window(0, 1, 4)).await);
        wait_until("the failure", || calls(&server).iter().any(|call| call == method)).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(store.lock().unwrap().finished.is_empty(), "{method}");
        assert_delivered(&sink.send(&window(1, 1, 4)).await);
        assert_eq!(calls(&server).last().map(String::as_str), Some(method), "not retried at once");
        until_finished(&mut sink, &store, 301, 1).await;
        assert_this_program(&store.lock().unwrap().uploads[BUILD_ID].1);
    }
}

#[tokio::test]
async fn an_upload_in_progress_is_checked_later() {
    let reason = "A previous upload is still in-progress and not stale yet (only stale \
                  uploads can be retried).";
    let (store, server) = start(Store { decline_reason: Some(reason), ..Store::default() }).await;
    let mut sink = sink(&server, this_program());
    assert_delivered(&sink.send(&window(0, 1, 4)).await);
    wait_until("a call", || calls(&server) == [SHOULD]).await;
    store.lock().unwrap().decline_reason = None;
    until_finished(&mut sink, &store, 301, 1).await;
}

#[tokio::test]
async fn a_rejected_file_is_not_offered_again() {
    for code in [3, 6] {
        let store = Mutex::new(Store::default());
        let server = Server::with(vec![], None, move |request| {
            match request.path == format!("{SERVICE}{INITIATE}") {
                true => grpc(code),
                false => serve(&store, request),
            }
        })
        .await;
        let mut sink = sink(&server, this_program());
        assert_delivered(&sink.send(&window(0, 1, 4)).await);
        wait_until("the rejection", || calls(&server).len() == 2).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        for number in 1..3 {
            advance(301).await;
            assert_delivered(&sink.send(&window(number, 1, 4)).await);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(calls(&server), [SHOULD, INITIATE]);
    }
}

/// A source that hangs, like an unresponsive file system.
struct HangingSource;

impl DebugInfoSource for HangingSource {
    fn open(&self, _: &str) -> Option<File> {
        loop {
            std::thread::park();
        }
    }
}

#[tokio::test]
async fn failing_uploads_delay_no_window() {
    let (_store, server) = start(Store::default()).await;
    let mut hanging = sink(&server, Arc::new(HangingSource));
    for number in 0..3 {
        assert_delivered(&hanging.send(&window(number, 1, 4)).await);
    }
    let server = Server::with(vec![], None, |request: &RecordedRequest| {
        match request.path.starts_with(SERVICE) {
            true => grpc(12),
            false => Reply::Message(vec![]),
        }
    })
    .await;
    let mut failing = sink(&server, this_program());
    for number in 0..3 {
        assert_delivered(&failing.send(&window(number, 1, 4)).await);
        wait_until("a call", || !calls(&server).is_empty()).await;
    }
    assert_eq!(calls(&server).len(), 1, "the service is not called again at once");
}
