//! Settings of the sinks over the network as a config file gives them: each key, and what happens to others.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use serde_json::json;
use upload::sinks::otlp::Protocol;
use upload::transport::Compression;
use upload::{SinkSettings, Symbolize};

fn read(value: serde_json::Value) -> Result<SinkSettings, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// Keys that all of them have.
fn connection() -> serde_json::Value {
    json!({
        "url": "https://store:7070",
        "tls": {
            "ca_file": "/ca",
            "cert_file": "/cert",
            "key_file": "/key",
            "insecure_skip_verify": true,
        },
        "bearer_token_file": "/token",
        "basic_auth": { "username": "u", "password_file": "/password" },
        "headers": { "x-a": "1" },
        "header_files": { "x-b": "/b" },
        "tenant": "t",
        "proxy": "http://proxy:3128",
        "timeout_seconds": 3,
        "compression": "none",
        "insecure": true,
    })
}

fn with(r#type: &str, more: serde_json::Value) -> serde_json::Value {
    let mut all = connection();
    all["type"] = r#type.into();
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

#[test]
fn each_key_of_parca_is_read() {
    let more = json!({ "symbolize": "server", "debug_info": false, "request_bytes_max": 1000000 });
    let SinkSettings::Parca(settings) = read(with("parca", more)).unwrap() else {
        panic!("another")
    };
    let connection = &settings.connection;
    assert_eq!(connection.url, "https://store:7070");
    assert_eq!(connection.tls.ca_file.as_deref(), Some(Path::new("/ca")));
    assert_eq!(connection.tls.key_file.as_deref(), Some(Path::new("/key")));
    assert!(connection.tls.insecure_skip_verify && connection.insecure);
    assert_eq!(connection.basic_auth.as_ref().unwrap().username, "u");
    assert_eq!(connection.header_files["x-b"], Path::new("/b"));
    assert_eq!((connection.timeout_seconds, connection.compression), (3.0, Compression::None));
    assert_eq!((settings.symbolize, settings.debug_info), (Symbolize::Server, Some(false)));
    assert_eq!(settings.request_bytes_max, 1_000_000);
}

#[test]
fn each_key_of_otlp_is_read() {
    let more = json!({ "protocol": "http", "path": "/p", "request_bytes_max": 100000 });
    let SinkSettings::Otlp(settings) = read(with("otlp", more)).unwrap() else { panic!("another") };
    assert_eq!((settings.protocol, settings.path.as_str()), (Some(Protocol::Http), "/p"));
    assert_eq!(settings.request_bytes_max, 100_000);
    assert_eq!(settings.connection.tenant.as_deref(), Some("t"));
}

#[test]
fn what_is_not_set_has_its_default() {
    let SinkSettings::Parca(parca) = read(json!({ "type": "parca" })).unwrap() else { panic!() };
    assert_eq!(parca, upload::sinks::parca::Settings::default());
    let SinkSettings::Otlp(otlp) = read(json!({ "type": "otlp" })).unwrap() else { panic!() };
    assert_eq!(otlp, upload::sinks::otlp::Settings::default());
    assert_eq!((otlp.connection.timeout_seconds, otlp.request_bytes_max), (10.0, 3_670_016));
}

#[test]
fn unknown_keys_are_errors_wherever_they_are() {
    for r#type in ["parca", "otlp"] {
        for (key, value) in [("urll", json!("x")), ("tls", json!({ "ca": "/ca" }))] {
            let error = read(json!({ "type": r#type, key: value })).unwrap_err();
            assert!(error.contains("unknown field"), "{type}: {error}");
        }
    }
    let error = read(json!({ "type": "parca", "compression": "zstd" })).unwrap_err();
    assert!(error.contains("gzip"), "{error}");
}
