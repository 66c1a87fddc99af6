//! Files open with their purpose, and fit a reader: 100 columns, 400 lines.

use super::files::File;
use super::{assert_none, files, read};

/// Columns of a line of code or prose.
const COLUMNS_MAX: usize = 100;

/// Lines after which a file no longer has one job.
const LINES_MAX: usize = 400;

/// Files that may be longer, because they are one table.
const TABLES: [&str; 1] = ["src/metrics/table.rs"];

/// Files with texts that cannot be broken: expected output, and pages that they generate.
const WIDE: [&str; 3] = ["tests/config.rs", "tests/metrics/document.rs", "tests/metrics/parser.rs"];

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
        files::below_all(&["src", "profile", "unwind", "symbolizer", "upload"], &[".rs"]);
    sources.extend(files::below("bpf", &[".c", ".h"]));
    let is_exempt = |path: &str| path.contains("tests") || TABLES.contains(&path);
    let problems: Vec<_> = sources
        .iter()
        .map(|file| (&file.path, file.text.lines().count()))
        .filter(|(path, lines)| *lines > LINES_MAX && !is_exempt(path))
        .map(|(path, lines)| format!("{path}: {lines} lines"))
        .collect();
    assert_none(&problems, &format!("split these files, {LINES_MAX} lines are the most:"));
}

#[test]
fn lines_are_short() {
    let directories =
        ["src", "profile", "unwind", "symbolizer", "upload", "bpf", "tests", "docs", "deploy"];
    let mut sources = files::below_all(&directories, &[".rs", ".c", ".h", ".md"]);
    for path in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "NOTICE.md"] {
        sources.push(File { path: path.into(), text: read(path) });
    }
    let mut problems = Vec::new();
    for File { path, text } in &sources {
        if WIDE.contains(&&**path) {
            continue;
        }
        let is_markdown = path.ends_with(".md");
        let mut is_example = false;
        for (number, line) in (1..).zip(text.lines()) {
            is_example ^= is_markdown && line.starts_with("```");
            // Tables and links of Markdown cannot be broken, nor can the output of a command.
            let is_whole =
                is_markdown && (is_example || line.starts_with('|') || line.contains("]("));
            if line.chars().count() > COLUMNS_MAX && !is_whole {
                problems.push(format!("{path}:{number}"));
            }
        }
    }
    assert_none(&problems, &format!("break these lines, {COLUMNS_MAX} columns are the most:"));
}
