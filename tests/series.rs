//! Programs that change their names all the time make a bounded number of series in all windows
//! together. Their samples stay those of their cgroup, and the series of others stay as they are.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::agent::{Agent, labels, samples};
use common::cgroup::UnifiedCgroup;
use common::{Running, alone, compile, pause};
use profile::pprof::proto::Profile;

/// Series in a window, and the bound of those in an hour that follows from it.
const SERIES_MAX: usize = 64;
const SERIES_OF_HOUR_MAX: usize = 1024;
const HOG: &str = "/everytick-test-series/hog";
const SERVICE: &str = "/everytick-test-series/service";

type Series = BTreeMap<String, String>;

/// Returns the series of a window, with their samples.
fn series(window: &Profile) -> BTreeMap<Series, i64> {
    let mut counts = BTreeMap::new();
    for (number, sample) in window.sample.iter().enumerate() {
        let labels = labels(window, number).into_iter();
        let labels = labels.filter(|(name, _)| profile::labels::is_series(name));
        let series = labels.map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
        *counts.entry(series).or_default() += sample.value[0];
    }
    counts
}

fn has(series: &Series, label: &str, text: &str) -> bool {
    series.get(label).is_some_and(|found| found == text)
}

/// Runs a program that makes names beside a bystander, in cgroups of their own.
fn make_names(kind: &str) {
    let _alone = alone();
    let agent = Agent::start(&format!("frequency = 997\nmax_cpu = 100\nseries_max = {SERIES_MAX}"));
    let (hog_cgroup, service) = (UnifiedCgroup::create(HOG), UnifiedCgroup::create(SERVICE));
    let bystander = Running::start(&compile("chain.c", agent.place.path(), "bystander"));
    service.add(&bystander.pid());
    agent.wait_for_windows(1);
    let names = compile("attack/names.c", agent.place.path(), "names");
    let hog = Running::start_with(&names, &[kind.into()]);
    hog_cgroup.add(&hog.pid());
    let merged = |limit: &str| agent.series("everytick_series_merged_samples_total", limit);
    agent.wait_for("the limit of an hour", || (merged("hour") > 0.0).then_some(()));
    let before = agent.windows().len();
    (1..=4).for_each(|more| agent.wait_for_windows(before + more));
    drop(hog);
    pause(100);
    assert!(merged("window") > 0.0);
    let of_hour = agent.metric("everytick_series_of_hour");
    // One owner has three eighths at most.
    let of_one_owner = SERIES_OF_HOUR_MAX as f64 * 3.0 / 8.0;
    assert!((of_one_owner..=SERIES_OF_HOUR_MAX as f64).contains(&of_hour), "{of_hour}");
    assert!(agent.log().contains("too many series within an hour"), "{}", agent.log());

    let windows = agent.profiles();
    let mut all: BTreeSet<Series> = BTreeSet::new();
    for window in &windows {
        let counts = series(window);
        assert!(counts.len() <= SERIES_MAX, "{} series in a window", counts.len());
        all.extend(counts.into_keys());
    }
    assert!(all.len() <= SERIES_OF_HOUR_MAX + 1, "{} series", all.len());
    for window in &windows[before + 1..before + 4] {
        let (counts, all) = (series(window), samples(window));
        let sum = |is_wanted: &dyn Fn(&Series) -> bool| -> i64 {
            counts.iter().filter(|(series, _)| is_wanted(series)).map(|(_, count)| count).sum()
        };
        let of_bystander =
            sum(&|series| has(series, "comm", "bystander") && has(series, "cgroup", SERVICE));
        assert!(of_bystander * 10 > all, "{of_bystander} of {all}: {counts:#?}");
        let merged = sum(&|series| {
            has(series, "merged", "true")
                && has(series, "cgroup", HOG)
                && !series.contains_key("comm")
                && !series.contains_key("executable")
        });
        assert!(merged * 10 > all, "{merged} of {all}: {counts:#?}");
    }
}

#[test]
fn names_without_end_become_one_series() {
    make_names("comm");
}

#[test]
fn names_of_threads_without_end_become_one_series() {
    make_names("threads");
}

#[test]
fn names_of_files_without_end_become_one_series() {
    make_names("files");
}
