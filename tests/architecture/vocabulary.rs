//! One concept has one name, the one that the field uses. `docs/glossary.md` has the names.
//!
//! [`FORBIDDEN`] lists words that this code once used in a sense of its own. Identifiers are
//! compared word by word (`fileOpener`, `FILE_OPENER` and "file opener" are the same), and a phrase
//! also where a line ends within it.

use super::files::{self, File};
use super::{assert_none, read};

/// How a term is found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Match {
    /// Words one after the other, in prose and in identifiers, whatever their case.
    Words,
    /// A word of an identifier, in this case.
    Exact,
    /// The first word of a doc comment.
    DocOpening,
}

use Match::{DocOpening, Exact, Words};

/// A term, how it is found, and what to write instead.
const FORBIDDEN: &[(&str, Match, &str)] = &[
    ("opener", Words, "file helper: the process that opens files on behalf of the agent"),
    ("openers", Words, "file helpers"),
    ("keeper", Words, "processor: the thread that applies events and resolves samples"),
    ("parcel", Words, "batch"),
    ("parcels", Words, "batches"),
    ("complaint", Words, "throttled warning"),
    ("complaints", Words, "throttled warnings"),
    ("Door", Exact, "Intake"),
    ("Told", Exact, "name what the type holds, such as `ProcessEvent`"),
    ("Meant", Exact, "name what the type holds"),
    ("untold", Words, "missed events"),
    ("in doubt", Words, "stale"),
    ("is told", Words, "is reported, is known from: name who reports it"),
    ("are told", Words, "are reported, are known from: name who reports them"),
    ("told of", Words, "notified of, reported: name who reports it"),
    ("pushed out", Words, "evicted"),
    ("what has gone", Words, "name it: the exited process, the removed sink"),
    ("nobody", Words, "say which party does not: no reader, no thread, unused"),
    ("whoever", Words, "name the party: the caller, the reader, any server"),
    ("dear", Words, "expensive"),
    ("house", Words, "architecture, repository"),
    ("floors", Words, "layers"),
    ("per cent of the machine", Words, "% of total CPU capacity"),
    ("Gives", DocOpening, "begin with what the function does: Returns, Reads, Computes"),
    ("Says", DocOpening, "Returns whether, Formats, Reports"),
    ("Tells", DocOpening, "Returns whether, Reports"),
    ("Learns", DocOpening, "Records, Applies, Updates"),
    ("Knows", DocOpening, "Returns, Holds"),
];

/// A word of a file, in the case in which it is written, and the line that it is on.
struct Word {
    text: String,
    line: usize,
}

fn sources() -> Vec<File> {
    let directories =
        ["src", "profile", "unwind", "symbolizer", "upload", "bpf", "tests", "docs", "deploy"];
    let mut sources =
        files::below_all(&directories, &[".rs", ".c", ".h", ".md", ".py", ".sh", ".yaml"]);
    sources.retain(|file| file.path != file!());
    for path in ["README.md", "CONTRIBUTING.md", "SECURITY.md", "dev", "build.rs"] {
        sources.push(File { path: path.into(), text: read(path) });
    }
    sources
}

/// Splits a text into words, and identifiers at `_` and before capital letters.
fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        for token in text.split(|c: char| !c.is_alphanumeric()).filter(|token| !token.is_empty()) {
            let mut start = 0;
            for (at, pair) in token.char_indices().zip(token.chars().skip(1)) {
                if at.1.is_lowercase() && pair.is_uppercase() {
                    let end = at.0 + at.1.len_utf8();
                    words.push(Word { text: token[start..end].into(), line });
                    start = end;
                }
            }
            words.push(Word { text: token[start..].into(), line });
        }
    }
    words
}

/// Returns the lines of a text on which a term is found.
fn lines_with(term: &str, kind: Match, text: &str, words: &[Word]) -> Vec<usize> {
    let parts: Vec<&str> = term.split(' ').collect();
    let is_equal = |word: &Word, part: &str| match kind {
        Words => word.text.eq_ignore_ascii_case(part),
        _ => word.text == part,
    };
    if kind == DocOpening {
        return doc_openings(text)
            .filter(|(_, word)| *word == term)
            .map(|(line, _)| line)
            .collect();
    }
    let windows = words.windows(parts.len());
    let found =
        windows.filter(|window| window.iter().zip(&parts).all(|(word, part)| is_equal(word, part)));
    found.map(|window| window[0].line).collect()
}

/// Returns the first word of each doc comment, with its line.
fn doc_openings(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_doc = |line: &str| line.trim_start().starts_with("///");
    let mut was_doc = false;
    (1..).zip(text.lines()).filter_map(move |(number, line)| {
        let is_first = is_doc(line) && !std::mem::replace(&mut was_doc, is_doc(line));
        was_doc = is_doc(line);
        let words = line.trim_start().trim_start_matches('/');
        is_first.then(|| (number, words.split_whitespace().next().unwrap_or_default()))
    })
}

#[test]
fn every_concept_has_its_one_name() {
    let mut problems = Vec::new();
    for File { path, text } in &sources() {
        let words = words(text);
        for (term, kind, instead) in FORBIDDEN {
            for line in lines_with(term, *kind, text, &words) {
                problems.push(format!("{path}:{line}: \"{term}\"; write: {instead}"));
            }
        }
    }
    assert_none(&problems, "these words are not the field's:");
}

/// `{error:#}` shows a cause twice that the error itself shows.
#[test]
fn errors_are_shown_by_error_chain() {
    let sources = files::below_all(&["src", "symbolizer", "upload"], &[".rs"]);
    let shown = sources.iter().filter(|file| file.text.contains("error:#}"));
    let problems: Vec<String> = shown.map(|file| file.path.clone()).collect();
    assert_none(&problems, "these files show errors by `:#`; use profile::error_chain:");
}

#[test]
fn terms_are_found_in_prose_and_identifiers() {
    let check = |term, kind, text: &str, expected: &[usize]| {
        assert_eq!(lines_with(term, kind, text, &words(text)), expected, "{term} in {text:?}");
    };
    check("opener", Words, "an Opener,\nfileOpener, FILE_OPENER; reopened", &[1, 2, 2]);
    check("in doubt", Words, "// it is in\n// doubt", &[1]);
    check("Told", Exact, "told\nstruct Told;", &[2]);
    check("Gives", DocOpening, "/// Gives it.\n/// Gives\nfn f() {} // Gives", &[1]);
}
