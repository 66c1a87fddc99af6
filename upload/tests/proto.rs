//! The generated messages match `proto/*.proto`.
//!
//! They are committed, because generating them in a build script takes longer than building the
//! rest of this crate. `UPDATE_EXPECT=1 ./dev test proto` writes them.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use expect_test::expect_file;

/// Generates the committed code of the messages in `proto/{name}.proto`.
fn generate(name: &str) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let output = tempfile::tempdir().unwrap();
    let files = protox::compile([format!("{name}.proto")], [directory]).unwrap();
    prost_build::Config::new()
        // `Bytes` avoids a copy of each chunk.
        .bytes([".parca.UploadRequest.chunk_data"])
        // Locations are deduplicated in a table.
        .message_attribute(".otlp.Location", "#[derive(Eq, Hash)]")
        .out_dir(output.path())
        .compile_fds(files)
        .unwrap();
    let code = std::fs::read_to_string(output.path().join(format!("{name}.rs"))).unwrap();
    format!("//! Generated from `proto/{name}.proto` by `tests/proto.rs`; do not edit.\n\n{code}")
}

#[test]
fn generated_messages_are_up_to_date() {
    expect_file!["../src/sinks/otlp/proto.rs"].assert_eq(&generate("otlp"));
    expect_file!["../src/sinks/parca/proto.rs"].assert_eq(&generate("parca"));
    expect_file!["../src/sinks/pyroscope/proto.rs"].assert_eq(&generate("pyroscope"));
    expect_file!["../src/transport/proto.rs"].assert_eq(&generate("grpc_status"));
}
