//! A small limit of the size of files (`ulimit -f`) is an error like a full disk, not a signal that
//! kills.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::process::Command;

use common::directory;
use profile::pprof::{compress, proto as pb};

/// Returns a window that began in 1970 and has one sample without frames.
fn window() -> pb::Profile {
    let value = |r#type, unit| pb::ValueType { r#type, unit };
    let texts = ["", "samples", "count", "cpu", "nanoseconds"];
    pb::Profile {
        sample_type: vec![value(1, 2), value(3, 4)],
        sample: vec![pb::Sample { value: vec![1, 1], ..Default::default() }],
        period_type: Some(value(3, 4)),
        period: 1,
        duration_nanos: 1,
        string_table: texts.map(str::to_owned).into(),
        ..Default::default()
    }
}

#[test]
fn an_export_beyond_the_limit_is_an_error_and_leaves_no_file() {
    let directory = directory();
    let store = directory.path().join("store");
    fs::create_dir(&store).unwrap();
    fs::write(store.join("19700101T000000.000Z.pb.gz"), compress(&window())).unwrap();
    for name in ["x.folded", "x.pb.gz", "x.svg"] {
        let out = directory.path().join(name);
        let output = Command::new("bash")
            .args(["-c", "ulimit -f 0; exec \"$@\"", "bash", env!("CARGO_BIN_EXE_everytick")])
            .args(["agent", "--export", "1970-01-01T00:00:00Z..1970-01-01T00:01:00Z"])
            .arg("--store")
            .arg(&store)
            .arg("-o")
            .arg(&out)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{:?}: {error}", output.status);
        let expected = "File too large (os error 27); raise the limit of the size of files";
        assert!(error.contains(expected), "{error}");
        let left: Vec<_> = fs::read_dir(directory.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}
