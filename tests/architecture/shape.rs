//! Files open with their purpose, and fit a reader: 100 columns, 400 lines.

use super::{assert_none, files};

/// Lines after which a file no longer has one job.
const LINES_MAX: usize = 600;

#[test]
fn every_file_opens_with_its_purpose() {
    let mut sources =
        files::below_all(&["src", "profile", "unwind", "symbolizer", "upload", "tests"], &[".rs"]);
    sources.extend(files::below("bpf", &[".c", ".h"]));
    let has_opening =
        |text: &str| ["//!", "/*", "// SPDX"].iter().any(|opening| text.starts_with(opening));
    let without = sources.into_iter().filter(|file| !has_opening(&file.text));
    let problems: Vec<_> = without.map(|file| file.path).collect();
    assert_none(&problems, "begin these files with what they are for:");
}

#[test]
fn files_are_short() {
    let mut sources =
        files::below_all(&["src", "profile", "unwind", "symbolizer", "upload", "tests"], &[".rs"]);
    sources.extend(files::below("bpf", &[".c", ".h"]));
    let problems: Vec<_> = sources
        .iter()
        .map(|file| (&file.path, file.text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| format!("{path}: {lines} lines"))
        .collect();
    assert_none(&problems, &format!("split these files, {LINES_MAX} lines are the most:"));
}
