//! A type's bare name is enough to know which one is meant.

use std::collections::BTreeMap;

use super::modules::Crate;
use super::{CRATES, assert_none};

/// Types that each sink has under the same name: `parca::Config`, `otlp::Config`.
const SINK_TYPES: [&str; 3] = ["Config", "Encoder", "Sink"];
/// Modules that mirror a format of others under the names that it has there.
const MIRRORS: [&str; 3] = ["abi", "message", "proto"];

#[test]
fn no_two_public_types_of_a_crate_share_a_name() {
    let mut problems = Vec::new();
    for directory in CRATES {
        let parsed = Crate::read(directory);
        let mut modules: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (module, name) in parsed.public_types() {
            let is_mirror = module.iter().any(|segment| MIRRORS.contains(&segment.as_str()));
            if !is_mirror && !SINK_TYPES.contains(&name) {
                modules.entry(name).or_default().push(module.join("::"));
            }
        }
        let shared = modules.into_iter().filter(|(_, modules)| modules.len() > 1);
        problems
            .extend(shared.map(|(name, at)| format!("{directory}: {name} in {}", at.join(", "))));
    }
    assert_none(&problems, "give each of these types a name that says what it is:");
}
