//! Hints of the summary: what limits the profile, and the next step.

use std::collections::HashMap;

use profile::{MappingKind, Pid, Profile, SampleCount, StackEnd, printable};

/// The share of samples from which on something is worth a hint.
const SHARE_MIN: f64 = 0.02;
/// Below this share of busy time the machine counts as idle.
const BUSY_MIN: f64 = 0.05;
/// Below this number of samples, percentages of functions vary much.
const SAMPLES_MIN: u64 = 100;
/// Hints of one kind.
const HINTS_MAX: usize = 3;

/// Returns hints about a profile, each in one line.
pub(super) fn hints(profile: &Profile) -> Vec<String> {
    let mut hints = Vec::new();
    hints.extend(few_samples(profile));
    hints.extend(unnamed_code(profile));
    hints.extend(cut_stacks(profile));
    hints
}

fn few_samples(profile: &Profile) -> Option<String> {
    let samples = profile.ledger.aggregated;
    if samples >= SAMPLES_MIN {
        return None;
    }
    let idle = profile.busy_share().filter(|share| share.busy() < BUSY_MIN);
    Some(match (samples, idle) {
        (0, None) => "no samples: nothing that was selected ran on a CPU".into(),
        (_, Some(share)) => {
            let idle = 100.0 * share.idle();
            format!("the machine was {idle:.1} % idle: what is shown is the little that ran")
        }
        (_, None) => "few samples: record for longer (-d), or more often (-F)".into(),
    })
}

/// Samples of one kind in one process.
type ByProcess = HashMap<Pid, u64>;

/// Returns hints about code that has no names, by process: of JIT compilers, or without symbols.
fn unnamed_code(profile: &Profile) -> Vec<String> {
    let (mut jit, mut stripped) = (ByProcess::new(), HashMap::<u32, u64>::new());
    for sample in &profile.samples {
        let Some(leaf) = profile.frames_of(sample).next() else { continue };
        match profile.mapping_of(leaf).kind {
            _ if !leaf.lines.is_empty() => {}
            MappingKind::Memory => {
                *jit.entry(profile.task_of(sample).pid).or_default() += sample.count
            }
            MappingKind::File => *stripped.entry(leaf.mapping).or_default() += sample.count,
            _ => {}
        }
    }
    let of_process = |(pid, share): (Pid, f64)| {
        format!(
            "{:.0} % of samples are in code without names of a JIT compiler, in PID {pid} ({})",
            100.0 * share,
            process_name(profile, pid)
        )
    };
    let of_file = |(mapping, share): (u32, f64)| {
        format!(
            "{:.0} % of samples are in functions without a name: {} is stripped",
            100.0 * share,
            printable(&profile.mappings[mapping as usize].name)
        )
    };
    let jit = largest(jit, profile).into_iter().map(of_process);
    jit.chain(largest(stripped, profile).into_iter().map(of_file)).collect()
}

/// Returns hints about stacks that are cut, by reason and process.
fn cut_stacks(profile: &Profile) -> Vec<String> {
    let mut counts: HashMap<(StackEnd, Pid), u64> = HashMap::new();
    for sample in &profile.samples {
        if sample.key.user_end.is_cut() {
            let pid = profile.task_of(sample).pid;
            *counts.entry((sample.key.user_end, pid)).or_default() += sample.count;
        }
    }
    let of_process = |((end, pid), share): ((StackEnd, Pid), f64)| {
        format!(
            "{:.0} % of samples have cut stacks, in PID {pid} ({}): {}; {}",
            100.0 * share,
            process_name(profile, pid),
            end.text(),
            next_step(profile, end, pid)
        )
    };
    largest(counts, profile).into_iter().map(of_process).collect()
}

/// Returns why stacks end so, or what helps.
fn next_step(profile: &Profile, end: StackEnd, pid: Pid) -> &'static str {
    let is_in_jit = |sample: &&SampleCount| {
        let outermost = profile.frames_of(sample).next_back();
        profile.task_of(sample).pid == pid
            && outermost.is_some_and(|frame| profile.mapping_of(frame).kind == MappingKind::Memory)
    };
    let has_jit = || profile.samples.iter().any(|sample| is_in_jit(&sample));
    match end {
        StackEnd::NoRow if has_jit() && is_java(profile, pid) => {
            "start Java with -XX:+PreserveFramePointer"
        }
        StackEnd::NoRow if has_jit() => {
            "its JIT compiler writes no call frame information; have it keep frame pointers"
        }
        StackEnd::NoRow => {
            "that code has no call frame information; compile it with -fno-omit-frame-pointer, or \
             do not strip .eh_frame"
        }
        StackEnd::Depth => "deeper stacks are not walked",
        StackEnd::NoTable | StackEnd::SnapshotEnd => {
            "its unwind table was not loaded yet; record for longer"
        }
        StackEnd::MappingsUnread => "it ended before its mappings were read",
        _ => "see the quality of stacks with -v",
    }
}

/// Returns whether a process runs the Java virtual machine.
fn is_java(profile: &Profile, pid: Pid) -> bool {
    let is_jvm = |sample: &&SampleCount| {
        profile.task_of(sample).pid == pid
            && profile
                .frames_of(sample)
                .any(|frame| profile.mapping_of(frame).name.ends_with("/libjvm.so"))
    };
    let has_jvm = profile.samples.iter().any(|sample| is_jvm(&sample));
    has_jvm || process_name(profile, pid) == "java"
}

fn process_name(profile: &Profile, pid: Pid) -> String {
    let task = profile.tasks.iter().find(|task| task.pid == pid);
    printable(task.map_or("", |task| &task.comm)).into_owned()
}

/// Returns those with the largest share of all samples, with their shares.
fn largest<K: Copy + Ord>(counts: HashMap<K, u64>, profile: &Profile) -> Vec<(K, f64)> {
    let all = profile.ledger.aggregated.max(1) as f64;
    let shares = counts.into_iter().map(|(key, count)| (key, count as f64 / all));
    let mut shares: Vec<(K, f64)> = shares.filter(|(_, share)| *share >= SHARE_MIN).collect();
    shares.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    shares.truncate(HINTS_MAX);
    shares
}

#[cfg(test)]
mod tests {
    use profile::{Cpu, CpuTicks, TickOutcome};

    use super::super::example::profile;
    use super::*;

    #[test]
    fn an_idle_machine_is_reported_as_idle() {
        let mut profile = profile(&[(&["main"], 4)]);
        profile.ledger.cpus = vec![CpuTicks::at_full_rate(Cpu(0), 2000, 1000)];
        profile.ledger.outcomes[TickOutcome::Delivered as usize] = 4;
        profile.ledger.outcomes[TickOutcome::SkippedIdle as usize] = 996;
        let expected = "the machine was 99.8 % idle: what is shown is the little that ran";
        assert_eq!(hints(&profile), [expected]);
        profile.ledger.outcomes[TickOutcome::SkippedIdle as usize] = 0;
        profile.ledger.outcomes[TickOutcome::SkippedProcess as usize] = 996;
        assert_eq!(hints(&profile), ["few samples: record for longer (-d), or more often (-F)"]);
    }

    #[test]
    fn code_without_names_is_attributed() {
        let profile = profile(&[(&["main"], 58), (&["main", "?"], 142)]);
        let expected =
            "71 % of samples are in code without names of a JIT compiler, in PID 12 (beam)";
        assert_eq!(hints(&profile), [expected]);
    }

    #[test]
    fn cut_stacks_have_a_reason_and_a_next_step() {
        let mut profile = profile(&[(&["main"], 150), (&["?"], 50)]);
        profile.samples[1].key.user_end = StackEnd::NoRow;
        let cut = |profile: &Profile| hints(profile).pop().unwrap_or_default();
        let start = "25 % of samples have cut stacks, in PID 12 (beam): no unwind row; ";
        assert!(
            cut(&profile).starts_with(&format!("{start}its JIT compiler")),
            "{}",
            cut(&profile)
        );
        profile.tasks[0].comm = "java".into();
        assert!(cut(&profile).ends_with("start Java with -XX:+PreserveFramePointer"));
        profile.samples[1].key.user_end = StackEnd::Depth;
        assert!(cut(&profile).ends_with("depth limit; deeper stacks are not walked"));
    }
}
