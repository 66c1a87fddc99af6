//! Profiles are converted to pprof messages, added up and read back: nothing is lost, and nothing
//! is counted twice.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use profile::pprof::proto;
use profile::pprof::{
    MergeError, SampleGrouping, SampleUnit, compress, decode, from_message, merge, to_message,
};
use profile::{
    BuildId, CaptureLedger, FileAddr, Function, InterpretedLanguage, Labels, Line, Mapping,
    MappingKind, Pid, Profile, SampleCount, SampleKey, StackEnd, StackId, SymbolizedFrame, Task,
    TaskId, Tid,
};
use proptest::prelude::*;

const PERIOD_NS: u64 = 10_101_010;
const COMMS: [&str; 4] = ["nginx", "a;b", "\u{20ac}", ""];
/// Mapping, address, and functions of each frame, innermost first.
const FRAMES: [(u32, u64, &[u32]); 11] = [
    (0, 0x10, &[0]),
    (0, 0x20, &[1, 0]),
    (0, 0x20, &[]),
    (1, 0x20, &[]),
    (1, 0x30, &[2]),
    (2, 0x30, &[2]),
    (3, 0, &[0]),
    (3, 0, &[1]),
    (4, 0x20, &[1, 0]),
    (5, 0xffff_ffff_8100_0000, &[3]),
    (5, 0xffff_ffff_8100_0001, &[]),
];

fn mappings() -> Vec<Mapping> {
    let build_id = |byte| BuildId::new(&[byte; 20]);
    let mapping = |name: &str, build_id, kind| Mapping { name: name.into(), build_id, kind };
    let app = mapping("/bin/app", build_id(1), MappingKind::File);
    let python = MappingKind::Interpreted(InterpretedLanguage::Python);
    vec![
        app.clone(),
        mapping("/bin/app", build_id(2), MappingKind::File),
        mapping("[jit]", None, MappingKind::Memory),
        mapping("[python]", None, python),
        app.machinery(),
        mapping("[kernel.kallsyms]", build_id(3), MappingKind::Kernel),
    ]
}

fn functions() -> Vec<Function> {
    let function = |name: &str, file: &str| Function {
        name: name.into(),
        system_name: format!("_{name}"),
        file: file.into(),
        start_line: name.len() as u32,
    };
    vec![function("main", "m.c"), function("inner", "m.c"), function("f", ""), function("idle", "")]
}

fn frames() -> Vec<SymbolizedFrame> {
    let line = |function: &u32| Line { function: *function, line: function * 7 };
    let frame = |(mapping, address, functions): &(u32, u64, &[u32])| SymbolizedFrame {
        mapping: *mapping,
        address: FileAddr(*address),
        lines: functions.iter().map(line).collect(),
    };
    FRAMES.iter().map(frame).collect()
}

fn task(tid: u32, comm: &str, pod: u32) -> Task {
    let pod = if pod == 0 { String::new() } else { format!("pod-{pod}") };
    Task {
        pid: Pid(tid / 4),
        tid: Tid(tid),
        comm: comm.into(),
        thread: format!("t{tid}").into(),
        cgroup_id: u64::MAX - u64::from(tid),
        labels: Arc::new(Labels::from([("comm", comm), ("pod_uid", pod.as_str()), ("node", "n")])),
    }
}

fn ends() -> impl Strategy<Value = StackEnd> {
    // An absent and a complete part of a stack have the same labels.
    prop::sample::select(&StackEnd::ALL[1..])
}

prop_compose! {
    fn samples()(
        task in 0..6u32,
        stack in 0..6u32,
        kernel_end in ends(),
        user_end in ends(),
        guessed in any::<bool>(),
        count in 1..1000u64,
    ) -> SampleCount {
        let (task, stack) = (TaskId(task), StackId(stack));
        SampleCount { key: SampleKey { task, stack, kernel_end, user_end, guessed }, count }
    }
}

prop_compose! {
    fn profiles(period_ns: u64)(
        tasks in prop::collection::vec((0..8u32, prop::sample::select(COMMS.to_vec()), 0..3u32), 6),
        // As in a window, stacks are distinct.
        stacks in prop::collection::btree_set(
            prop::collection::vec(0..FRAMES.len() as u32, 0..5),
            6,
        ),
        samples in prop::collection::vec(samples(), 0..20),
        start in 1..100u64,
        aggregated in 0..1000u64,
    ) -> Profile {
        Profile {
            start_unix_ns: start * 1_000_000_000,
            duration_ns: 1_000_000_000,
            period_ns,
            mappings: mappings(),
            functions: functions(),
            frames: frames(),
            stacks: stacks.into_iter().map(Vec::into_boxed_slice).collect(),
            tasks: tasks.into_iter().map(|(tid, comm, pod)| task(tid, comm, pod)).collect(),
            samples,
            ledger: ledger(aggregated),
            comments: vec!["everytick".into(), format!("window {start}")],
            timeline: None,
        }
    }
}

fn ledger(aggregated: u64) -> CaptureLedger {
    let text = format!(
        "due {aggregated} = ticks {aggregated} + missed 0 + not sampled 0\n\
         ticks {aggregated} = emitted {aggregated} + skipped 0\n\
         emitted {aggregated} = aggregated {aggregated} + lost 0"
    );
    let lines: Vec<&str> = text.lines().collect();
    CaptureLedger::parse(lines.try_into().unwrap()).unwrap()
}

/// The sums of values by stack and labels, as text.
type Totals = BTreeMap<(Vec<String>, Vec<String>), Vec<i64>>;

fn totals<'a>(messages: impl IntoIterator<Item = &'a proto::Profile>) -> Totals {
    let mut totals = Totals::new();
    for message in messages {
        for sample in &message.sample {
            let stack = sample.location_id.iter().map(|id| frame_text(message, *id)).collect();
            let mut labels: Vec<String> =
                sample.label.iter().map(|label| label_text(message, label)).collect();
            labels.sort();
            let sums = totals.entry((stack, labels)).or_insert(vec![0; sample.value.len()]);
            sums.iter_mut().zip(&sample.value).for_each(|(sum, value)| *sum += value);
        }
    }
    totals
}

fn text(message: &proto::Profile, index: i64) -> &str {
    &message.string_table[index as usize]
}

fn label_text(message: &proto::Profile, label: &proto::Label) -> String {
    format!("{}={}{}", text(message, label.key), text(message, label.str), label.num)
}

fn frame_text(message: &proto::Profile, id: u64) -> String {
    let location = message.location.iter().find(|location| location.id == id).unwrap();
    let mapping = message.mapping.iter().find(|m| m.id == location.mapping_id).unwrap();
    let (file, build_id) = (text(message, mapping.filename), text(message, mapping.build_id));
    let mut frame = format!("{file} {build_id} {:x}", location.address);
    for line in &location.line {
        let function = message.function.iter().find(|f| f.id == line.function_id).unwrap();
        let name = [function.name, function.system_name, function.filename];
        frame += &format!(" {:?}:{}", name.map(|index| text(message, index)), line.line);
    }
    frame
}

/// Asserts what profile stores require: consecutive ids, nothing twice, flags that are true.
fn assert_valid(message: &proto::Profile) {
    assert_eq!(&decode(&compress(message), 1 << 24).unwrap(), message);
    let in_order = |ids: Vec<u64>| assert!(ids.iter().copied().eq(1..=ids.len() as u64), "{ids:?}");
    in_order(message.mapping.iter().map(|m| m.id).collect());
    in_order(message.location.iter().map(|l| l.id).collect());
    in_order(message.function.iter().map(|f| f.id).collect());
    let strings: HashSet<&String> = message.string_table.iter().collect();
    assert_eq!(strings.len(), message.string_table.len());
    assert_eq!(totals([message]).len(), message.sample.len(), "equal samples are one");
    for location in &message.location {
        let mapping = &message.mapping[location.mapping_id as usize - 1];
        assert_eq!(mapping.has_functions, !location.line.is_empty());
        let has_file =
            |line: &proto::Line| message.function[line.function_id as usize - 1].filename > 0;
        assert!(!mapping.has_filenames || location.line.iter().all(has_file));
        assert!(!mapping.has_line_numbers || location.line.iter().all(|line| line.line > 0));
    }
    let is_kernel = |m: &proto::Mapping| text(message, m.filename) == "[kernel.kallsyms]";
    assert!(message.mapping.iter().map(is_kernel).is_sorted(), "the kernel is the last mapping");
}

fn series(profiles: &[Profile]) -> Vec<proto::Profile> {
    profiles.iter().map(|profile| to_message(profile, SampleGrouping::BySeries)).collect()
}

proptest! {
    #[test]
    fn message_has_series_labels_and_distinct_samples(profile in profiles(PERIOD_NS)) {
        let message = to_message(&profile, SampleGrouping::BySeries);
        assert_valid(&message);
        let count =
            |message: &proto::Profile| message.sample.iter().map(|s| s.value[0]).sum::<i64>();
        let threads = to_message(&profile, SampleGrouping::ByThread);
        prop_assert_eq!(count(&message), count(&threads));
        let keys: HashSet<&str> = message.sample.iter().flat_map(|sample| &sample.label)
            .map(|label| text(&message, label.key)).collect();
        for key in keys {
            prop_assert!(["comm", "pod_uid", "node", "cut", "guessed"].contains(&key), "{}", key);
        }
    }

    #[test]
    fn merged_profile_is_the_sum_of_its_windows(
        windows in prop::collection::vec(profiles(PERIOD_NS), 1..5),
    ) {
        let messages = series(&windows);
        let merged = merge(&messages).unwrap();
        assert_valid(&merged);
        prop_assert_eq!(totals([&merged]), totals(&messages));
        prop_assert_eq!(merged.period, PERIOD_NS as i64);
        let earliest = windows.iter().map(|window| window.start_unix_ns).min().unwrap();
        prop_assert_eq!(merged.time_nanos as u64, earliest);
        let comments: Vec<&str> =
            merged.comment.iter().map(|index| text(&merged, *index)).collect();
        let aggregated = windows.iter().map(|window| window.ledger.aggregated).sum();
        let text = ledger(aggregated).to_string();
        prop_assert!(comments.ends_with(&text.lines().collect::<Vec<_>>()), "{:?}", comments);
        prop_assert_eq!(comments.iter().filter(|comment| **comment == "everytick").count(), 1);
    }

    #[test]
    fn merging_is_associative_and_commutative(
        windows in prop::collection::vec(profiles(PERIOD_NS), 3..6),
    ) {
        let mut messages = series(&windows);
        let whole = merge(&messages).unwrap();
        let half = merge(&messages[..2]).unwrap();
        let steps = merge([half].iter().chain(&messages[2..])).unwrap();
        prop_assert_eq!(totals([&steps]), totals([&whole]));
        prop_assert_eq!((steps.time_nanos, steps.period), (whole.time_nanos, whole.period));
        messages.reverse();
        prop_assert_eq!(totals([&merge(&messages).unwrap()]), totals([&whole]));
    }

    #[test]
    fn profile_survives_conversion(profile in profiles(PERIOD_NS)) {
        for grouping in [SampleGrouping::BySeries, SampleGrouping::ByThread] {
            let message = to_message(&profile, grouping);
            let read = from_message(&message, SampleUnit::of(&message)).unwrap();
            let again = to_message(&read, grouping);
            prop_assert_eq!(totals([&again]), totals([&message]));
            prop_assert_eq!(read.ledger.to_string(), profile.ledger.to_string());
            prop_assert_eq!(&read.comments, &profile.comments);
            prop_assert_eq!(&read.mappings, &profile.mappings);
            prop_assert_eq!(again.time_nanos, message.time_nanos);
            prop_assert_eq!(again.duration_nanos, message.duration_nanos);
        }
    }

    #[test]
    fn any_decodable_bytes_are_merged_without_a_panic(
        profile in profiles(PERIOD_NS),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        use prost::Message;
        let mut bytes = to_message(&profile, SampleGrouping::BySeries).encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(message) = decode(&bytes, 1 << 24) {
            let _ = from_message(&message, SampleUnit::of(&message));
            let _ = merge([&message, &message]);
        }
    }
}

fn one_sample(period_ns: u64, count: u64) -> Profile {
    let key = SampleKey {
        task: TaskId(0),
        stack: StackId(0),
        kernel_end: StackEnd::Complete,
        user_end: StackEnd::Complete,
        guessed: false,
    };
    Profile {
        start_unix_ns: 5_000_000_000,
        duration_ns: 1_000_000_000,
        period_ns,
        mappings: mappings(),
        functions: functions(),
        frames: frames(),
        stacks: vec![Box::new([0, 1])],
        tasks: vec![task(1, "app", 0)],
        samples: vec![SampleCount { key, count }],
        ..Profile::default()
    }
}

#[test]
fn windows_with_different_periods_are_comparable_by_time() {
    let messages = series(&[one_sample(10_000_000, 3), one_sample(50_000_000, 1)]);
    let merged = merge(&messages).unwrap();
    assert_eq!(merged.sample[0].value, [4, 80_000_000]);
    assert_eq!(merged.period, 0);
    let note = "samples stand for different times (periods of 10000000, 50000000 ns): \
                compare cpu, not samples";
    assert!(merged.comment.iter().any(|index| text(&merged, *index) == note));
    let unit = SampleUnit::of(&merged);
    let read = from_message(&merged, unit).unwrap();
    assert_eq!((unit, read.samples[0].count), (SampleUnit::Microseconds, 80_000));
    assert_eq!(read.period_ns * read.samples[0].count, 80_000_000);
}

#[test]
fn duration_of_overlapping_windows_is_their_span() {
    let mut later = one_sample(PERIOD_NS, 1);
    later.start_unix_ns += 500_000_000;
    let merged = merge(&series(&[one_sample(PERIOD_NS, 1), later.clone()])).unwrap();
    assert_eq!(merged.duration_nanos, 1_500_000_000);
    later.start_unix_ns += 60_000_000_000;
    let merged = merge(&series(&[one_sample(PERIOD_NS, 1), later])).unwrap();
    assert_eq!(merged.duration_nanos, 2_000_000_000);
}

#[test]
fn rejects_other_sample_types_and_leaves_the_sum_unchanged() {
    let ours = to_message(&one_sample(PERIOD_NS, 1), SampleGrouping::BySeries);
    let mut theirs = ours.clone();
    theirs.string_table[1] = "alloc_objects".into();
    let mut merger = profile::pprof::Merger::default();
    merger.add(&ours).unwrap();
    let error = merger.add(&theirs).unwrap_err();
    assert!(matches!(error, MergeError::SampleTypes { .. }));
    assert_eq!(
        error.to_string(),
        "the profile counts alloc_objects/count, cpu/nanoseconds, \
         others count samples/count, cpu/nanoseconds"
    );
    assert_eq!(totals([&merger.finish()]), totals([&ours]));
}

#[test]
fn retains_comments_of_several_windows() {
    let windows: Vec<Profile> = (0..3000)
        .map(|number| {
            let version = if number < 2000 { "version 1" } else { "version 2" };
            let comments = vec![version.into(), format!("window {number}")];
            Profile { comments, ..one_sample(1, 1) }
        })
        .collect();
    let comments = |windows: &[Profile]| -> Vec<String> {
        let merged = merge(&series(windows)).unwrap();
        merged.comment.iter().map(|index| text(&merged, *index).to_owned()).collect()
    };
    let of_all = comments(&windows);
    assert_eq!(of_all[..2], ["version 1", "version 2"]);
    assert!(of_all[2].starts_with("due "), "{of_all:?}");
    assert_eq!(comments(&windows[..1])[..2], ["version 1", "window 0"]);
}

#[test]
fn sum_of_nothing_is_an_empty_profile() {
    let nothing = merge([]).unwrap();
    assert_eq!(from_message(&nothing, SampleUnit::Samples).unwrap().samples, []);
}
