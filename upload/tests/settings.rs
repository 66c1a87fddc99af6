//! Parsing of sink settings: each key sets its field; invalid and contradictory values are errors.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use upload::config::{Config, DefaultValue, KeyType, Value, units};
use upload::sinks::SinkType;
use upload::sinks::otlp::Protocol;
use upload::transport::{Compression, Connection};
use upload::{SinkConfig, Symbolize};

/// Settings of every sink type that has a connection.
const CONNECTION: [(&str, &str); 15] = [
    ("url", "https://store:7070"),
    ("tls.ca_file", "/ca"),
    ("tls.cert_file", "/cert"),
    ("tls.key_file", "/key"),
    ("tls.insecure_skip_verify", "true"),
    ("basic_auth.username", "u"),
    ("basic_auth.password_file", "/password"),
    ("headers", "x-a=1"),
    ("header_files", "x-b=/b"),
    ("tenant", "t"),
    ("proxy", "http://proxy:3128"),
    ("timeout_seconds", "3"),
    ("compression", "none"),
    ("insecure", "true"),
    ("request_bytes_max", "1MiB"),
];

fn parse(name: &str, settings: &[(&str, &str)]) -> SinkConfig {
    SinkConfig::parse(name, settings).unwrap()
}

/// Returns the only required setting of a sink type.
fn required(sink: &SinkType) -> (&'static str, &'static str) {
    match sink.is_server() {
        true => ("url", "https://host"),
        false => ("directory", "/d"),
    }
}

#[test]
fn parca_settings_are_parsed() {
    let more = [("symbolize", "server"), ("debug_info", "false")];
    let SinkConfig::Parca(config) = parse("parca", &[&CONNECTION[..], &more].concat()) else {
        panic!("wrong sink type")
    };
    let connection = &config.connection;
    assert_eq!(connection.url, "https://store:7070");
    assert_eq!(connection.tls.ca_file.as_deref(), Some(Path::new("/ca")));
    assert_eq!(connection.tls.key_file.as_deref(), Some(Path::new("/key")));
    assert!(connection.tls.insecure_skip_verify && connection.insecure);
    assert_eq!(connection.basic_auth.as_ref().unwrap().username, "u");
    assert_eq!(connection.headers["x-a"], "1");
    assert_eq!(connection.header_files["x-b"], Path::new("/b"));
    assert_eq!((connection.timeout_seconds, connection.compression), (3.0, Compression::None));
    assert_eq!((config.symbolize, config.debug_info), (Symbolize::Server, Some(false)));
    assert_eq!(config.request_bytes_max, 1 << 20);
}

#[test]
fn otlp_settings_are_parsed() {
    let more = [("protocol", "http"), ("path", "/p")];
    let SinkConfig::Otlp(config) = parse("otlp", &[&CONNECTION[..], &more].concat()) else {
        panic!("wrong sink type")
    };
    assert_eq!((config.protocol, config.path.as_str()), (Some(Protocol::Http), "/p"));
    assert_eq!(config.connection.tenant.as_deref(), Some("t"));
    assert_eq!(config.connection.bearer_token_file, None);
}

#[test]
fn unset_keys_have_their_defaults() {
    let SinkConfig::Otlp(otlp) = parse("otlp", &[("url", "http://h")]) else { panic!() };
    let connection = Connection { url: "http://h".into(), ..Connection::default() };
    assert_eq!(otlp, upload::sinks::otlp::Config { connection, ..Default::default() });
    assert_eq!((otlp.connection.timeout_seconds, otlp.request_bytes_max), (10.0, 3_670_016));
}

/// Returns a valid value that is not the default.
fn other_value(key: &upload::config::Key) -> String {
    let is_on = key.default == DefaultValue::Value(Value::Bool(true));
    match &key.key_type {
        KeyType::Bool => (!is_on).to_string(),
        KeyType::Integer(range) => range.start().to_string(),
        KeyType::Number(range) => range.start().to_string(),
        KeyType::Bytes(range) => units::format_bytes(*range.start()),
        KeyType::Duration(range) => units::format_duration(*range.start()),
        KeyType::OneOf(choices) => choices.last().unwrap().to_string(),
        KeyType::Url => "https://other".into(),
        KeyType::Proxy => "http://other".into(),
        KeyType::Address => "[::1]:1".into(),
        KeyType::Labels | KeyType::Headers => "a=b".into(),
        KeyType::HeaderFiles => "a=/b".into(),
        KeyType::Text | KeyType::Directory | KeyType::File => "/other".into(),
    }
}

#[test]
fn every_key_changes_the_configuration() {
    for sink in SinkType::all() {
        let mut settings = vec![required(&sink)];
        let unchanged = parse(sink.name, &settings);
        for key in &sink.keys {
            let value = other_value(key);
            let pairs = [
                "tls.cert_file",
                "tls.key_file",
                "basic_auth.username",
                "basic_auth.password_file",
            ];
            settings.retain(|(path, _)| *path != key.path);
            settings.push((&key.path, &value));
            for pair in pairs.chunks(2).filter(|pair| pair.contains(&key.path.as_str())) {
                settings.extend(
                    pair.iter().filter(|path| **path != key.path).map(|path| (*path, "/other")),
                );
            }
            assert_ne!(parse(sink.name, &settings), unchanged, "{} {}", sink.name, key.path);
            settings = vec![required(&sink)];
        }
    }
}

#[test]
fn invalid_settings_are_errors() {
    let check = |name: &str, settings: &[(&str, &str)], expected: &str| {
        let error = SinkConfig::parse(name, settings).unwrap_err();
        assert!(error.contains(expected), "{settings:?}: {error}");
    };
    let url = ("url", "https://localhost:4040");
    check("kafka", &[], "unknown type");
    check("parca", &[], "`url` is missing");
    check("parca", &[("urll", "x")], "unknown key `urll`");
    check("otlp", &[url, ("tls.ca", "/ca")], "unknown key `tls.ca`");
    check("parca", &[url, ("compression", "zstd")], "give one of \"gzip\", \"none\"");
    check("parca", &[url, ("request_bytes_max", "100MiB")], "give 64KiB to 60MiB");
    check("pyroscope", &[url, ("limits.labels", "1")], "give an integer from 2");
    check("pyroscope", &[url, ("limits.burst_bytes", "0B")], "give 1KiB to 1GiB");
    check("otlp", &[url, ("path", "a path")], "`path` is not a path");
    for (path, value) in [("max_bytes", "0B"), ("max_age", "0s"), ("directory", "")] {
        check("file", &[("directory", "/d"), (path, value)], "give");
    }
    for seconds in ["0", "-1", "nan", "inf", "1e9"] {
        check("parca", &[url, ("timeout_seconds", seconds)], "give a number from 0.01 to 3600");
    }
}

#[test]
fn urls_have_only_scheme_host_and_path() {
    for url in ["http://localhost:7070", "https://store.example/prefix", "http://[::1]:4317"] {
        parse("parca", &[("url", url)]);
    }
    let check = |url: &str, expected: &str| {
        let error = SinkConfig::parse("parca", &[("url", url)]).unwrap_err();
        assert!(error.contains(expected) && !error.contains("hunter2"), "{url}: {error}");
    };
    check("", "give an address such as");
    check("localhost:7070", "begin it with http:// or https://");
    check("grpc://localhost", "give an address such as");
    check("https://", "give an address such as");
    check("https://h/?a=b", "give an address such as");
    check("https://u:hunter2@h/", "set basic_auth");
}

#[test]
fn debug_output_shows_no_secret() {
    let connection = Connection {
        headers: [("x-api-key".to_owned(), "hunter2".to_owned())].into(),
        proxy: Some("http://user:hunter2@proxy:3128".into()),
        url: "https://user:hunter2@host/path?token=hunter2".into(),
        ..Connection::default()
    };
    let text = format!("{connection:?}");
    assert!(!text.contains("hunter2"), "{text}");
    for shown in ["https://host/path", "http://proxy:3128", "x-api-key", "timeout_seconds: 10"] {
        assert!(text.contains(shown), "{text}");
    }
    for key in Connection::keys() {
        let field = key.path.split('.').next().unwrap().to_owned();
        assert!(text.contains(&field), "{field}: {text}");
    }
}
