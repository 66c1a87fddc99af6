//! Hints of the summary: what limits the profile, and the next step.

use std::collections::{HashMap, HashSet};

use profile::{
    CaptureContext, ClockScope, InterpretedLanguage, Mapping, MappingKind, NotSampled, Pid,
    Profile, SampleCount, StackEnd, printable,
};

use super::jit_names;
use crate::symbolization::{UnsymbolizedReason, WindowNames};

/// The share of samples from which on something is worth a hint.
const SHARE_MIN: f64 = 0.02;
/// Below this share of busy time the machine counts as idle.
const BUSY_MIN: f64 = 0.05;
/// Below this number of samples, percentages of functions vary much.
const SAMPLES_MIN: u64 = 100;
/// The share of time without samples from which on it is worth a hint.
const UNSAMPLED_MIN: f64 = 0.1;
/// Hints of one kind.
const HINTS_MAX: usize = 3;

/// What hints are derived from.
pub(super) struct Hints<'a> {
    pub profile: &'a Profile,
    pub context: &'a CaptureContext,
    pub names: &'a WindowNames,
    /// Returns the package with the debug symbols of each file.
    pub debug_packages: &'a dyn Fn(&[&Mapping]) -> Vec<Option<String>>,
}

impl Hints<'_> {
    /// Returns all hints, each in one line.
    pub fn all(&self) -> Vec<String> {
        let mut hints = Vec::new();
        let unsampled = time_without_samples(self.profile);
        if self.profile.ledger.aggregated > 0 || unsampled.is_none() {
            hints.extend(few_samples(self.profile, self.context));
        }
        hints.extend(unsampled);
        hints.extend(self.unnamed_code());
        hints.extend(unnamed_interpreted(self.profile));
        hints.extend(cut_stacks(self.profile));
        hints
    }

    /// Returns hints about code that has no names: of JIT compilers, by process, or in files
    /// without symbols. Notes have the files that could not be read.
    fn unnamed_code(&self) -> Vec<String> {
        let profile = self.profile;
        let is_wanted = self.names.counts.of(UnsymbolizedReason::NotWanted) == 0;
        let is_read = |file: &Mapping| {
            is_wanted && !self.names.failed.iter().any(|failed| *failed.executable == file.name)
        };
        let (mut jit, mut stripped) = (ByProcess::new(), HashMap::<u32, u64>::new());
        let mut named_jit = HashSet::new();
        for sample in &profile.samples {
            let Some(leaf) = profile.frames_of(sample).next() else { continue };
            let mapping = profile.mapping_of(leaf);
            match mapping.kind {
                MappingKind::Memory if !leaf.lines.is_empty() => {
                    named_jit.insert(profile.task_of(sample).pid);
                }
                _ if !leaf.lines.is_empty() => {}
                MappingKind::Memory => {
                    *jit.entry(profile.task_of(sample).pid).or_default() += sample.count
                }
                MappingKind::File if is_read(mapping) => {
                    *stripped.entry(leaf.mapping).or_default() += sample.count
                }
                _ => {}
            }
        }
        jit.retain(|pid, _| !named_jit.contains(pid));
        let jit = largest(jit, profile).into_iter().map(|(pid, share)| {
            format!(
                "{:.0} % of samples are in code without names of a JIT compiler, in PID {pid} \
                 ({}); {}",
                100.0 * share,
                process_name(profile, pid),
                jit_names::next_step(profile, pid)
            )
        });
        jit.chain(self.stripped_files(&largest(stripped, profile))).collect()
    }

    /// Returns hints about files without symbols, given as mappings with their shares of samples.
    fn stripped_files(&self, shares: &[(u32, f64)]) -> Vec<String> {
        let file = |(mapping, _): &(u32, f64)| &self.profile.mappings[*mapping as usize];
        let files: Vec<&Mapping> = shares.iter().map(file).collect();
        let packages = if files.is_empty() { Vec::new() } else { (self.debug_packages)(&files) };
        let hint = |((file, (_, share)), package): ((&&Mapping, &(u32, f64)), Option<String>)| {
            let install = package.map_or(String::new(), |package| format!("; install {package}"));
            format!(
                "{:.0} % of samples are in functions without a name: {} is stripped{install}",
                100.0 * share,
                printable(&file.name)
            )
        };
        files.iter().zip(shares).zip(packages).map(hint).collect()
    }
}

/// Returns a hint about a profile with few samples, or of a whole machine that was idle.
fn few_samples(profile: &Profile, context: &CaptureContext) -> Option<String> {
    let (samples, emitted) = (profile.ledger.aggregated, profile.ledger.emitted());
    let idle = profile.busy_share().filter(|share| share.busy() < BUSY_MIN);
    let is_all_that_ran = idle.is_some_and(|share| share.busy == emitted);
    if samples >= SAMPLES_MIN && !is_all_that_ran {
        return None;
    }
    Some(match (samples, idle) {
        (0, None) if profile.ledger.clocks == ClockScope::Tasks => {
            "no samples: what was selected did not run on a CPU, or not as this user".into()
        }
        (0, None) => "no samples: nothing that was selected ran on a CPU".into(),
        (_, Some(share)) => {
            let idle = 100.0 * share.idle();
            let subject = context.busy_subject();
            format!("{subject} {idle:.1} % idle: what is shown is the little that ran")
        }
        (_, None) => "few samples: record for longer (-d), or more often (-F)".into(),
    })
}

/// Returns a hint if clocks of tasks ran for much time of which there is no sample.
fn time_without_samples(profile: &Profile) -> Option<String> {
    let ledger = &profile.ledger;
    let share = (ledger.due() - ledger.ticks()) as f64 / ledger.due().max(1) as f64;
    if ledger.clocks != ClockScope::Tasks || share < UNSAMPLED_MIN {
        return None;
    }
    let is_kernel_denied = ledger.not_sampled(NotSampled::KernelCode) > 0;
    let kernel = if is_kernel_denied { "kernel code, and " } else { "" };
    Some(format!(
        "{:.0} % of the CPU time has no sample: {kernel}tasks that ran for less than {:.1} ms on a \
         CPU, which a higher -F samples",
        100.0 * share,
        profile.period_ns as f64 / 1e6
    ))
}

/// Samples of one kind in one process.
type ByProcess = HashMap<Pid, u64>;

/// Returns hints about functions that an interpreter runs and that have no names, by process.
fn unnamed_interpreted(profile: &Profile) -> Vec<String> {
    let mut counts: HashMap<(InterpretedLanguage, Pid), u64> = HashMap::new();
    for sample in &profile.samples {
        let leaf = profile.frames_of(sample).next().filter(|leaf| leaf.lines.is_empty());
        if let Some(MappingKind::Interpreted(language)) =
            leaf.map(|leaf| profile.mapping_of(leaf).kind)
        {
            *counts.entry((language, profile.task_of(sample).pid)).or_default() += sample.count;
        }
    }
    let of_process = |((language, pid), share): ((InterpretedLanguage, Pid), f64)| {
        format!(
            "{:.0} % of samples are in {} functions without a name, in PID {pid} ({})",
            100.0 * share,
            language.name(),
            process_name(profile, pid)
        )
    };
    largest(counts, profile).into_iter().map(of_process).collect()
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
        StackEnd::NoRow if has_jit() && jit_names::is_java(profile, pid) => {
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
        StackEnd::SnapshotEnd if profile.ledger.clocks == ClockScope::Tasks => {
            "perf copies no more of a stack; with capabilities it is walked in the kernel"
        }
        StackEnd::NoTable | StackEnd::SnapshotEnd => {
            "its unwind table was not loaded yet; record for longer"
        }
        StackEnd::MappingsUnread => "it ended before its mappings were read",
        StackEnd::BadReturnAddress | StackEnd::NoMapping => {
            "its call frame information may be wrong: check it with `everytick verify`"
        }
        StackEnd::NotExpressible => "its call frame information has what is not supported",
        StackEnd::Unreadable => "its stack was not in memory",
        StackEnd::ThirtyTwoBit => "such code is not unwound",
        StackEnd::TimeLimit => "a tick had no more time for it",
        StackEnd::MappingReplaced => "it loaded other code while it was sampled",
        StackEnd::Absent | StackEnd::Complete | StackEnd::Guessed | StackEnd::KernelUnavailable => {
            "the kernel returned none"
        }
    }
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
    use profile::{Cpu, CpuTicks, Line, TickOutcome};

    use super::super::example::profile;
    use super::*;
    use crate::symbolization::{SymbolizeError, UnsymbolizedExecutable};

    const LINE: Line = Line { function: 0, line: 1 };

    /// Returns hints where one program is of a known package. `failed`: a file that was not read.
    fn hints_with(profile: &Profile, selects_cpus: bool, failed: &str) -> Vec<String> {
        let context = CaptureContext {
            host: "h".into(),
            kernel: "6".into(),
            frequency: 99,
            clocks: ClockScope::Cpus,
            cpus: 2,
            selects_cpus,
            scope: CaptureContext::WHOLE_MACHINE.into(),
        };
        let failed =
            UnsymbolizedExecutable { executable: failed.into(), reason: SymbolizeError::TooSlow };
        let names = WindowNames { failed: vec![failed], ..WindowNames::default() };
        let debug_packages = |files: &[&Mapping]| {
            let is_known = |file: &&Mapping| file.name == "/bin/program";
            files.iter().map(|file| is_known(file).then(|| "program-dbgsym".into())).collect()
        };
        Hints { profile, context: &context, names: &names, debug_packages: &debug_packages }.all()
    }

    fn hints(profile: &Profile) -> Vec<String> {
        hints_with(profile, false, "")
    }

    #[test]
    fn an_idle_machine_is_reported_as_idle() {
        let mut profile = profile(&[(&["main"], 4)]);
        profile.ledger.cpus = vec![CpuTicks::at_full_rate(Cpu(0), 2000, 1000)];
        profile.ledger.outcomes[TickOutcome::Delivered as usize] = 4;
        profile.ledger.outcomes[TickOutcome::SkippedIdle as usize] = 996;
        let expected = "the machine was 99.8 % idle: what is shown is the little that ran";
        assert_eq!(hints(&profile), [expected]);
        let expected = "the selected CPUs were 99.8 % idle: what is shown is the little that ran";
        assert_eq!(hints_with(&profile, true, ""), [expected]);
        profile.ledger.outcomes[TickOutcome::SkippedIdle as usize] = 0;
        profile.ledger.outcomes[TickOutcome::SkippedProcess as usize] = 996;
        assert_eq!(hints(&profile), ["few samples: record for longer (-d), or more often (-F)"]);
    }

    #[test]
    fn many_samples_of_an_idle_machine_are_the_little_that_ran() {
        let mut profile = profile(&[(&["main"], 120)]);
        profile.ledger.cpus = vec![CpuTicks::at_full_rate(Cpu(0), 10_000, 10_000)];
        profile.ledger.outcomes[TickOutcome::Delivered as usize] = 120;
        profile.ledger.outcomes[TickOutcome::SkippedIdle as usize] = 9_880;
        let expected = "the machine was 98.8 % idle: what is shown is the little that ran";
        assert_eq!(hints(&profile), [expected]);
        // A part of the machine is not what its idle time is about.
        profile.ledger.outcomes[TickOutcome::SkippedIdle as usize] = 9_870;
        profile.ledger.outcomes[TickOutcome::SkippedProcess as usize] = 10;
        assert_eq!(hints(&profile), [""; 0]);
    }

    #[test]
    fn code_without_names_is_attributed() {
        let mut profile = profile(&[(&["main"], 58), (&["main", "?"], 142)]);
        let expected = "71 % of samples are in code without names of a JIT compiler, in PID 12 \
                        (beam); start Erlang with +JPperf map";
        assert_eq!(hints(&profile), [expected]);
        profile.frames[1].lines = profile.frames[0].lines.clone();
        profile.samples.push(profile.samples[1]);
        assert_eq!(hints(&profile), [""; 0], "the compiler writes names");
    }

    #[test]
    fn python_functions_without_names_are_no_code_of_a_jit_compiler() {
        let mut profile = profile(&[(&["main"], 150), (&["main", "?"], 50)]);
        let python = MappingKind::Interpreted(InterpretedLanguage::Python);
        profile.mappings[1] = Mapping::new("[python]", None, python);
        let expected = "25 % of samples are in Python functions without a name, in PID 12 (beam)";
        assert_eq!(hints(&profile), [expected]);
        profile.samples[1].key.user_end = StackEnd::NoRow;
        assert!(!hints(&profile).concat().contains("JIT"), "{:?}", hints(&profile));
        profile.samples[1].key.user_end = StackEnd::Complete;
        profile.frames.iter_mut().for_each(|frame| frame.lines = vec![LINE]);
        assert_eq!(hints(&profile), [""; 0]);
    }

    #[test]
    fn stripped_files_have_the_package_of_their_debug_symbols() {
        let mut profile = profile(&[(&["main"], 62), (&["main"], 38)]);
        let unnamed = profile.stacks[1][0] as usize;
        profile.frames[unnamed].lines.clear();
        let expected = "38 % of samples are in functions without a name: /bin/program is stripped";
        assert_eq!(hints(&profile), [format!("{expected}; install program-dbgsym")]);
        assert_eq!(hints_with(&profile, false, "/bin/program"), [""; 0]);
        profile.mappings[0].name = "/opt/\u{1b}x".into();
        assert!(hints(&profile)[0].ends_with("/opt/\\u{1b}x is stripped"), "{:?}", hints(&profile));
    }

    #[test]
    fn time_of_tasks_without_samples_is_explained() {
        let mut profile = profile(&[(&["main"], 150)]);
        profile.period_ns = 10_101_010;
        let mut cpu = CpuTicks::at_full_rate(Cpu(0), 200, 150);
        profile.ledger.cpus = vec![cpu];
        assert_eq!(time_without_samples(&profile), None, "missed ticks of a CPU are idle");
        profile.ledger.clocks = ClockScope::Tasks;
        let tasks = "tasks that ran for less than 10.1 ms on a CPU, which a higher -F samples";
        let expected = format!("25 % of the CPU time has no sample: {tasks}");
        assert_eq!(time_without_samples(&profile), Some(expected));
        cpu.attribute_missed(NotSampled::KernelCode);
        profile.ledger.cpus = vec![cpu];
        let expected = format!("25 % of the CPU time has no sample: kernel code, and {tasks}");
        assert_eq!(time_without_samples(&profile), Some(expected));
        profile.ledger.cpus = vec![CpuTicks::at_full_rate(Cpu(0), 160, 150)];
        assert_eq!(time_without_samples(&profile), None);
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
        profile.samples[1].key.user_end = StackEnd::BadReturnAddress;
        assert!(cut(&profile).ends_with("may be wrong: check it with `everytick verify`"));
        profile.samples[1].key.user_end = StackEnd::SnapshotEnd;
        assert!(cut(&profile).ends_with("not loaded yet; record for longer"));
        profile.ledger.clocks = ClockScope::Tasks;
        assert!(cut(&profile).contains("perf copies no more of a stack"));
    }
}
