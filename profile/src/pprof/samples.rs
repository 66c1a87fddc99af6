//! The samples of a pprof message, with their labels.

use indexmap::{IndexMap, IndexSet};

use super::proto;
use super::string_table::StringTable;
use crate::labels::{COMM, CUT, GUESSED, THREAD};
use crate::{Labels, Profile, SampleCount, StackEnd};

/// Value of the label `guessed`.
const BY_FRAME_POINTERS: &str = "frame pointers";
/// Separator between the reasons of a stack whose kernel and user parts are both cut.
const AND: &str = "; ";

/// By which labels samples are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleGrouping {
    /// By number and name of process and thread, and number of the cgroup: what `record` writes.
    ByThread,
    /// By the labels of the task only: what the agent sends. Equal samples become one.
    BySeries,
}

/// Returns the samples with their labels. The location id of a frame is its index plus 1.
pub(super) fn samples(
    profile: &Profile,
    grouping: SampleGrouping,
    strings: &mut StringTable,
) -> Vec<proto::Sample> {
    match grouping {
        SampleGrouping::ByThread => by_thread(profile, strings),
        SampleGrouping::BySeries => by_series(profile, strings),
    }
}

fn by_thread(profile: &Profile, strings: &mut StringTable) -> Vec<proto::Sample> {
    let one = |sample: &SampleCount| {
        let labels = labels_of_thread(profile, sample, strings);
        sample_of(profile, sample.key.stack.0, sample.count, labels)
    };
    profile.samples.iter().map(one).collect()
}

fn by_series(profile: &Profile, strings: &mut StringTable) -> Vec<proto::Sample> {
    let mut distinct: IndexSet<&Labels> = IndexSet::new();
    let series: Vec<usize> =
        profile.tasks.iter().map(|task| distinct.insert_full(&task.labels).0).collect();
    let mut counts: IndexMap<(usize, u32, Option<String>, bool), u64> = IndexMap::new();
    for SampleCount { key, count } in &profile.samples {
        let cut = cut_text(key.kernel_end, key.user_end);
        let alike = (series[key.task.0 as usize], key.stack.0, cut, key.guessed);
        *counts.entry(alike).or_default() += count;
    }
    let mut out = Vec::with_capacity(counts.len());
    for ((series, stack, cut, guessed), count) in counts {
        let mut labels: Vec<proto::Label> =
            distinct[series].iter().map(|(key, value)| text(strings, key, value)).collect();
        labels.extend(quality(cut.as_deref(), guessed, strings));
        out.push(sample_of(profile, stack, count, labels));
    }
    out
}

fn sample_of(profile: &Profile, stack: u32, count: u64, label: Vec<proto::Label>) -> proto::Sample {
    let stack = &profile.stacks[stack as usize];
    proto::Sample {
        location_id: stack.iter().map(|frame| u64::from(*frame) + 1).collect(),
        value: vec![count as i64, count.saturating_mul(profile.period_ns) as i64],
        label,
    }
}

fn labels_of_thread(
    profile: &Profile,
    sample: &SampleCount,
    strings: &mut StringTable,
) -> Vec<proto::Label> {
    let task = profile.task_of(sample);
    let mut out = vec![
        number(strings, "pid", task.pid.0.into()),
        number(strings, "tid", task.tid.0.into()),
        number(strings, "cgroup_id", task.cgroup_id),
        text(strings, COMM, &task.comm),
        text(strings, THREAD, &task.thread),
    ];
    let cut = cut_text(sample.key.kernel_end, sample.key.user_end);
    out.extend(quality(cut.as_deref(), sample.key.guessed, strings));
    out
}

/// Returns the labels about the quality of a stack.
fn quality(cut: Option<&str>, guessed: bool, strings: &mut StringTable) -> Vec<proto::Label> {
    let guessed = guessed.then_some((GUESSED, BY_FRAME_POINTERS));
    let labels = cut.map(|cut| (CUT, cut)).into_iter().chain(guessed);
    labels.map(|(key, value)| text(strings, key, value)).collect()
}

fn number(strings: &mut StringTable, key: &str, num: u64) -> proto::Label {
    proto::Label { key: strings.intern(key), num: num as i64, ..proto::Label::default() }
}

fn text(strings: &mut StringTable, key: &str, value: &str) -> proto::Label {
    proto::Label { key: strings.intern(key), str: strings.intern(value), ..proto::Label::default() }
}

/// Returns the value of the label `cut`; `None` if the stack is complete.
fn cut_text(kernel_end: StackEnd, user_end: StackEnd) -> Option<String> {
    let parts: Vec<String> = [("kernel", kernel_end), ("user", user_end)]
        .into_iter()
        .filter(|(_, end)| end.is_cut())
        .map(|(part, end)| format!("{part}: {}", end.text()))
        .collect();
    (!parts.is_empty()).then(|| parts.join(AND))
}

/// Parses the label `cut`: the ends of the kernel and the user part. An unknown reason is read as
/// [`StackEnd::NoRow`], because the stack must not pass for complete.
pub(super) fn read_cut(text: &str) -> (StackEnd, StackEnd) {
    let mut ends = (StackEnd::Complete, StackEnd::Complete);
    for part in text.split(AND) {
        let (name, reason) = part.split_once(": ").unwrap_or(("user", part));
        let end = StackEnd::ALL.iter().find(|end| end.is_cut() && end.text() == reason);
        let end = end.copied().unwrap_or(StackEnd::NoRow);
        *(if name == "kernel" { &mut ends.0 } else { &mut ends.1 }) = end;
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_cut_labels_it_writes() {
        for kernel in StackEnd::ALL {
            for user in StackEnd::ALL {
                let whole = |end: StackEnd| if end.is_cut() { end } else { StackEnd::Complete };
                let Some(text) = cut_text(*kernel, *user) else { continue };
                assert_eq!(read_cut(&text), (whole(*kernel), whole(*user)), "{text}");
            }
        }
        assert_eq!(read_cut("of a later version"), (StackEnd::Complete, StackEnd::NoRow));
    }
}
