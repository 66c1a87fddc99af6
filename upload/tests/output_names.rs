//! Names of all kinds in every output: valid, bounded, and nothing lost.
#![allow(clippy::unwrap_used)]

mod hostile_profile;

use std::io::Read;

use flate2::read::GzDecoder;
use hostile_profile::{depth, profile, profile_of, with_times};
use inferno::collapse::Collapse;
use inferno::collapse::perf::Folder;
use profile::{Profile, pprof};
use proptest::prelude::*;
use serde_json::Value;
use upload::output::{OutputFile, OutputOptions};

/// Returns the bytes of a profile in the format with this extension.
fn written(profile: &Profile, extension: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(format!("x{extension}"));
    let output = OutputFile::new(path, OutputOptions::default()).unwrap();
    output.write(profile).unwrap();
    std::fs::read(output.path()).unwrap()
}

fn text(profile: &Profile, extension: &str) -> String {
    String::from_utf8(written(profile, extension)).unwrap()
}

/// Whether a character does more in a text than show itself.
fn is_active(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{fffe}')
}

/// Checks every output of a profile.
fn check(profile: &Profile) {
    let samples: u64 = profile.samples.iter().map(|sample| sample.count).sum();
    let frames: u64 = profile.samples.iter().map(|one| one.count * depth(profile, one)).sum();

    let folded = text(profile, ".folded");
    let counts =
        folded.lines().map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap());
    assert_eq!(counts.sum::<u64>(), samples, "{folded}");
    assert!(!folded.contains(is_active), "{folded}");

    let mut collapsed = Vec::new();
    let perf = text(profile, ".perf");
    Folder::default().collapse(perf.as_bytes(), &mut collapsed).unwrap();
    let collapsed = String::from_utf8(collapsed).unwrap();
    let found = collapsed.lines().fold((0, 0), |(samples, frames), line| {
        let (stack, count) = line.rsplit_once(' ').unwrap();
        let count: u64 = count.parse().unwrap();
        (samples + count, frames + count * stack.matches(';').count() as u64)
    });
    assert_eq!(found, (samples, frames), "{perf}");
    assert!(!perf.contains(is_active), "{perf}");

    let speedscope = text(profile, ".speedscope.json");
    let json: Value = serde_json::from_str(&speedscope).unwrap();
    let weights = json["profiles"][0]["weights"].as_array().unwrap();
    let sum: u64 = weights.iter().map(|weight| weight.as_u64().unwrap()).sum();
    assert_eq!(sum, samples * profile.period_ns);
    assert!(!speedscope.contains(is_active), "{speedscope}");

    let message = pprof::decode(&written(profile, ".pb.gz"), 64 << 20).unwrap();
    assert_eq!(message.sample.iter().map(|sample| sample.value[0]).sum::<i64>(), samples as i64);
    assert!(message.location.iter().all(|location| !location.line.is_empty()));
    assert!(!message.string_table.iter().any(|text| text.contains(is_active)));

    let mut firefox = String::new();
    let compressed = written(&with_times(profile.clone()), ".firefox.json.gz");
    GzDecoder::new(&*compressed).read_to_string(&mut firefox).unwrap();
    let json: Value = serde_json::from_str(&firefox).unwrap();
    let threads = json["threads"].as_array().unwrap();
    let length = |thread: &Value| thread["samples"]["length"].as_u64().unwrap();
    assert_eq!(threads.iter().map(length).sum::<u64>(), samples);
    assert!(!firefox.contains(is_active), "{firefox}");
}

#[test]
fn known_hostile_names_are_harmless_and_bounded() {
    let profile = profile();
    check(&profile);
    let longest = text(&profile, ".perf").lines().map(str::len).max().unwrap();
    assert!(longest < 64 << 10, "a line of {longest} bytes");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_name_is_harmless(
        names in prop::collection::vec(
            prop_oneof![any::<String>(), "[ -~]{0,20}", "[0-9 ;:#(){}>+x/\\[\\]-]{0,12}"],
            1..4,
        ),
    ) {
        check(&profile_of(&names));
    }
}
