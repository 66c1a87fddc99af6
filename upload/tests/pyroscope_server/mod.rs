//! A strict stand-in for Pyroscope 2.2: its push and debug info services with all default limits,
//! and its answers. Faults can be scripted, request by request.
//!
//! No package registry offers the server itself. The stand-in enforces what its source does; see
//! `limits.rs`.
#![allow(dead_code, clippy::unwrap_used)] // each test uses a part of this, and a test may die

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
use limits::{Bucket, Refusal};
use wire::{Pair, Push};

/// How the server treats one request, other than well.
#[derive(Clone, Debug)]
pub enum Fault {
    /// None of it: this one is treated as it should be.
    None,
    /// This status, headers and body, as a proxy in front of the server would answer.
    Answer(u16, Vec<(&'static str, String)>, &'static str),
    /// No answer, ever.
    Hang,
    /// The connection ends before the request was looked at.
    CutBefore,
    /// The request is carried out, and the connection ends without an answer.
    CutAfter,
    /// The profile at this index of the request fails with this code and text.
    Profile(usize, &'static str, &'static str),
    /// As it should be, but this much later.
    Slow(Duration),
}

/// A profile that the server took.
#[derive(Clone, Debug)]
pub struct Taken {
    pub tenant: String,
    /// As it was sent.
    pub id: String,
    /// With the labels of its samples.
    pub labels: BTreeMap<String, String>,
    /// The profile, as the limits left it, with the rows of this series only.
    pub profile: pb::Profile,
}

/// What is known of one request.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub status: u16,
    /// Profiles in it.
    pub profiles: usize,
    /// Bytes of its body as they came.
    pub bytes: usize,
}

pub(crate) struct State {
    pub limits: Limits,
    pub bucket: Bucket,
    /// A request without a tenant is refused.
    pub needs_tenant: bool,
    /// What the header `authorization` must be, as a proxy would want it.
    pub authorization: Option<String>,
    /// It is older than 2.0.
    pub is_old: bool,
    /// The service whose profiles it cannot digest.
    pub stumbles_over: Option<String>,
    /// Whether the clock is another: nanoseconds to add.
    pub clock_ns: i64,
    pub faults: VecDeque<Fault>,
    pub taken: Vec<Taken>,
    pub seen: Vec<Seen>,
    pub series: BTreeSet<BTreeMap<String, String>>,
    pub files: BTreeMap<String, debuginfo::File>,
}

/// The server. It ends with this value.
pub struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Server {
    /// Listens on a port of its own, with the limits that the server has by default.
    pub fn start() -> Self {
        Self::with(Limits::default())
    }

    /// With other limits.
    pub fn with(limits: Limits) -> Self {
        let state = Arc::new(Mutex::new(State {
            bucket: Bucket::full(&limits),
            limits,
            needs_tenant: false,
            authorization: None,
            is_old: false,
            stumbles_over: None,
            clock_ns: 0,
            faults: VecDeque::new(),
            taken: Vec::new(),
            seen: Vec::new(),
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

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What is to be done to the next requests, one each.
    pub fn misbehave(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults.extend(faults);
    }

    /// Wants a tenant in each request.
    pub fn want_tenant(&self) {
        self.lock().needs_tenant = true;
    }

    /// Wants this header `authorization` in each request.
    pub fn want_authorization(&self, value: &str) {
        self.lock().authorization = Some(value.to_owned());
    }

    /// Is older than 2.0: has no service for debug info.
    pub fn be_old(&self) {
        self.lock().is_old = true;
    }

    /// Fails with an internal error at each profile of this service.
    pub fn stumble_over(&self, service: &str) {
        self.lock().stumbles_over = Some(service.to_owned());
    }

    /// Sets its clock apart from ours.
    pub fn set_clock(&self, ahead_ns: i64) {
        self.lock().clock_ns = ahead_ns;
    }

    /// Everything that it took.
    pub fn taken(&self) -> Vec<Taken> {
        self.lock().taken.clone()
    }

    /// Every request, in the order in which they were answered.
    pub fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    /// Nanoseconds of CPU of everything that it took, by function that was running and service.
    pub fn cpu_by_function(&self) -> BTreeMap<(String, String), i64> {
        let mut sums = BTreeMap::new();
        for taken in self.taken() {
            for sample in &taken.profile.sample {
                let function = leaf(&taken.profile, sample);
                let key = (taken.labels["service_name"].clone(), function);
                *sums.entry(key).or_default() += sample.value[0];
            }
        }
        sums
    }

    /// Debug info that was uploaded, by build id; whether it is finished, and its bytes.
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

/// The name of the function that was running, or its address.
fn leaf(profile: &pb::Profile, sample: &pb::Sample) -> String {
    let location = profile.location.iter().find(|l| l.id == sample.location_id[0]).unwrap();
    let Some(line) = location.line.first() else { return format!("{:#x}", location.address) };
    let function = profile.function.iter().find(|f| f.id == line.function_id).unwrap();
    profile.string_table[function.name as usize].clone()
}

impl State {
    /// The push service. Each profile is tried; the errors are joined under the code of the first.
    fn push(&mut self, tenant: &str, push: Push, fault: &Fault) -> Result<(), Refusal> {
        let profiles = push.series.iter().flat_map(|series| {
            series.samples.iter().map(move |sample| (series.labels.clone(), sample.clone()))
        });
        let mut errors: Vec<Refusal> = Vec::new();
        let mut index = 0;
        for (labels, sample) in profiles {
            let max = self.limits.body_bytes;
            let (mut profile, bytes) = match limits::parse(&sample.raw_profile, max) {
                Ok(parsed) => parsed,
                Err(error) => {
                    errors.push(error); // without its place or id, as the server does
                    continue;
                }
            };
            let is_of = |service: &str| {
                labels.iter().any(|l| l.name == "service_name" && l.value == service)
            };
            let result = match fault {
                _ if self.stumbles_over.as_deref().is_some_and(is_of) => {
                    Err(("internal", "panic: nil map".into()))
                }
                Fault::Profile(place, code, text) if *place == index => {
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
    ) -> Result<(), Refusal> {
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
        for (own, rows) in limits::split(profile) {
            let own = own.into_iter().map(|(name, value)| Pair { name, value });
            let labels: Vec<Pair> = labels.iter().cloned().chain(own).collect();
            limits::check_labels(&self.limits, &labels)?;
            let labels: BTreeMap<_, _> = labels.into_iter().map(|l| (l.name, l.value)).collect();
            self.count_series(&labels)?;
            let profile = pb::Profile { sample: rows, ..profile.clone() };
            self.taken.push(Taken { tenant: tenant.into(), id: id.into(), labels, profile });
        }
        Ok(())
    }

    fn count_series(&mut self, labels: &BTreeMap<String, String>) -> Result<(), Refusal> {
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

/// Joins errors as the server does.
fn join(errors: Vec<Refusal>) -> Result<(), Refusal> {
    let Some(code) = errors.first().map(|error| error.0) else { return Ok(()) };
    let texts: Vec<String> = errors.iter().map(|error| error.1.clone()).collect();
    let text = texts.join("; ");
    Err((code, if texts.len() > 1 { format!("{} errors: {text}", texts.len()) } else { text }))
}

/// The status and body of an error of the Connect protocol.
fn connect_error((code, message): Refusal) -> (u16, Vec<u8>) {
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
