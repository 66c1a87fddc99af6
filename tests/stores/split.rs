//! The known split of `split.c` and of synthetic windows, measured in profiles from a server.

use std::collections::BTreeMap;

use profile::pprof::proto as pb;

use crate::{parca, text};

const FUNCTIONS: [&str; 3] = ["hot", "warm", "cold"];

/// Asserts shares of 60, 30 and 10 %, within two percentage points.
pub fn assert_split(shares: &BTreeMap<String, f64>) {
    let names: Vec<&str> = shares.keys().map(String::as_str).collect();
    assert_eq!(names, ["cold", "hot", "warm"]);
    for (name, expected) in [("hot", 60.0), ("warm", 30.0), ("cold", 10.0)] {
        assert!((shares[name] - expected).abs() <= 2.0, "{shares:?}");
    }
}

/// Returns the share of each function, in % of the whole profile including interrupts.
pub fn split(profile: &pb::Profile) -> BTreeMap<String, f64> {
    let names: BTreeMap<u64, &str> =
        profile.function.iter().map(|f| (f.id, text(profile, f.name))).collect();
    let frames: BTreeMap<u64, Vec<&str>> = profile
        .location
        .iter()
        .map(|l| (l.id, l.line.iter().map(|line| names[&line.function_id]).collect()))
        .collect();
    let mut shares = BTreeMap::new();
    for sample in &profile.sample {
        let stack = sample.location_id.iter().flat_map(|id| frames[id].iter().copied());
        count(&mut shares, stack, sample.value[0], parca::total(profile));
    }
    shares
}

/// Adds a stack to the share of the function that it contains.
pub fn count<'a>(
    shares: &mut BTreeMap<String, f64>,
    mut stack: impl Iterator<Item = &'a str>,
    value: i64,
    total: i64,
) {
    if let Some(function) = stack.find(|name| FUNCTIONS.contains(name)) {
        *shares.entry(function.to_owned()).or_default() += 100.0 * value as f64 / total as f64;
    }
}
