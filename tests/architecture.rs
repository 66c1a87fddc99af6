//! The house stays as it is drawn: floors that only look down, a fence around the kernel.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// The modules of `src/` from the ground up: each names only those before it.
const LAYERS: [&str; 15] = [
    "kernel",
    "events",
    "labels",
    "processes",
    "tables",
    "aggregate",
    "naming",
    "session",
    "verify",
    "output",
    "budget",
    "metrics",
    "agent",
    "config",
    "commands",
];

/// The crates and the crates of ours that each may name.
const CRATES: [(&str, &[&str]); 4] =
    [("profile", &[]), ("unwind", &[]), ("symbolizer", &["profile"]), ("upload", &["profile"])];

/// Lines after which a file is too long to be walked through.
const LINES_MAX: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a directory with one of these endings, and their text.
fn files(directory: &str, endings: &[&str]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut todo = vec![root().join(directory)];
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if endings.iter().any(|ending| path.to_str().unwrap().ends_with(ending)) {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
        }
    }
    assert!(!found.is_empty(), "nothing below {directory}");
    found
}

/// Code without comments: what is said of a thing is no use of it.
fn code(text: &str) -> String {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn modules_name_only_lower_layers() {
    for (layer, module) in LAYERS.iter().enumerate() {
        for (path, text) in files(&format!("src/{module}"), &[".rs"]) {
            for above in &LAYERS[layer + 1..] {
                let named = code(&text).contains(&format!("crate::{above}"));
                assert!(
                    !named,
                    "{} is on a lower layer than `{above}`, which it names",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn every_module_has_its_layer() {
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_known =
            LAYERS.contains(&name.as_str()) || ["lib.rs", "main.rs"].contains(&name.as_str());
        assert!(is_known, "src/{name} has no layer: give it one in {}", file!());
    }
}

#[test]
fn crates_name_only_lower_layers() {
    for (name, allowed) in CRATES {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        for (other, _) in CRATES {
            let named = manifest.lines().any(|line| line.starts_with(&format!("{other}.")));
            assert!(!named || allowed.contains(&other), "crate {name} must not name {other}");
        }
        let library = fs::read_to_string(root().join(name).join("src/lib.rs")).unwrap();
        assert!(
            library.contains("#![forbid(unsafe_code)]"),
            "crate {name} must forbid unsafe code"
        );
    }
}

#[test]
fn unsafe_code_and_libbpf_stay_behind_the_fence() {
    let fence = Path::new("src/kernel");
    let shipped = ["src", "profile", "unwind", "symbolizer", "upload"];
    for (path, text) in shipped.iter().flat_map(|directory| files(directory, &[".rs"])) {
        let is_inside = path.starts_with(fence);
        for word in ["unsafe ", "unsafe{", "libbpf_rs", "libbpf_sys"] {
            assert!(is_inside || !code(&text).contains(word), "{} has `{word}`", path.display());
        }
    }
}

#[test]
fn every_file_says_what_it_is_for_and_is_short() {
    let rust = ["src", "profile", "unwind", "symbolizer", "upload", "tests"];
    let mut all: Vec<_> = rust.iter().flat_map(|directory| files(directory, &[".rs"])).collect();
    all.extend(files("bpf", &[".c", ".h"]));
    for (path, text) in all {
        let opening = ["//!", "/*", "// SPDX"].iter().any(|comment| text.starts_with(comment));
        assert!(opening, "{} does not open with what it is for", path.display());
        assert!(
            text.lines().count() <= LINES_MAX,
            "{} is longer than {LINES_MAX} lines",
            path.display()
        );
    }
}

#[test]
fn licences_are_as_promised() {
    // What host tests compile.
    let dual =
        ["bpf/abi.h", "bpf/types.h", "bpf/step.h", "bpf/frame_pointer.h", "bpf/arch/registers.h"];
    for (path, text) in files("bpf", &[".c", ".h"]) {
        let expected = match dual.contains(&path.to_str().unwrap()) {
            true => "SPDX-License-Identifier: GPL-2.0 OR Apache-2.0",
            false => "SPDX-License-Identifier: GPL-2.0",
        };
        let first = text.lines().next().unwrap();
        let found = first.trim_start_matches(['/', '*', ' ']).trim_end_matches(['/', '*', ' ']);
        assert_eq!(found, expected, "{}", path.display());
    }
}
