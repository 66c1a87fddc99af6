//! Exports from stores of few windows.

use std::fs;

use profile::pprof::{SampleGrouping, SampleUnit, compress, decode, from_message, to_message};
use profile::{
    BootTime, FileAddr, Function, Labels, Line, Mapping, MappingKind, Origin, Pid, Profile,
    SampleCount, SampleKey, StackEnd, StackId, SymbolizedFrame, Task, TaskId, Tid,
};

use upload::output::{OutputOptions, RuntimeFrames};

use super::*;

const SECOND: u64 = 1_000_000_000;

/// Returns a window of one second in which `app` was sampled in `main`.
fn window(start: u64, period_ns: u64, count: u64) -> pb::Profile {
    let labels = Labels::from([("comm", "app"), ("node", "n")]);
    let (task, stack) = (TaskId(0), StackId(0));
    let (kernel_end, user_end) = (StackEnd::Absent, StackEnd::Complete);
    let key = SampleKey { task, stack, kernel_end, user_end, guessed: false };
    let profile = Profile {
        start_unix_ns: start * SECOND,
        duration_ns: SECOND,
        period_ns,
        mappings: vec![Mapping {
            name: "/bin/app".into(),
            build_id: None,
            kind: MappingKind::File,
        }],
        functions: vec![Function { name: "main".into(), ..Function::default() }],
        frames: vec![SymbolizedFrame {
            mapping: 0,
            address: FileAddr(start),
            lines: vec![Line { function: 0, line: 1 }],
        }],
        stacks: vec![Box::new([0])],
        tasks: vec![Task {
            pid: Pid(1),
            tid: Tid(1),
            comm: "app".into(),
            thread: "app".into(),
            cgroup_id: 1,
            labels: labels.into(),
        }],
        samples: vec![SampleCount { key, count }],
        ..Profile::default()
    };
    to_message(&profile, SampleGrouping::BySeries)
}

/// Creates a store with a window each second from 0 on, with 1, 2, 3... samples.
fn store(windows: u64) -> tempfile::TempDir {
    let store = tempfile::tempdir().expect("a directory");
    for start in 0..windows {
        put(&store, start, &compress(&window(start, 10_000_000, start + 1)));
    }
    store
}

fn put(store: &tempfile::TempDir, start: u64, bytes: &[u8]) {
    let name = format!("19700101T0000{start:02}.000Z.pb.gz");
    fs::write(store.path().join(name), bytes).expect("a file");
}

fn request(store: &Path, from: u64, to: u64, name: &str) -> ExportRequest {
    ExportRequest {
        store: store.to_owned(),
        from_unix_ns: from * SECOND,
        to_unix_ns: to * SECOND,
        output: OutputFile::new(store.join(name), OutputOptions::default()).expect("a format"),
        agents: Vec::new(),
    }
}

#[test]
fn range_is_the_sum_of_its_windows_in_each_format() {
    let store = store(9);
    let of = |name| {
        let request = request(store.path(), 2, 5, name);
        let summary = export(&request).expect("there are windows");
        assert_eq!((summary.windows, summary.samples), (3, 3 + 4 + 5));
        assert_eq!(summary.lines("x.svg"), ["everytick: 12 samples of 3 windows in x.svg"]);
        fs::read(request.output.path()).expect("it was written")
    };
    assert_eq!(String::from_utf8_lossy(&of("x.folded")), "app;main 12\n");
    let svg = String::from_utf8_lossy(&of("x.svg")).into_owned();
    assert!(svg.contains("main\n0.120 s (12 samples), 100.00 % of all"), "{svg}");
    let message = decode(&of("x.pb.gz"), 1 << 20).expect("pprof");
    assert_eq!((message.time_nanos, message.duration_nanos), (2_000_000_000, 3_000_000_000));
    assert_eq!(message.sample.iter().map(|sample| sample.value[1]).sum::<i64>(), 120_000_000);
}

#[test]
fn machinery_of_stored_windows_is_hidden_unless_it_is_wanted() {
    let store = store(0);
    let stored = window(1, 10_000_000, 4);
    let mut profile = from_message(&stored, SampleUnit::Samples).expect("a valid message");
    profile.mappings.push(profile.mappings[0].machinery());
    let address = FileAddr(0x20);
    profile.frames.push(SymbolizedFrame { mapping: 1, address, lines: Vec::new() });
    profile.stacks = vec![Box::new([0, 1])];
    put(&store, 1, &compress(&to_message(&profile, SampleGrouping::BySeries)));
    let folded = |runtime_frames| {
        let options = OutputOptions { runtime_frames, ..OutputOptions::default() };
        let output = OutputFile::new(store.path().join("x.folded"), options).expect("a format");
        let request = ExportRequest { output, ..request(store.path(), 0, 9, "x.folded") };
        export(&request).expect("a window");
        fs::read_to_string(request.output.path()).expect("it was written")
    };
    assert_eq!(folded(RuntimeFrames::Hide), "app;main 4\n");
    assert_eq!(folded(RuntimeFrames::Show), "app;app+0x20;main 4\n");
}

#[test]
fn damaged_windows_are_listed_and_left_out() {
    let store = store(3);
    put(&store, 1, b"no gzip at all");
    let mut other = window(2, 10_000_000, 7);
    other.string_table[1] = "bytes".into();
    put(&store, 2, &compress(&other));
    let summary = export(&request(store.path(), 0, 9, "x.folded")).expect("one is left");
    assert_eq!((summary.windows, summary.samples, summary.notes.len()), (1, 1, 1));
    let note = &summary.notes[0];
    assert!(note.starts_with("2 damaged windows left out: "), "{note}");
    assert!(note.contains("01.000Z.pb.gz: not a window"), "{note}");
    assert!(note.contains("02.000Z.pb.gz: the profile counts bytes/count"), "{note}");
}

#[test]
fn copies_of_a_window_count_once() {
    let store = store(3);
    let copy = |from: &str, to: &str| {
        fs::copy(store.path().join(from), store.path().join(to)).expect("copied");
    };
    copy("19700101T000001.000Z.pb.gz", "19700101T000001.000Z-1.pb.gz");
    copy("19700101T000002.000Z.pb.gz", "19700101T000002.000Z-7.pb.gz");
    let summary = export(&request(store.path(), 0, 9, "x.folded")).expect("windows");
    assert_eq!((summary.windows, summary.samples), (3, 1 + 2 + 3));
    assert_eq!(summary.notes, ["2 copies of windows left out"]);
}

#[test]
fn windows_of_two_agents_at_once_are_refused_unless_one_is_selected() {
    let store = tempfile::tempdir().expect("a directory");
    for (instance, start, ms) in [(1, 1, 0), (2, 1, 300), (1, 2, 0), (2, 2, 300)] {
        let mut window = window(start, 10_000_000, instance);
        window.time_nanos += ms * 1_000_000;
        let start = BootTime { boot_id: 7, ns: window.time_nanos as u64 };
        let origin = Origin { start, instance, host: "n".into() };
        add_comment(&mut window, &origin.to_string());
        let name = format!("19700101T00000{}.{ms:03}Z.pb.gz", window.time_nanos / 1_000_000_000);
        fs::write(store.path().join(name), compress(&window)).expect("a file");
    }
    let request = request(store.path(), 0, 9, "x.folded");
    let error = export(&request).expect_err("their ticks are the same").to_string();
    assert!(error.contains("n/0000000000000001 and n/0000000000000002"), "{error}");
    assert!(error.ends_with("select one with --only-agent n/0000000000000001"), "{error}");
    let one = ExportRequest { agents: vec!["n/0000000000000002".into()], ..request };
    let summary = export(&one).expect("windows of one agent");
    assert_eq!((summary.windows, summary.samples), (2, 4));
}

#[test]
fn frequency_change_is_noted_and_time_is_drawn() {
    let store = store(1);
    put(&store, 1, &compress(&window(1, 50_000_000, 1)));
    let summary = export(&request(store.path(), 0, 9, "x.svg")).expect("two windows");
    assert!(summary.notes[0].starts_with("the sampling frequency changed"), "{summary:?}");
    let svg = fs::read_to_string(store.path().join("x.svg")).expect("it was written");
    assert!(svg.contains("main\n0.060 s, 100.00 % of all"), "{svg}");
}

#[test]
fn ticks_not_sampled_and_gaps_are_notes_and_comments() {
    let store = store(2);
    let mut last = window(40, 10_000_000, 3);
    let texts = [
        "due 100 = ticks 3 + missed 1 + not sampled 96 (budget: 90, gap: 6)",
        "ticks 3 = emitted 3 + skipped 0",
        "emitted 3 = aggregated 3 + lost 0",
    ];
    let ledger = last.comment.len() - texts.len();
    for (index, text) in last.comment.split_off(ledger).into_iter().zip(texts) {
        last.string_table[index as usize] = text.to_owned();
        last.comment.push(index);
    }
    put(&store, 40, &compress(&last));
    let request = request(store.path(), 0, 80, "x.pb.gz");
    let summary = export(&request).expect("three windows");
    let expected = [
        "96 of 100 due ticks were not sampled, 3 of 3 s (budget 90, gap 6)",
        "no profiles between 1970-01-01T00:00:02Z and 1970-01-01T00:00:40Z (38 s)",
        "no profiles between 1970-01-01T00:00:41Z and 1970-01-01T00:01:20Z (39 s)",
    ];
    assert_eq!(summary.notes, expected);
    let bytes = fs::read(request.output.path()).expect("it was written");
    let message = decode(&bytes, 1 << 20).expect("pprof");
    let comments: Vec<&str> =
        message.comment.iter().map(|at| &*message.string_table[*at as usize]).collect();
    assert!(expected.iter().all(|note| comments.contains(note)), "{comments:?}");
}

#[test]
fn errors_are_one_sentence_with_the_next_step() {
    let store = store(3);
    let error_of = |request: &ExportRequest| {
        let text = export(request).expect_err("nothing to export").to_string();
        assert!(!request.output.path().exists(), "{text}");
        text.replace(store.path().to_str().expect("UTF-8"), "STORE")
    };
    let empty = request(store.path(), 5, 5, "x.svg");
    let expected = "the range to export is empty; give FROM..TO with FROM before TO";
    assert_eq!(error_of(&empty), expected);
    assert_eq!(
        error_of(&request(store.path(), 50, 60, "x.svg")),
        "no readable window in STORE started in this range; its windows started from \
         19700101T000000.000Z to 19700101T000002.000Z"
    );
    assert_eq!(
        error_of(&ExportRequest {
            store: "/nowhere".into(),
            ..request(store.path(), 0, 9, "x.svg")
        }),
        "cannot read the store /nowhere: No such file or directory (os error 2); check that \
         the agent's configuration has the same directory"
    );
    assert_eq!(
        error_of(&request(store.path(), 0, 9, "x.firefox.json.gz")),
        "STORE/x.firefox.json.gz: this format shows when samples were taken, which a store does \
         not keep; use `everytick record` for it, or export to another format"
    );
}
