//! The lines above the picture: what was profiled, where, when and how, and how busy the machine
//! was. What the profile does not know is named as unknown.

use indexmap::IndexSet;
use profile::pprof::SampleUnit;
use profile::{CaptureContext, ClockScope, Date, Profile, pluralize};

use super::text::{CountScale, clean, percent, seconds};
use super::tree::CallTree;

/// Values of one kind, such as hosts, that are listed.
const LISTED_MAX: usize = 3;

/// The lines above the picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heading {
    pub title: String,
    pub lines: Vec<String>,
}

impl Heading {
    /// Describes a profile.
    pub fn new(profile: &Profile, tree: &CallTree<'_>, scale: CountScale) -> Self {
        let contexts: Vec<CaptureContext> =
            profile.comments.iter().filter_map(|line| CaptureContext::parse(line)).collect();
        let mut lines = vec![when_and_how(profile, &contexts), how_much(profile, &contexts, scale)];
        lines.extend(quality(profile, tree));
        Self { title: title(&contexts), lines }
    }
}

fn title(contexts: &[CaptureContext]) -> String {
    let scope = list(contexts.iter().map(|context| context.scope.clone()));
    let host = list(contexts.iter().map(|context| context.host.clone()));
    match (scope, host) {
        (Some(scope), Some(host)) => clean(&format!("CPU time on {host}: {scope}")),
        _ => "CPU time (the profile does not say of what, and on which host)".into(),
    }
}

/// Returns the distinct values in the order of their first use; `None` without any.
fn list(values: impl Iterator<Item = String>) -> Option<String> {
    let distinct: IndexSet<String> = values.collect();
    let more = distinct.len().saturating_sub(LISTED_MAX);
    let mut listed: Vec<String> = distinct.into_iter().take(LISTED_MAX).collect();
    if more > 0 {
        listed.push(format!("{more} more"));
    }
    (!listed.is_empty()).then(|| listed.join(", "))
}

fn when_and_how(profile: &Profile, contexts: &[CaptureContext]) -> String {
    let start = match profile.start_unix_ns {
        0 => "date unknown".into(),
        start => utc(start),
    };
    let duration = match profile.duration_ns {
        0 => "duration unknown".into(),
        duration => seconds(duration as f64 / 1e9),
    };
    let frequency = list(contexts.iter().map(|context| format!("{} Hz", context.frequency)));
    let frequency = frequency.unwrap_or_else(|| "frequency unknown".into());
    let machine = list(
        contexts.iter().map(|context| format!("{}, Linux {}", context.cpus_text(), context.kernel)),
    );
    let machine = machine.map_or_else(String::new, |machine| format!(" on {machine}"));
    clean(&format!("{start}, {duration} at {frequency}{machine}"))
}

/// Formats a time as `2026-11-25 01:44:00 UTC`.
fn utc(unix_ns: u64) -> String {
    let seconds = unix_ns / 1_000_000_000;
    let Date { year, month, day } = Date::from_days_since_1970((seconds / 86_400) as i64);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

fn how_much(profile: &Profile, contexts: &[CaptureContext], scale: CountScale) -> String {
    let total: u64 = profile.samples.iter().map(|sample| sample.count).sum();
    let samples = match scale.unit {
        SampleUnit::Samples => pluralize(total, "sample", "samples"),
        SampleUnit::Microseconds => "samples at several frequencies".into(),
    };
    let time = scale.time(total);
    let machine = match profile.busy_share() {
        Some(share) => {
            let selected = contexts.iter().find(|context| context.selects_cpus);
            let subject = selected.or(contexts.first());
            format!("{} {share}", subject.map_or("the machine was", CaptureContext::busy_subject))
        }
        None if profile.ledger.clocks == ClockScope::Tasks => {
            "how busy the machine was is unknown: only selected tasks had clocks".into()
        }
        None => "how busy the machine was is unknown: the profile has no ledger".into(),
    };
    format!("{samples} = {time} of CPU time; {machine}")
}

/// Returns what the picture lacks, in one line; `None` if nothing.
fn quality(profile: &Profile, tree: &CallTree<'_>) -> Option<String> {
    let total: u64 = profile.samples.iter().map(|sample| sample.count).sum();
    let ledger = &profile.ledger;
    if total == 0 && ledger.clocks == ClockScope::Tasks && ledger.due() > 0 {
        let absent = ledger.due() - ledger.ticks();
        return Some(format!("no samples: {absent} due ticks did not come"));
    }
    if total == 0 {
        return Some("no samples: nothing that was selected ran on a CPU".into());
    }
    let share =
        |part: u64, what: &str| (part > 0).then(|| format!("{} with {what}", percent(part, total)));
    let count = |ticks: u64, one: &str, many: &str, what: &str| {
        (ticks > 0).then(|| format!("{} {what}", pluralize(ticks, one, many)))
    };
    let parts = [
        share(tree.cut, "cut stacks"),
        share(tree.guessed, "guessed frames"),
        count(ledger.lost_total(), "sample", "samples", "lost"),
        count(ledger.not_sampled_total(), "due tick", "due ticks", "not sampled"),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}
