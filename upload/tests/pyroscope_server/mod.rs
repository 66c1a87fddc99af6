//! A strict fake of Pyroscope 2.2: its push and debug info services, with all default limits and
//! the same responses. Tests script faults request by request.
//!
//! No package registry offers the real server. The fake enforces the checks of its source code;
//! see `limits.rs`.
#![allow(dead_code, clippy::unwrap_used)] // each test uses a part; tests may panic

mod debuginfo;
mod limits;
mod serve;
mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use profile::pprof::proto as pb;
use prost::Message;
use serde_json::json;

pub use limits::Limits;
use limits::{Bucket, ConnectError};
use wire::{Pair, Push};

/// A scripted deviation from the normal handling of one request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Handles the request normally.
    None,
    /// Responds with a status, headers and body, as a proxy in front of the server does.
    Answer(u16, Vec<(&'static str, String)>, &'static str),
    /// Never responds.
    Hang,
    /// Closes the connection before the request is handled.
    DisconnectBefore,
    /// Handles the request, then closes the connection without a response.
    DisconnectAfter,
    /// Fails the profile at this index of the request with a code and message.
    Profile(usize, &'static str, &'static str),
    /// Handles the request normally after a delay.
    Slow(Duration),
}

/// A profile that the server stored.
#[derive(Clone, Debug)]
pub struct StoredProfile {
    pub tenant: String,
    /// The ID sent by the client.
    pub id: String,
    /// Series labels, including the labels of its samples.
    pub labels: BTreeMap<String, String>,
    /// The samples of this series only, after the limits were applied.
    pub profile: pb::Profile,
}

/// Path, headers, size and outcome of one request.
#[derive(Clone, Debug)]
pub struct RequestRecord {
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub status: u16,
    /// Number of profiles in the request.
    pub profiles: usize,
    /// Size of the body as received, before decompression.
    pub bytes: usize,
}

pub(crate) struct State {
    pub limits: Limits,
    pub bucket: Bucket,
    /// Rejects requests without a tenant.
    pub needs_tenant: bool,
    /// Required value of the `authorization` header, as a proxy checks it.
    pub authorization: Option<String>,
    /// Behaves as a version before 2.0, without a debug info service.
    pub has_no_debug_info: bool,
    /// The service whose profiles fail with an internal error.
    pub failing_service: Option<String>,
    /// Nanoseconds by which the server clock is ahead of ours.
    pub clock_ns: i64,
    pub faults: VecDeque<Fault>,
    pub stored: Vec<StoredProfile>,
    pub requests: Vec<RequestRecord>,
    pub series: BTreeSet<BTreeMap<String, String>>,
    pub files: BTreeMap<String, debuginfo::File>,
}

/// The server, shut down on drop.
pub struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Server {
    /// Listens on a free port, with the default limits.
    pub fn start() -> Self {
        Self::with_limits(Limits::default())
    }

    pub fn with_limits(limits: Limits) -> Self {
        let state = Arc::new(Mutex::new(State {
            bucket: Bucket::full(&limits),
            limits,
            needs_tenant: false,
            authorization: None,
            has_no_debug_info: false,
            failing_service: None,
            clock_ns: 0,
            faults: VecDeque::new(),
            stored: Vec::new(),
            requests: Vec::new(),
            series: BTreeSet::new(),
            files: BTreeMap::new(),
        }));
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(serve::serve(listener, state.clone()));
        Self { address, state, runtime: Some(runtime) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Applies these faults to the next requests, one each.
    pub fn inject_faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults.extend(faults);
    }

    pub fn require_tenant(&self) {
        self.lock().needs_tenant = true;
    }

    /// Requires this `authorization` header in each request.
    pub fn require_authorization(&self, value: &str) {
        self.lock().authorization = Some(value.to_owned());
    }

    /// Removes the debug info service, as in versions before 2.0.
    pub fn disable_debug_info(&self) {
        self.lock().has_no_debug_info = true;
    }

    /// Fails each profile of a service with an internal error.
    pub fn fail_service(&self, service: &str) {
        self.lock().failing_service = Some(service.to_owned());
    }

    /// Sets the server clock ahead of ours.
    pub fn set_clock(&self, ahead_ns: i64) {
        self.lock().clock_ns = ahead_ns;
    }

    pub fn stored(&self) -> Vec<StoredProfile> {
        self.lock().stored.clone()
    }

    /// Returns all requests, in the order of their responses.
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.lock().requests.clone()
    }

    /// Sums the stored CPU nanoseconds by service and innermost function.
    pub fn cpu_by_function(&self) -> BTreeMap<(String, String), i64> {
        let mut sums = BTreeMap::new();
        for stored in self.stored() {
            for sample in &stored.profile.sample {
                let function = leaf(&stored.profile, sample);
                let key = (stored.labels["service_name"].clone(), function);
                *sums.entry(key).or_default() += sample.value[0];
            }
        }
        sums
    }

    /// Returns the uploaded debug info by build ID: whether it is finished, and its bytes.
    pub fn files(&self) -> BTreeMap<String, (bool, Vec<u8>)> {
        let state = self.lock();
        let files = state.files.iter();
        files.map(|(id, file)| (id.clone(), (file.is_finished, file.bytes.clone()))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Returns the name of the innermost function, or its address.
fn leaf(profile: &pb::Profile, sample: &pb::Sample) -> String {
    let location = profile.location.iter().find(|l| l.id == sample.location_id[0]).unwrap();
    let Some(line) = location.line.first() else { return format!("{:#x}", location.address) };
    let function = profile.function.iter().find(|f| f.id == line.function_id).unwrap();
    profile.string_table[function.name as usize].clone()
}

impl State {
    /// Stores each profile that it can; joins the errors under the code of the first one.
    fn push(&mut self, tenant: &str, push: Push, fault: &Fault) -> Result<(), ConnectError> {
        let profiles = push.series.iter().flat_map(|series| {
            series.samples.iter().map(move |sample| (series.labels.clone(), sample.clone()))
        });
        let mut errors: Vec<ConnectError> = Vec::new();
        let mut index = 0;
        for (labels, sample) in profiles {
            let max = self.limits.body_bytes;
            let (mut profile, bytes) = match limits::parse(&sample.raw_profile, max) {
                Ok(parsed) => parsed,
                Err(error) => {
                    errors.push(error); // the server omits index and ID here
                    continue;
                }
            };
            let is_from = |service: &str| {
                labels.iter().any(|l| l.name == "service_name" && l.value == service)
            };
            let result = match fault {
                _ if self.failing_service.as_deref().is_some_and(is_from) => {
                    Err(("internal", "panic: nil map".into()))
                }
                Fault::Profile(failing, code, text) if *failing == index => {
                    Err((*code, (*text).to_owned()))
                }
                _ => self.push_one(tenant, &sample.id, labels, &mut profile, bytes),
            };
            if let Err((code, text)) = result {
                let id = &sample.id;
                let text =
                    format!("push series with index {index} and id {id} failed: {code}: {text}");
                errors.push((code, text));
            }
            index += 1;
        }
        if index == 0 && errors.is_empty() {
            errors.push(("invalid_argument", "no profiles received".into()));
        }
        join(errors)
    }

    fn push_one(
        &mut self,
        tenant: &str,
        id: &str,
        mut labels: Vec<Pair>,
        profile: &mut pb::Profile,
        bytes: usize,
    ) -> Result<(), ConnectError> {
        if !is_uuid(id) {
            return Err(("invalid_argument", format!("invalid UUID {id:?}")));
        }
        if labels.iter().all(|label| label.name != "service_name" || label.value.is_empty()) {
            let value = "unknown_service".into();
            labels.push(Pair { name: "service_name".into(), value });
        }
        let label_bytes: usize = labels.iter().map(|l| l.name.len() + l.value.len()).sum();
        self.bucket.allow(&self.limits, bytes + label_bytes)?;
        let now = i64::try_from(now_ns()).unwrap() + self.clock_ns;
        limits::check_profile(&self.limits, &labels, profile, bytes, now)?;
        for (sample_labels, samples) in limits::split(profile) {
            let sample_labels = sample_labels.into_iter().map(|(name, value)| Pair { name, value });
            let labels: Vec<Pair> = labels.iter().cloned().chain(sample_labels).collect();
            limits::check_labels(&self.limits, &labels)?;
            let labels: BTreeMap<_, _> = labels.into_iter().map(|l| (l.name, l.value)).collect();
            self.count_series(&labels)?;
            let profile = pb::Profile { sample: samples, ..profile.clone() };
            self.stored.push(StoredProfile {
                tenant: tenant.into(),
                id: id.into(),
                labels,
                profile,
            });
        }
        Ok(())
    }

    fn count_series(&mut self, labels: &BTreeMap<String, String>) -> Result<(), ConnectError> {
        self.series.insert(labels.clone());
        let (count, limit) = (self.series.len(), self.limits.series);
        if count <= limit {
            return Ok(());
        }
        self.series.remove(labels);
        Err((
            "resource_exhausted",
            format!("Maximum active series limit exceeded ({count}/{limit})"),
        ))
    }
}

/// Joins errors under the code of the first one.
fn join(errors: Vec<ConnectError>) -> Result<(), ConnectError> {
    let Some(code) = errors.first().map(|error| error.0) else { return Ok(()) };
    let texts: Vec<String> = errors.iter().map(|error| error.1.clone()).collect();
    let text = texts.join("; ");
    Err((code, if texts.len() > 1 { format!("{} errors: {text}", texts.len()) } else { text }))
}

/// Returns the HTTP status and body of an error of the Connect protocol.
fn connect_error((code, message): ConnectError) -> (u16, Vec<u8>) {
    let status = match code {
        "invalid_argument" | "failed_precondition" | "out_of_range" => 400,
        "unauthenticated" => 401,
        "permission_denied" => 403,
        "not_found" | "unimplemented" => 404,
        "resource_exhausted" => 429,
        "unavailable" => 503,
        "deadline_exceeded" => 504,
        _ => 500,
    };
    (status, json!({ "code": code, "message": message }).to_string().into_bytes())
}

fn is_uuid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

fn now_ns() -> u128 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos()
}
