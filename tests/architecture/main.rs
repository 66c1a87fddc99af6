//! Holds what `docs/architecture.md` draws: layers, module graph, fence, vocabulary, shape of
//! files.
//!
//! Each file checks one property of the sources and fails with every place that breaks it.
#![allow(clippy::unwrap_used)]

mod cycles;
mod fence;
mod files;
mod layers;
mod licences;
mod modules;
mod names;
mod shape;
mod vocabulary;

use std::fs;
use std::path::Path;

/// Directories of the crates that make up the program.
const CRATES: [&str; 5] = ["profile", "unwind", "symbolizer", "upload", "."];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Fails with all `problems`, a line each, unless there are none.
fn assert_none(problems: &[String], rule: &str) {
    assert!(problems.is_empty(), "{rule}\n  {}\n", problems.join("\n  "));
}
