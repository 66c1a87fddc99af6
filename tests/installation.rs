//! What a newcomer meets: version, completions, man pages, and the line that shows the progress.
#![allow(clippy::unwrap_used)]

mod common;
use std::fs;
use std::process::Command;

use common::{alone, directory, everytick, succeed};

fn output_of(arguments: &[&str]) -> String {
    succeed(everytick().args(arguments))
}

#[test]
fn version_names_commit_and_build() {
    let version = output_of(&["--version"]);
    assert_eq!(version, output_of(&["-V"]));
    let inner = version.trim_end().strip_prefix("everytick 0.1.0 (").unwrap();
    let parts: Vec<&str> = inner.strip_suffix(')').unwrap().split(", ").collect();
    let [.., build, platform] = parts[..] else { panic!("{version}") };
    assert!(["debug build", "release build"].contains(&build), "{version}");
    assert_eq!(platform, format!("{}-linux", std::env::consts::ARCH));
    let is_in_repository = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "HEAD"])
        .output()
        .is_ok_and(|output| output.status.success());
    if is_in_repository {
        let commit = parts[0].strip_prefix("commit ").unwrap();
        assert!(commit.len() >= 12 && commit.bytes().all(|b| b.is_ascii_hexdigit()), "{version}");
    }
}

#[test]
fn completions_know_commands_and_options() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = output_of(&["completions", shell]);
        for word in ["record", "unwind-memory", "cgroup"] {
            assert!(script.contains(word), "{shell} lacks {word}");
        }
    }
}

#[test]
fn bash_completes_commands_and_options() {
    let directory = directory();
    let script = directory.path().join("everytick.bash");
    fs::write(&script, output_of(&["completions", "bash"])).unwrap();
    let complete = |words: &[&str]| {
        let setup = format!(
            "source {}; COMP_WORDS=({}); COMP_CWORD={}; _everytick everytick {} {}; \
             echo \"${{COMPREPLY[@]}}\"",
            script.display(),
            words.join(" "),
            words.len() - 1,
            words[words.len() - 1],
            words[words.len() - 2],
        );
        succeed(Command::new("bash").args(["--norc", "-c", &setup]))
    };
    assert_eq!(complete(&["everytick", "rec"]).trim(), "record");
    assert_eq!(complete(&["everytick", "record", "--unw"]).trim(), "--unwind-memory");
}

#[test]
fn man_pages_have_every_option() {
    let page = output_of(&["man"]);
    assert!(page.contains(".TH everytick 1") && page.contains("everytick\\-record(1)"), "{page}");
    let directory = directory();
    output_of(&["man", directory.path().to_str().unwrap()]);
    let entries = directory.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    let commands = [
        "agent",
        "completions",
        "debuginfo",
        "doctor",
        "man",
        "record",
        "runtimes",
        "unwind",
        "verify",
    ];
    let mut expected: Vec<String> =
        commands.iter().map(|command| format!("everytick-{command}.1")).collect();
    expected.push("everytick.1".into());
    expected.sort();
    assert_eq!(names, expected);
    let record = fs::read_to_string(directory.path().join("everytick-record.1")).unwrap();
    for option in ["\\-\\-tid", "\\-\\-cpu", "\\-\\-duration", "\\-\\-cgroup", "Examples:"] {
        assert!(record.contains(option), "everytick-record.1 lacks {option}");
    }
    let error = everytick().args(["man", "/nowhere"]).output().unwrap();
    let text = String::from_utf8(error.stderr).unwrap();
    assert!(text.contains("cannot write to the directory /nowhere"), "{text}");
}

#[test]
fn libraries_are_those_of_the_manual() {
    let readelf = |option: &str| {
        succeed(Command::new("readelf").arg(option).arg(env!("CARGO_BIN_EXE_everytick")))
    };
    let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/README.md");
    let manual = fs::read_to_string(manual).unwrap();
    let needed = readelf("-d");
    let needed = needed.lines().filter(|line| line.contains("(NEEDED)"));
    let names = needed.filter_map(|line| line.split_once('[')?.1.split('.').next());
    let names: Vec<&str> = names.filter(|name| !name.starts_with("ld-linux")).collect();
    assert!(names.contains(&"libelf"), "{names:?}");
    for name in names {
        assert!(manual.contains(name), "deploy/README.md lacks {name}");
    }
    let versions = readelf("-V");
    let minor = |text: &str| text.split_once("GLIBC_2.")?.1.split([' ', '.']).next()?.parse().ok();
    let newest: Option<u32> = versions.lines().filter_map(minor).max();
    assert_eq!(newest, Some(34), "deploy/README.md names glibc 2.34");
}

/// Records on a terminal of some columns. Returns all that the terminal shows.
fn record_on_terminal(columns: u32, environment: &str) -> String {
    let _alone = alone();
    let directory = directory();
    let command = format!(
        "stty rows 24 cols {columns}; {environment} exec {} record -d 2.5 -o {}",
        env!("CARGO_BIN_EXE_everytick"),
        directory.path().join("x.folded").display(),
    );
    succeed(Command::new("script").args(["-qec", &command, "/dev/null"]).env("TERM", "xterm"))
}

/// Returns the lines that replace each other, without the last one, which is empty.
fn progress_lines(shown: &str) -> Vec<String> {
    let all = shown.split("\r\x1b[K").skip(1);
    let lines = all.map(|part| part.split(['\r', '\n']).next().unwrap().to_owned());
    lines.filter(|line| !line.is_empty() && !line.starts_with("everytick: ")).collect()
}

#[test]
fn progress_fits_a_narrow_terminal() {
    let shown = record_on_terminal(38, "");
    let lines = progress_lines(&shown);
    assert!(lines.len() >= 2, "{shown:?}");
    for line in &lines {
        assert!(line.len() < 38, "{line:?} wraps");
        for part in ["s ", " lost ", "busy"] {
            assert!(line.contains(part), "{line:?} lacks {part:?}");
        }
        assert!(line.contains(" smp ") || line.contains(" samples "), "{line:?}");
    }
    let wide = record_on_terminal(100, "NO_COLOR=1");
    let line = progress_lines(&wide).pop().unwrap();
    for part in [" samples  ", " lost  machine ", " % busy  everytick ", " %"] {
        assert!(line.contains(part), "{line:?} lacks {part:?}");
    }
    assert!(!wide.contains("\x1b[3") && !wide.contains("\x1b[1"), "a colour: {wide:?}");
}

#[test]
fn terminal_that_cannot_replace_lines_gets_no_control_sequences() {
    let shown = record_on_terminal(80, "TERM=dumb");
    assert!(!shown.contains('\x1b'), "{shown:?}");
    assert!(shown.contains("profiling the whole machine"), "{shown:?}");
}

#[test]
fn progress_is_not_written_to_a_pipe() {
    let _alone = alone();
    let directory = directory();
    let output = everytick()
        .args(["record", "-d", "1.5", "-o", "x.folded"])
        .current_dir(directory.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && !text.contains('\x1b'), "{text:?}");
    assert!(!text.contains(" busy "), "{text}");
}
