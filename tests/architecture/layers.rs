//! Crates and modules use only what is on a lower layer.

use std::fs;

use super::{assert_none, files, read, root};

/// The modules of `src/` from the lowest layer up: each uses only those before it.
const MODULES: [&str; 17] = [
    "kernel",
    "procfs",
    "workers",
    "events",
    "labels",
    "processes",
    "tables",
    "aggregate",
    "symbolization",
    "session",
    "verify",
    "output",
    "budget",
    "metrics",
    "agent",
    "config",
    "commands",
];

/// The crates, and those of our crates that each may depend on.
const CRATES: [(&str, &[&str]); 4] =
    [("profile", &[]), ("unwind", &[]), ("symbolizer", &["profile"]), ("upload", &["profile"])];

#[test]
fn modules_use_only_lower_layers() {
    let mut problems = Vec::new();
    for (layer, module) in MODULES.iter().enumerate() {
        for file in files::below(&format!("src/{module}"), &[".rs"]) {
            let code = file.code();
            let higher = MODULES[layer + 1..].iter();
            let used = higher.filter(|higher| code.contains(&format!("crate::{higher}")));
            problems.extend(used.map(|higher| format!("{} uses `{higher}`", file.path)));
        }
    }
    assert_none(&problems, "these files use a module of a higher layer:");
}

#[test]
fn every_module_has_a_layer() {
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_known = MODULES.contains(&name.as_str()) || ["lib.rs", "main.rs"].contains(&&*name);
        assert!(is_known, "src/{name} has no layer: add it to {}", file!());
    }
}

#[test]
fn crates_depend_only_on_lower_layers() {
    for (name, allowed) in CRATES {
        let manifest = read(&format!("{name}/Cargo.toml"));
        for (other, _) in CRATES {
            let is_used = manifest.lines().any(|line| line.starts_with(&format!("{other}.")));
            assert!(!is_used || allowed.contains(&other), "crate {name} must not use {other}");
        }
    }
}
