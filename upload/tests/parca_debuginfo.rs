//! Debug info to Parca: a server with the rules of its store, and failures of the dialogue.
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
use wire::server::{Act, Seen, Server, grpc, http};
use wire::{assert_delivered, connection};

const SERVICE: &str = "/parca.debuginfo.v1alpha1.DebuginfoService/";
const SHOULD: &str = "ShouldInitiateUpload";
const INITIATE: &str = "InitiateUpload";
const UPLOAD: &str = "Upload";
const FINISHED: &str = "MarkUploadFinished";

/// The messages, written again on purpose: a wrong field number in the sink must not be right here.
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

/// What the store knows, as Parca's does.
#[derive(Default)]
struct Store {
    /// Build id to bytes that it expects, and those that came.
    uploads: HashMap<String, (i64, Vec<u8>)>,
    finished: Vec<String>,
    /// Where to put it, in place of this service.
    bucket: Option<String>,
    /// What it says when it is asked.
    no: Option<&'static str>,
}

fn serve(store: &Mutex<Store>, seen: &Seen) -> Act {
    let mut store = store.lock().unwrap();
    let Some(method) = seen.path.strip_prefix(SERVICE) else { return Act::Message(vec![]) };
    match method {
        SHOULD => {
            let asked = proto::Should::decode(&*seen.body).unwrap();
            assert!(asked.build_id.len() > 2 && !asked.hash.is_empty());
            assert_eq!((asked.kind, asked.build_id_type), (0, 1));
            let no = store.no.or_else(|| {
                let is_there = store.finished.contains(&asked.build_id) && !asked.force;
                is_there.then_some("Debuginfo already exists and is not marked as invalid")
            });
            let answer =
                proto::ShouldAnswer { should: no.is_none(), reason: no.unwrap_or("").into() };
            Act::Message(answer.encode_to_vec())
        }
        INITIATE => {
            let asked = proto::Initiate::decode(&*seen.body).unwrap();
            assert!(asked.size > 0 && !asked.hash.is_empty());
            store.uploads.insert(asked.build_id.clone(), (asked.size, vec![]));
            let bucket = store.bucket.clone();
            let instructions = proto::Instructions {
                upload_id: format!("upload-of-{}", asked.build_id),
                strategy: if bucket.is_some() { 2 } else { 1 },
                signed_url: bucket
                    .map(|url| format!("{url}/b/{}?sign=s3cret", asked.build_id))
                    .unwrap_or_default(),
                kind: 0,
                build_id: asked.build_id,
            };
            Act::Message(proto::InitiateAnswer { instructions: Some(instructions) }.encode_to_vec())
        }
        UPLOAD => {
            let came = proto::Pieces::decode(&*seen.body).unwrap();
            let info = came.info.expect("the info first");
            assert_eq!(info.upload_id, format!("upload-of-{}", info.build_id));
            let bytes = came.pieces.concat();
            let size = bytes.len() as u64;
            store.uploads.get_mut(&info.build_id).expect("it was announced").1 = bytes;
            Act::Message(proto::Uploaded { build_id: info.build_id, size }.encode_to_vec())
        }
        FINISHED => {
            let info = proto::Info::decode(&*seen.body).unwrap();
            assert_eq!(info.upload_id, format!("upload-of-{}", info.build_id));
            store.finished.push(info.build_id);
            Act::Message(vec![])
        }
        other => panic!("no such method: {other}"),
    }
}

async fn start(store: Store) -> (Arc<Mutex<Store>>, Server) {
    let store = Arc::new(Mutex::new(store));
    let shared = store.clone();
    let server = Server::with(vec![], None, move |seen| serve(&shared, seen)).await;
    (store, server)
}

/// Executables by build id.
struct Files(HashMap<&'static str, PathBuf>);

impl DebugInfoSource for Files {
    fn open(&self, build_id: &str) -> Option<File> {
        File::open(self.0.get(build_id)?).ok()
    }
}

/// This very program as the file that windows name: it has debug info.
fn own() -> Arc<dyn DebugInfoSource> {
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

/// Waits until something is true; a test that waits for ever is a failure.
async fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_true() {
        assert!(begin.elapsed() < Duration::from_secs(60), "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Methods that were called, in order.
fn calls(server: &Server) -> Vec<String> {
    let seen = server.seen();
    let calls = seen.iter().filter_map(|seen| seen.path.strip_prefix(SERVICE));
    calls.map(str::to_owned).collect()
}

/// The debug info that came is that of this program.
fn assert_own(bytes: &[u8]) {
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
    let mut sink = sink(&server, own());
    for number in 0..3 {
        assert_delivered(&sink.send(&window(number, 2, 4)).await);
    }
    until("it is finished", || !store.lock().unwrap().finished.is_empty()).await;
    assert_delivered(&sink.send(&window(3, 2, 4)).await);
    assert_eq!(calls(&server), [SHOULD, INITIATE, UPLOAD, FINISHED]);
    let store = store.lock().unwrap();
    let (size, bytes) = &store.uploads[BUILD_ID];
    assert_eq!(*size, bytes.len() as i64);
    assert_own(bytes);
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
    let mut sink = Sink::new(&settings, Some(&own())).unwrap();
    assert_delivered(&sink.send(&window(0, 1, 4)).await);
    until("it is finished", || !store.lock().unwrap().finished.is_empty()).await;
    assert_eq!(calls(&server), [SHOULD, INITIATE, FINISHED]);
    let put = &bucket.seen()[0];
    assert_eq!(put.path, format!("/b/{BUILD_ID}"));
    let length: usize = put.headers["content-length"].to_str().unwrap().parse().unwrap();
    assert_eq!(length, put.body.len());
    assert!(!put.headers.contains_key("authorization"));
    assert_eq!(server.seen()[0].headers["authorization"], "Bearer hunter2");
    assert_own(&put.body);
}

#[tokio::test]
async fn a_failed_put_leaves_the_upload_unfinished() {
    let bucket = Server::start(vec![http(403)]).await;
    let (store, server) = start(Store { bucket: Some(bucket.url()), ..Store::default() }).await;
    let mut sink = sink(&server, own());
    assert_delivered(&sink.send(&window(0, 1, 4)).await);
    until("the bucket is asked", || !bucket.seen().is_empty()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(store.lock().unwrap().finished.is_empty());
}

#[tokio::test]
async fn unwanted_files_are_not_sent() {
    let (_store, server) =
        start(Store { no: Some("Debuginfo exists in debuginfod"), ..Store::default() }).await;
    let mut sink = sink(&server, own());
    for number in 0..2 {
        assert_delivered(&sink.send(&window(number, 1, 4)).await);
        until("it is asked", || !calls(&server).is_empty()).await;
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
    let mut sink = Sink::new(&settings, Some(&own())).unwrap();
    assert_delivered(&sink.send(&window(0, 1, 4)).await);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(calls(&server).is_empty());
}

/// A copy of this program in which no reader finds DWARF, for want of its names.
fn without_dwarf(path: &std::path::Path) {
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
    without_dwarf(&path);
    let (store, server) = start(Store::default()).await;
    let mut sink = sink(&server, Arc::new(Files([(BUILD_ID, path.clone())].into())));
    assert_delivered(&sink.send(&window(0, 1, 4)).await);
    until("it is finished", || store.lock().unwrap().finished.len() == 1).await;
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
    assert_own(&store.lock().unwrap().uploads[BUILD_ID].1);
}

/// Lets time pass: after five minutes what failed is due again, after an hour what may be better.
async fn pass(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

/// Sends windows, so many seconds apart, until so many uploads are finished.
async fn until_finished(sink: &mut Sink, store: &Mutex<Store>, seconds: u64, uploads: usize) {
    for number in 10..40 {
        pass(seconds).await;
        assert_delivered(&sink.send(&window(number, 1, 4)).await);
        for _ in 0..50 {
            if store.lock().unwrap().finished.len() == uploads {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    panic!("it never comes again");
}

#[tokio::test]
async fn a_failed_upload_is_retried() {
    // What the first call of a method leads to.
    for (method, act) in
        [(SHOULD, grpc(14)), (INITIATE, grpc(9)), (UPLOAD, Act::Cut), (FINISHED, Act::Cut)]
    {
        let store = Arc::new(Mutex::new(Store::default()));
        let (shared, failed) = (store.clone(), AtomicBool::new(false));
        let server = Server::with(vec![], None, move |seen| {
            let is_it = seen.path == format!("{SERVICE}{method}");
            match is_it && !failed.swap(true, Ordering::Relaxed) {
                true => act.clone(),
                false => serve(&shared, seen),
            }
        })
        .await;
        let mut sink = sink(&server, own());
        assert_delivered(&sink.send(&window(0, 1, 4)).await);
        until("it fails", || calls(&server).iter().any(|call| call == method)).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(store.lock().unwrap().finished.is_empty(), "{method}");
        assert_delivered(&sink.send(&window(1, 1, 4)).await);
        assert_eq!(calls(&server).last().map(String::as_str), Some(method), "not again at once");
        until_finished(&mut sink, &store, 301, 1).await;
        assert_own(&store.lock().unwrap().uploads[BUILD_ID].1);
    }
}

#[tokio::test]
async fn an_upload_in_progress_is_checked_later() {
    let no = "A previous upload is still in-progress and not stale yet (only stale uploads can be retried).";
    let (store, server) = start(Store { no: Some(no), ..Store::default() }).await;
    let mut sink = sink(&server, own());
    assert_delivered(&sink.send(&window(0, 1, 4)).await);
    until("it is asked", || calls(&server) == [SHOULD]).await;
    store.lock().unwrap().no = None;
    until_finished(&mut sink, &store, 301, 1).await;
}

#[tokio::test]
async fn a_rejected_file_is_not_offered_again() {
    for code in [3, 6] {
        let store = Mutex::new(Store::default());
        let server = Server::with(vec![], None, move |seen| {
            match seen.path == format!("{SERVICE}{INITIATE}") {
                true => grpc(code),
                false => serve(&store, seen),
            }
        })
        .await;
        let mut sink = sink(&server, own());
        assert_delivered(&sink.send(&window(0, 1, 4)).await);
        until("it is refused", || calls(&server).len() == 2).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        for number in 1..3 {
            pass(301).await;
            assert_delivered(&sink.send(&window(number, 1, 4)).await);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(calls(&server), [SHOULD, INITIATE]);
    }
}

/// A source that hangs, as a file system that never answers.
struct Hanging;

impl DebugInfoSource for Hanging {
    fn open(&self, _: &str) -> Option<File> {
        loop {
            std::thread::park();
        }
    }
}

#[tokio::test]
async fn failing_uploads_delay_no_window() {
    let (_store, server) = start(Store::default()).await;
    let mut hanging = sink(&server, Arc::new(Hanging));
    for number in 0..3 {
        assert_delivered(&hanging.send(&window(number, 1, 4)).await);
    }
    let server = Server::with(vec![], None, |seen: &Seen| match seen.path.starts_with(SERVICE) {
        true => grpc(12),
        false => Act::Message(vec![]),
    })
    .await;
    let mut failing = sink(&server, own());
    for number in 0..3 {
        assert_delivered(&failing.send(&window(number, 1, 4)).await);
        until("it is asked", || !calls(&server).is_empty()).await;
    }
    assert_eq!(calls(&server).len(), 1, "it is not asked again soon");
}
