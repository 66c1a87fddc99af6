//! Crates and modules use only what is on a lower layer.

use std::fs;

use super::modules::{Crate, Use};
use super::{assert_none, files, read, root};

/// The modules of `src/` from the lowest layer up: each uses only those before it.
const MODULES: [&str; 23] = [
    "limits",
    "log",
    "disk_cache",
    "debuginfod",
    "kernel",
    "procfs",
    "host",
    "workers",
    "events",
    "labels",
    "runtimes",
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

/// The modules of `upload/src/` from the lowest layer up, as its `lib.rs` lists them.
const UPLOAD_MODULES: [&str; 10] = [
    "clock",
    "cpu_allowance",
    "config",
    "batch",
    "disk",
    "transport",
    "debug_info",
    "sinks",
    "spool",
    "delivery",
];

/// The module of `upload/src/` that is apart from these layers, and what it may use.
const UPLOAD_APART: (&str, [&str; 1]) = ("output", ["disk"]);

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
fn upload_modules_use_only_lower_layers() {
    let layer = |name: &str| UPLOAD_MODULES.iter().position(|module| *module == name);
    let (apart, allowed) = UPLOAD_APART;
    let is_allowed = |from: &str, to: &str| match (layer(from), layer(to)) {
        (Some(from), Some(to)) => to <= from,
        _ => from == to || (from == apart && allowed.contains(&to)),
    };
    let uses = Crate::read("upload").uses();
    let between_modules = uses.iter().filter_map(|Use { from, to, at, .. }| {
        Some((from.first()?.as_str(), to.first()?.as_str(), at)) // `lib.rs` has an empty path
    });
    let problems: Vec<String> = between_modules
        .filter(|(from, to, _)| !is_allowed(from, to))
        .map(|(from, to, at)| format!("`{from}` uses `{to}`: {at}"))
        .collect();
    assert_none(&problems, "these modules of upload use a module of a higher layer:");
}

#[test]
fn every_module_has_a_layer() {
    let upload = [&UPLOAD_MODULES[..], &[UPLOAD_APART.0]].concat();
    for (directory, modules) in [("src", &MODULES[..]), ("upload/src", &upload[..])] {
        for entry in fs::read_dir(root().join(directory)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let module = name.strip_suffix(".rs").unwrap_or(&name);
            let is_known = modules.contains(&module) || ["lib", "main"].contains(&module);
            assert!(is_known, "{directory}/{name} has no layer: add it to {}", file!());
        }
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
