//! JSON of the Firefox Profiler, compressed by gzip: a track for each thread, with real times.
//!
//! The version of the format is an older one, which every installation of the viewer reads: viewers
//! upgrade profiles, and reject those that are newer than they are.
//!
//! Source: `src/types/profile.ts` and `docs-developer/CHANGELOG-formats.md` of the viewer.

mod tables;

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use indexmap::IndexMap;
use profile::{Profile, Timeline};
use serde::Serialize;
use serde_json::{Value, json};

use super::named_frame::shown;
use tables::{Category, Tables, categories};

/// Version of the format: the first with tables that all threads share.
const VERSION: u32 = 60;
/// Version of the format of Firefox itself that is assumed.
const GECKO_VERSION: u32 = 31;

/// Writes a profile with the times of its samples. `title`: what the profile is of.
///
/// # Errors
/// Those of `out`.
pub(super) fn write(
    profile: &Profile,
    timeline: &Timeline,
    title: &str,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut tables = Tables::default();
    let stacks: Vec<u32> =
        profile.samples.iter().map(|sample| tables.add_stack(profile, sample)).collect();
    let threads = threads(profile, timeline, &stacks);
    let file = File {
        meta: meta(profile, timeline, title),
        libs: tables.libs(profile),
        shared: tables.shared(profile),
        threads: threads.into_values().collect(),
    };
    let mut gzip = GzEncoder::new(out, Compression::default());
    serde_json::to_writer(&mut gzip, &file)?;
    gzip.finish()?;
    Ok(())
}

#[derive(Serialize)]
struct File {
    meta: Value,
    libs: Vec<Value>,
    shared: Value,
    threads: Vec<Thread>,
}

fn meta(profile: &Profile, timeline: &Timeline, title: &str) -> Value {
    let category = |category: &Category| {
        let Category { name, color } = category;
        json!({ "name": name, "color": color, "subcategories": ["Other"] })
    };
    let comments: Vec<Value> = profile
        .comments
        .iter()
        .map(|comment| json!({ "label": "", "format": "string", "value": shown(comment) }))
        .chain(left_out(timeline))
        .collect();
    json!({
        "interval": profile.period_ns as f64 / 1e6,
        "startTime": profile.start_unix_ns as f64 / 1e6,
        "startTimeAsClockMonotonicNanosecondsSinceBoot": timeline.start_ns,
        "profilingStartTime": 0.0,
        "profilingEndTime": profile.duration_ns as f64 / 1e6,
        "processType": 0,
        "product": title,
        "stackwalk": 1,
        "version": GECKO_VERSION,
        "preprocessedProfileVersion": VERSION,
        "symbolicated": true,
        "symbolicationNotSupported": true,
        "usesOnlyOneStackType": true,
        "sourceCodeIsNotOnSearchfox": true,
        "platform": "Linux",
        "importedFrom": concat!("everytick ", env!("CARGO_PKG_VERSION")),
        "categories": categories().map(|one| category(&one)).collect::<Vec<_>>(),
        "markerSchema": [],
        "sampleUnits": { "time": "ms", "eventDelay": "ms", "threadCPUDelta": "ns" },
        "extra": [{ "label": "Recording", "entries": comments }],
    })
}

/// Returns a line about samples without a time, which are not in the file.
fn left_out(timeline: &Timeline) -> Option<Value> {
    let count = timeline.times.left_out();
    let text = format!("{count} samples are missing: their times did not fit");
    (count > 0).then(|| json!({ "label": "", "format": "string", "value": text }))
}

/// A track.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Thread {
    process_type: &'static str,
    process_startup_time: f64,
    process_shutdown_time: Option<f64>,
    register_time: f64,
    unregister_time: Option<f64>,
    paused_ranges: [(); 0],
    name: String,
    is_main_thread: bool,
    process_name: String,
    pid: String,
    tid: u32,
    samples: Samples,
    markers: Value,
}

/// The samples of a thread, in the order of their times.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Samples {
    stack: Vec<u32>,
    /// Milliseconds since the start.
    time: Vec<f64>,
    weight: Option<Vec<u64>>,
    weight_type: &'static str,
    #[serde(rename = "threadCPUDelta")]
    thread_cpu_delta: Vec<u64>,
    length: usize,
}

/// Returns the threads with samples, by process and number. Each has the names of its last sample:
/// a thread gets its own after it has started.
fn threads(profile: &Profile, timeline: &Timeline, stacks: &[u32]) -> IndexMap<(u32, u32), Thread> {
    let mut threads: IndexMap<(u32, u32), Thread> = IndexMap::new();
    for timed in timeline.times.iter() {
        let Some(sample) = profile.samples.get(timed.sample.0 as usize) else { continue };
        let task = profile.task_of(sample);
        let thread = threads
            .entry((task.pid.0, task.tid.0))
            .or_insert_with(|| Thread::new(task.pid.0, task.tid.0));
        thread.set_names(&task.comm, &task.thread);
        let since_start = timed.time_ns.saturating_sub(timeline.start_ns);
        thread.samples.push(stacks[timed.sample.0 as usize], since_start, profile.period_ns);
    }
    threads.sort_unstable_keys(); // the main thread of a process comes first
    threads
}

impl Thread {
    fn new(pid: u32, tid: u32) -> Self {
        Self {
            process_type: "default",
            process_startup_time: 0.0,
            process_shutdown_time: None,
            register_time: 0.0,
            unregister_time: None,
            paused_ranges: [],
            name: String::new(),
            is_main_thread: pid == tid,
            process_name: String::new(),
            pid: pid.to_string(),
            tid,
            samples: Samples { weight_type: "samples", ..Samples::default() },
            markers: json!({
                "data": [], "name": [], "startTime": [], "endTime": [], "phase": [],
                "category": [], "length": 0,
            }),
        }
    }

    fn set_names(&mut self, comm: &str, thread: &str) {
        let (comm, thread) = (shown(comm), shown(thread));
        if self.name != thread || self.process_name != comm {
            (self.name, self.process_name) = (thread.into_owned(), comm.into_owned());
        }
    }
}

impl Samples {
    fn push(&mut self, stack: u32, since_start_ns: u64, period_ns: u64) {
        self.stack.push(stack);
        self.time.push(since_start_ns as f64 / 1e6);
        self.thread_cpu_delta.push(period_ns);
        self.length += 1;
    }
}
