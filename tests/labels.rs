//! Labels of real processes: in cgroups named as container runtimes do, short-lived ones, and those
//! that are moved.
#![allow(clippy::unwrap_used)]

mod common;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::process::{Command, Stdio};

use common::cgroup::UnifiedCgroup;
use common::{Running, alone, compile, directory, pause};
use everytick::kernel::SamplerConfig;
use everytick::labels::{Cgroup, Root, complete, of_machine};
use everytick::session::{ClosedWindow, ScanScope, Session, SessionLimits};
use everytick::symbolization::{self, SymbolizerMemory, WindowSymbolizer};
use profile::pprof::{SampleGrouping, to_message};
use profile::{Labels, Profile};

const PROGRAM: &str = env!("CARGO_BIN_EXE_everytick");
const POD: &str = "2b801b7a-5266-4386-864e-45ed71136371";

/// Returns the path of a container in a pod, as systemd names it. `id`: the digit of its ID.
fn container(id: char) -> String {
    let (uid, id) = (POD.replace('-', "_"), id.to_string().repeat(64));
    format!(
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice\
         /cri-containerd-{id}.scope"
    )
}

fn start() -> Session {
    let settings = SamplerConfig { tick_limit: 100_000_000, ..SamplerConfig::machine(499) };
    let limits = SessionLimits { labels: true, ..SessionLimits::default() };
    Session::start(PROGRAM, settings, ScanScope::All, limits, None, None).unwrap()
}

fn symbolize(closed: &ClosedWindow) -> Profile {
    let mut symbolizer = WindowSymbolizer::new(PROGRAM, SymbolizerMemory::default());
    let ClosedWindow { window, ledger, period, executables, .. } = closed;
    symbolization::symbolize(window, ledger.clone(), *period, executables, &mut symbolizer).0
}

/// Counts the samples of an executable by their labels.
fn by_labels(profile: &Profile, executable: &str) -> BTreeMap<Labels, u64> {
    let mut counts = BTreeMap::new();
    for sample in &profile.samples {
        let labels = &profile.task_of(sample).labels;
        if labels.get("executable") == Some(executable) {
            *counts.entry((**labels).clone()).or_default() += sample.count;
        }
    }
    counts
}

fn expected(executable: &str, id: char) -> Labels {
    let (cgroup, id) = (container(id), id.to_string().repeat(64));
    Labels::from([
        ("cgroup", cgroup.as_str()),
        ("container_id", id.as_str()),
        ("executable", executable),
        ("pod_uid", POD),
    ])
}

#[test]
fn a_process_in_a_pod_has_its_labels_and_a_whole_series() {
    let _alone = alone();
    let (place, group) = (directory(), UnifiedCgroup::create(&container('a')));
    let program = compile("chain.c", place.path(), "app");
    let running = [Running::start(&program), Running::start(&program)];
    running.iter().for_each(|running| group.add(&running.pid()));
    let mut session = start();
    pause(1500);
    let mut profile = symbolize(&session.close_window().unwrap());
    session.finish().unwrap();
    let counts = by_labels(&profile, "app");
    let samples = counts[&expected("app", 'a')];
    assert!(counts.len() == 1 && samples > 100, "{counts:?}");

    assert_eq!(profile.tasks.iter().filter(|task| &*task.comm == "app").count(), 2);
    complete(&mut profile, &of_machine("node-1", &Labels::from([("team", "web")])));
    let message = to_message(&profile, SampleGrouping::BySeries);
    let text = |place: i64| message.string_table[place as usize].as_str();
    let mut series: BTreeMap<Labels, i64> = BTreeMap::new();
    for sample in &message.sample {
        let labels = sample.label.iter().map(|label| (text(label.key), text(label.str)));
        let labels = labels.filter(|(key, _)| profile::labels::is_series(key));
        let mut known = Labels::default();
        labels.for_each(|(key, text)| known.set(key, text));
        *series.entry(known).or_default() += sample.value[0];
    }
    let mut whole = expected("app", 'a');
    for (key, text) in [("comm", "app"), ("node", "node-1"), ("team", "web")] {
        whole.set(key, text);
    }
    assert_eq!(series.get(&whole), Some(&(samples as i64)), "{series:#?}");
    assert_eq!(series.values().sum::<i64>(), profile.ledger.aggregated as i64);
}

#[test]
fn short_processes_have_the_labels_of_their_container() {
    let _alone = alone();
    let (place, group) = (directory(), UnifiedCgroup::create(&container('b')));
    let program = compile("short.c", place.path(), "short");
    let script = format!("while :; do {}; done", program.display());
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).stdin(Stdio::null());
    let shell = Running(shell.spawn().unwrap());
    group.add(&shell.pid());
    pause(100); // the first program, which was not moved, has exited
    let mut session = start();
    pause(2000);
    let profile = symbolize(&session.close_window().unwrap());
    let counts = by_labels(&profile, "short");
    let (right, all) = (counts[&expected("short", 'b')], counts.values().sum::<u64>());
    assert!(all > 50 && right == all, "{right} of {all}: {counts:#?}");
    let pids: HashSet<_> =
        profile.tasks.iter().filter(|t| &*t.comm == "short").map(|t| t.pid).collect();
    assert!(pids.len() > 5, "{}", pids.len());
    let counts = session.finish().unwrap().processes.label_counts();
    assert!(counts.read > 5 && counts.read + counts.inherited >= pids.len() as u64, "{counts:?}");
}

#[test]
fn a_moved_process_has_the_labels_of_its_current_cgroup() {
    let _alone = alone();
    let place = directory();
    let (from, to) =
        (UnifiedCgroup::create(&container('a')), UnifiedCgroup::create(&container('b')));
    let running = Running::start(&compile("chain.c", place.path(), "moved"));
    from.add(&running.pid());
    let mut session = start();
    pause(1200);
    to.add(&running.pid());
    pause(1200);
    let profile = symbolize(&session.close_window().unwrap());
    session.finish().unwrap();
    let counts = by_labels(&profile, "moved");
    let count = |id| counts.get(&expected("moved", id)).copied().unwrap_or(0);
    assert!(count('a') > 20 && count('b') > 20, "{counts:#?}");
}

#[test]
fn in_a_cgroup_namespace_paths_are_absolute() {
    const INSIDE: &str = "EVERYTICK_TEST_INSIDE";
    let group = "/everytick-test/pod/container";
    let text = "0::/../../other/x\n";
    if std::env::var_os(INSIDE).is_some() {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        assert!(own.lines().any(|line| line == "0::/"), "{own}");
        let path = |text| Cgroup::parse(text, &Root::find()).unwrap().path;
        assert_eq!(&*path(text), "/everytick-test/other/x");
        assert_eq!(&*path("0::/\n"), group);
        return;
    }
    let place = UnifiedCgroup::create(group);
    let script = format!(
        "echo $$ >{}/cgroup.procs; exec unshare --cgroup \"$0\" \"$@\"",
        place.path().display()
    );
    let test = "in_a_cgroup_namespace_paths_are_absolute";
    let mut command = Command::new("sh");
    command.args(["-c", &script]).arg(std::env::current_exe().unwrap()).args(["--exact", test]);
    let output = command.env(INSIDE, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// The main thread exits before sampling starts; the labels come from a thread that runs.
#[test]
fn a_process_without_main_thread_has_its_labels() {
    let _alone = alone();
    let (place, group) = (directory(), UnifiedCgroup::create(&container('c')));
    let running = Running::start(&compile("mainless.c", place.path(), "mainless"));
    group.add(&running.pid());
    pause(500);
    let stat = fs::read_to_string(format!("/proc/{}/stat", running.pid())).unwrap();
    assert!(stat.contains(") Z "), "the main thread runs: {stat}");
    let mut session = start();
    pause(1000);
    let profile = symbolize(&session.close_window().unwrap());
    session.finish().unwrap();
    let count: u64 = profile
        .samples
        .iter()
        .filter(|sample| &*profile.task_of(sample).comm == "mainless")
        .map(|sample| sample.count)
        .sum();
    let counts = by_labels(&profile, "mainless");
    assert!(counts.len() == 1 && count > 50, "{counts:?} of {count}");
    assert_eq!(counts.get(&expected("mainless", 'c')), Some(&count));
}
