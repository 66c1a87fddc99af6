//! What must hold after the attacks, by counts of the test's own.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use profile::pprof::proto::Profile;

use super::common::agent::{Agent, comments, functions, labels, text};
use super::common::{Running, parse_ledger};

/// The bystander's stack, innermost first.
const STACK: [&str; 5] = ["spin", "c", "b", "a", "main"];
/// Largest difference between the bystander's share of samples and of CPU time, in points.
const POINTS_MAX: f64 = 5.0;
/// Least share of the bystander's stacks that are complete and named, in %.
const WHOLE_MIN: f64 = 97.0;
/// Ticks of a CPU in each second at the lowest sampling rate.
const FLOOR_HZ: f64 = 1.0;

/// CPU time in clock ticks of the kernel.
pub struct CpuTimes {
    bystander: u64,
    busy: u64,
}

impl CpuTimes {
    /// Reads the CPU time of a process and of the machine so far.
    pub fn read(bystander: &Running) -> Self {
        let stat = fs::read_to_string(format!("/proc/{}/stat", bystander.pid())).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let of = |fields: &str, at: usize| -> u64 {
            fields.split_whitespace().nth(at).unwrap().parse().unwrap()
        };
        let machine = fs::read_to_string("/proc/stat").unwrap();
        let cpu = machine.lines().next().unwrap();
        // user, nice, system, idle, iowait, irq, softirq, steal
        let busy = [1, 2, 3, 6, 7].map(|at| of(cpu, at)).iter().sum();
        Self { bystander: of(fields, 11) + of(fields, 12), busy }
    }

    pub fn since(&self, before: &Self) -> Self {
        Self { bystander: self.bystander - before.bystander, busy: self.busy - before.busy }
    }

    fn percent(&self) -> f64 {
        100.0 * self.bystander as f64 / self.busy as f64
    }
}

/// Asserts that health and readiness answer.
pub fn assert_probes_answer(agent: &Agent) {
    for path in ["/healthz", "/readyz"] {
        let (status, body) = agent.page(path);
        assert_eq!(status, 200, "{path}: {body}\n{}", agent.log());
    }
}

/// Asserts that each window accounts for every tick that the configured frequency calls for, by
/// the test's own count, and was sampled at the floor at least. Returns the mean frequency.
pub fn assert_ledgers_close(windows: &[Profile], hz: u32) -> f64 {
    let cpus = std::thread::available_parallelism().unwrap().get() as u32;
    let (mut all_ticks, mut all_seconds) = (0.0, 0.0);
    for window in windows {
        let seconds = window.duration_nanos as f64 / 1e9;
        let ledger = parse_ledger(comments(window).into_iter());
        let [due, ticks, missed, not_sampled] =
            ["due", "ticks", "missed", "not sampled"].map(|name| ledger[name]);
        assert_eq!(due, ticks + missed + not_sampled, "{:?}", comments(window));
        let called_for = seconds * f64::from(hz * cpus);
        let off = (due as f64 - called_for).abs();
        assert!(off <= called_for * 0.02 + f64::from(2 * cpus), "{due} of {called_for}");
        let floor = seconds * FLOOR_HZ * f64::from(cpus);
        let had = (ticks + missed) as f64;
        assert!(had >= floor * 0.9 - 1.0, "{had} ticks in {seconds} s: {:?}", comments(window));
        all_ticks += ticks as f64;
        all_seconds += seconds * f64::from(cpus);
    }
    all_ticks / all_seconds
}

/// Asserts that the bystander's share of samples, weighted by the period of each window, is that
/// of its CPU time, and that its stacks are complete and named. Describes both.
pub fn assert_bystander(
    windows: &[Profile],
    attack: &Range<SystemTime>,
    truth: &CpuTimes,
) -> String {
    let (mut all, mut own, mut complete) = (0, 0, 0);
    let mut others = BTreeMap::<String, i64>::new();
    for (at, window) in windows.iter().enumerate() {
        if !is_within(window, attack) {
            continue;
        }
        for (number, sample) in window.sample.iter().enumerate() {
            let nanoseconds = sample.value[1];
            all += nanoseconds;
            if labels(window, number).get("comm") != Some(&"bystander") {
                continue;
            }
            own += nanoseconds;
            let names = functions(window, &sample.location_id);
            let has_stack = names.windows(STACK.len()).any(|part| part == STACK);
            match has_stack {
                true => complete += nanoseconds,
                false => {
                    let description = describe(window, number, &names);
                    *others.entry(format!("window {at}: {description}")).or_default() +=
                        nanoseconds;
                }
            }
        }
    }
    assert!(all > 0, "no window within the attack: {:?}", spans(windows, attack.start));
    let (percent, true_percent) = (100.0 * own as f64 / all as f64, truth.percent());
    let whole = 100.0 * complete as f64 / own as f64;
    let line =
        format!("{percent:.1} % of samples, {true_percent:.1} % of CPU time, {whole:.1} % whole");
    assert!((percent - true_percent).abs() <= POINTS_MAX, "{line}");
    assert!(whole >= WHOLE_MIN, "{line}: {others:?}");
    line
}

/// Returns when each window begins and how long it is, in seconds.
fn spans(windows: &[Profile], since: SystemTime) -> Vec<(f64, f64)> {
    let since = since.duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let span = |w: &Profile| (w.time_nanos as f64 / 1e9 - since, w.duration_nanos as f64 / 1e9);
    windows.iter().map(span).collect()
}

/// Describes a stack that is not whole: why it was cut, its names, and the files of its frames.
fn describe(window: &Profile, number: usize, names: &[&str]) -> String {
    let cut = labels(window, number).get("cut").copied().unwrap_or("complete");
    let file = |id: &u64| {
        let location = window.location.iter().find(|location| location.id == *id).unwrap();
        let mapping = window.mapping.iter().find(|mapping| mapping.id == location.mapping_id);
        let name = mapping.map_or("no mapping", |mapping| text(window, mapping.filename));
        format!("{name}+{:#x}", location.address)
    };
    let files: Vec<String> = window.sample[number].location_id.iter().map(file).collect();
    format!("{cut}: {} ({})", names.join(";"), files.join(";"))
}

fn is_within(window: &Profile, span: &Range<SystemTime>) -> bool {
    let start = UNIX_EPOCH + Duration::from_nanos(window.time_nanos as u64);
    let end = start + Duration::from_nanos(window.duration_nanos as u64);
    start >= span.start && end <= span.end
}

/// What counts each attack, as the start of a series.
const COUNTS: [(&str, &str); 4] = [
    ("requests", "everytick_http_refused_total"),
    ("mappings and executables", "everytick_process_refusals_total"),
    ("storms of processes", "everytick_process_events_skipped_total"),
    ("enormous names", "everytick_names_cut_total"),
];

/// Asserts that each attack was refused and counted. Returns the metrics of what was.
pub fn assert_refused(agent: &Agent) -> String {
    let (_, page) = agent.page("/metrics");
    let value = |series: &str| -> f64 {
        let lines = page.lines().filter(|line| line.starts_with(series));
        lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
    };
    for (attack, series) in COUNTS {
        assert!(value(series) > 0.0, "{attack}: nothing was refused\n{page}");
    }
    let is_refusal = |line: &&str| {
        !line.starts_with('#')
            && !line.ends_with(" 0")
            && ["refus", "limited", "skipped", "cut", "not_sampled", "unsymbolized", "merged"]
                .iter()
                .any(|word| line.contains(word))
    };
    page.lines().filter(is_refusal).collect::<Vec<_>>().join("\n")
}
