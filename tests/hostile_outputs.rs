//! Names that users of a machine choose, as process, file and function, through every output of a
//! recording: each is valid, bounded, and shows nothing but text.
#![allow(clippy::unwrap_used)]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::elf::rename_function;
use common::{Running, TempDir, alone, compile_with, directory, everytick, parse_folded};
use flate2::read::GzDecoder;
use profile::pprof;
use quick_xml::events::Event;
use serde_json::Value;

/// Longest name in an output, with what escaping makes of it.
const NAME_MAX: usize = 64 << 10;

/// Files with one build ID are one executable.
const OWN_BUILD_ID: &str = "-Wl,--build-id=uuid";

/// Names of processes, files and functions; each begins with another letter. Of the name of a
/// process, the first 15 bytes count.
const NAMES: [&[u8]; 4] = [
    b"a</script>\"'&<><script>alert(1)</script>&amp;--><!--]]>",
    "b\x1b[2J\n\r\t\u{2028}\x1b]0;title\x07\u{9b}31m\x7f".as_bytes(),
    "c\u{202e}right\u{2066}\u{200f}\u{fffe}\u{ffff}\u{fdd0}\u{feff}".as_bytes(),
    b"d;\xff\xfe\xc0\x80 \xf0\x9f is not UTF-8 7 2.5: -> (j) +0x12 # {",
];

/// Returns whether a character does more than show itself.
fn is_active(c: char) -> bool {
    profile::printable(c.encode_utf8(&mut [0; 4])) != c.to_string()
}

/// Checks a text of lines: short, and nothing in it is active.
fn check_text(text: &str, line_max: usize) {
    for line in text.lines() {
        assert!(!line.contains(|c| c != '\t' && is_active(c)), "{line:?}");
        assert!(line.len() <= line_max, "{} bytes: {line}", line.len());
    }
}

/// Starts a program with a hostile name, in a file and a directory of that name, and with a
/// function of it.
fn start(directory: &Path, name: &[u8], function: &[u8]) -> Running {
    let program = compile_with("named.c", directory, "program", &["-g0", OWN_BUILD_ID]);
    rename_function(&program, function);
    let hostile = directory.join(OsStr::from_bytes(name));
    fs::create_dir_all(hostile.parent().unwrap()).unwrap();
    fs::rename(&program, &hostile).unwrap();
    Running::start_with(&hostile, &[PathBuf::from(OsStr::from_bytes(name))])
}

fn start_all(directory: &Path) -> Vec<Running> {
    let enormous = [vec![b'z'; 200], b"z".repeat(1 << 20)];
    let mut running: Vec<Running> = NAMES.iter().map(|name| start(directory, name, name)).collect();
    running.push(start(directory, &enormous[0], &enormous[1]));
    running
}

/// Records programs into files `x.*` of a directory. Returns standard output and error.
fn record(running: &[Running], directory: &TempDir, arguments: &[&str]) -> (String, String) {
    let mut command: Command = everytick();
    let pids: Vec<String> = running.iter().map(Running::pid).collect();
    command.args(["record", "-F", "199", "-d", "3", "-p", &pids.join(",")]).args(arguments);
    let output = command.current_dir(directory.path()).stdin(Stdio::null()).output().unwrap();
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{stderr}");
    (stdout, stderr)
}

fn read(directory: &TempDir, name: &str) -> String {
    fs::read_to_string(directory.path().join(name)).unwrap()
}

/// Returns the samples of a picture: the width of all its stacks.
fn samples_of_picture(svg: &str) -> u64 {
    let mut reader = quick_xml::Reader::from_str(svg);
    reader.config_mut().check_end_names = true;
    while reader.read_event().unwrap() != Event::Eof {}
    assert_eq!(svg.matches("<script").count(), 1, "{svg}");
    let (_, width) = svg.split_once(" data-w=\"").unwrap();
    width.split('"').next().unwrap().parse().unwrap()
}

#[test]
fn hostile_names_are_text_in_every_output() {
    let _alone = alone();
    let (place, out) = (directory(), directory());
    let running = start_all(place.path());
    let outputs =
        ["x.svg", "x.pb.gz", "x.folded", "x.speedscope.json", "x.perf", "x.firefox.json.gz"];
    let arguments: Vec<&str> = outputs.iter().flat_map(|name| ["-o", name]).chain(["-v"]).collect();
    let (_, stderr) = record(&running, &out, &arguments);
    check_text(&stderr, 4096);
    for name in ["a</script>\"'", "b\\u{1b}[2J\\n\\r", "c\\u{202e}right", "d;\u{fffd}"] {
        assert!(stderr.contains(name), "{name} in {stderr}");
    }

    let folded = read(&out, "x.folded");
    check_text(&folded, NAME_MAX);
    let stacks = parse_folded(&folded);
    let samples: u64 = stacks.iter().map(|(_, count)| count).sum();
    for first in "abcdz".chars() {
        let of_name = stacks.iter().filter(|(stack, _)| stack[0].starts_with(first));
        let mut frames = of_name.flat_map(|(stack, _)| &stack[1..]);
        assert!(frames.any(|frame| frame.starts_with(first)), "{first} in {folded}");
    }

    let svg = read(&out, "x.svg");
    check_text(&svg, NAME_MAX);
    assert_eq!(samples_of_picture(&svg), samples);

    let message = pprof::decode(&fs::read(out.path().join("x.pb.gz")).unwrap(), 64 << 20).unwrap();
    assert_eq!(message.sample.iter().map(|sample| sample.value[0]).sum::<i64>(), samples as i64);
    message.string_table.iter().for_each(|text| check_text(text, 4096));

    let perf = read(&out, "x.perf");
    check_text(&perf, NAME_MAX);
    let events = perf.lines().filter(|line| line.ends_with(": cpu-clock: ")).count();
    assert_eq!(events as u64, samples);

    let speedscope = read(&out, "x.speedscope.json");
    assert!(!speedscope.contains(is_active), "{speedscope}");
    let json: Value = serde_json::from_str(&speedscope).unwrap();
    assert!(!json["profiles"][0]["samples"].as_array().unwrap().is_empty());

    let mut firefox = String::new();
    let compressed = fs::read(out.path().join("x.firefox.json.gz")).unwrap();
    GzDecoder::new(&*compressed).read_to_string(&mut firefox).unwrap();
    assert!(!firefox.contains(is_active), "{firefox}");
    let json: Value = serde_json::from_str(&firefox).unwrap();
    let of_thread = |thread: &Value| thread["samples"]["length"].as_u64().unwrap();
    let threads = json["threads"].as_array().unwrap();
    assert_eq!(threads.iter().map(of_thread).sum::<u64>(), samples);
}

#[test]
fn hostile_names_are_text_in_json_and_command_lines() {
    let _alone = alone();
    let (place, out) = (directory(), directory());
    let running = start_all(place.path());
    let arguments = ["--json", "--by", "cmdline", "-o", "x.folded", "-o", "x.svg"];
    let (stdout, stderr) = record(&running, &out, &arguments);
    check_text(&stderr, 4096);
    check_text(&stdout, 256 << 10);
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    let json: Value = serde_json::from_str(&stdout).unwrap();
    let functions = json["functions"].as_array().unwrap();
    let names: Vec<&str> = functions.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert!(names.iter().any(|name| name.starts_with("c\u{202e}right\u{2066}")), "{names:?}");
    for name in ["x.folded", "x.svg"] {
        check_text(&read(&out, name), NAME_MAX);
    }
    samples_of_picture(&read(&out, "x.svg"));
}
