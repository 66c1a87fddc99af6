//! The list of sinks: their types, and the one table of the keys of each.
//!
//! The settings themselves are those of crate `upload`; a test compares keys and defaults with them.

use std::time::Duration;

use serde::Deserialize;
use upload::SinkSettings;
use upload::delivery::NamedSink;

use super::error::{Origin, Problem, Problems};
use super::kind::Kind;
use super::schema::{Key, Known, Unset};
use super::settle::{Setting, Settled};

/// Sinks that one agent can have.
pub(super) const SINKS_MAX: usize = 16;
/// The local store is a sink of this name.
const STORE: &str = "store";
/// Longest name: it is a directory, and a label of metrics.
const NAME_BYTES_MAX: usize = 32;

/// A type of sinks.
#[derive(Debug)]
pub(super) struct Type {
    pub name: &'static str,
    pub meaning: &'static str,
    /// Whether it is a server: it has the keys of [`CONNECTION`] then.
    pub is_server: bool,
    /// Keys that it alone has.
    pub own: &'static [Key],
}

/// All types.
pub(super) static TYPES: [Type; 4] = [
    Type { name: "parca", meaning: "A Parca server, by gRPC.", is_server: true, own: &PARCA },
    Type {
        name: "pyroscope",
        meaning: "A Pyroscope server, by HTTP. To find names itself it must be 2.0 or newer, with `-symbolizer.enabled`.",
        is_server: true,
        own: &PYROSCOPE,
    },
    Type {
        name: "otlp",
        meaning: "An OpenTelemetry Collector or what speaks like it. What is not set here is taken from OpenTelemetry's \
                  variables, such as `OTEL_EXPORTER_OTLP_ENDPOINT`.",
        is_server: true,
        own: &OTLP,
    },
    Type {
        name: "file",
        meaning: "A directory with a pprof file for each window.",
        is_server: false,
        own: &FILE,
    },
];

/// Names of all types.
pub(super) const NAMES: [&str; 4] = ["parca", "pyroscope", "otlp", "file"];

/// Which of them a sink is.
pub(super) static TYPE: Key = Key::new(
    "type",
    Kind::OneOf(&NAMES),
    Unset::Missing("\"parca\", \"pyroscope\", \"otlp\" or \"file\""),
    "which of the types below it is",
);

impl Type {
    pub fn keys(&self) -> impl Iterator<Item = &'static Key> + Clone + use<> {
        let shared: &[Key] = if self.is_server { &CONNECTION } else { &[] };
        shared.iter().chain(self.own)
    }

    pub fn key(&self, path: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.path == path)
    }
}

/// Finds a type by its name.
pub(super) fn of(name: &str) -> Option<&'static Type> {
    TYPES.iter().find(|of| of.name == name)
}

/// Gives the keys that any type has.
pub(super) fn all_paths() -> impl Iterator<Item = &'static str> + Clone {
    TYPES.iter().flat_map(Type::keys).chain([&TYPE]).map(|key| key.path)
}

/// Says what a path in a sink is, before its type is known.
pub(super) fn known(path: &str) -> Known {
    Known::among(path, all_paths())
}

/// Says what to do if a name cannot be a sink's.
pub(super) fn name_problem(name: &str) -> Option<String> {
    let is_letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_name = name.bytes().next().is_some_and(is_letter)
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|b| is_letter(b) || b == b'-' || b == b'_');
    if name == STORE {
        return Some(format!("the local store is named {STORE}; give the sink another name"));
    }
    (!is_name).then(|| {
        format!(
            "a sink cannot be named {:?}; use a to z, 0 to 9, - and _, at most {NAME_BYTES_MAX} of them",
            super::given::cut(name)
        )
    })
}

/// Gives a sink's section as its settings.
pub(super) fn settings(section: &Settled) -> Result<NamedSink, Problem> {
    let name = section.name.split_once('.').map_or("", |(_, name)| name).to_owned();
    let settings =
        SinkSettings::deserialize(section.table()).map_err(|error| Problem::Refused {
            at: section.at.clone(),
            text: format!("[{}]: {}", section.name, error.message()),
        })?;
    Ok(NamedSink { name, settings })
}

/// Keys of which one is no use without the other.
const TOGETHER: [(&str, &str); 4] = [
    ("tls.cert_file", "tls.key_file"),
    ("tls.key_file", "tls.cert_file"),
    ("basic_auth.username", "basic_auth.password_file"),
    ("basic_auth.password_file", "basic_auth.username"),
];
/// Keys that say who we are.
const CREDENTIALS: [&str; 3] = ["bearer_token_file", "basic_auth.password_file", "header_files"];
/// Keys that count with TLS only.
const TLS: [&str; 3] = ["tls.ca_file", "tls.cert_file", "tls.key_file"];

/// Looks whether a sink's keys fit together.
pub(super) fn check(section: &Settled, problems: &mut Problems) {
    let set = |name: &str| section.get(name).filter(|setting| setting.origin != Origin::Default);
    let mut refuse = |setting: &Setting, text: String| {
        let text = format!("`{}.{}` {text}", section.name, setting.key.path);
        problems.push(Problem::Refused { at: setting.origin.clone(), text });
    };
    for (one, other) in TOGETHER {
        if let (Some(setting), None) = (set(one), set(other)) {
            refuse(setting, format!("is set without `{other}`; set both or none"));
        }
    }
    if let (Some(_), Some(setting)) = (set("bearer_token_file"), set("basic_auth.username")) {
        refuse(setting, "is set beside `bearer_token_file`; keep one of them".into());
    }
    let url = section.get("url").and_then(|url| url.value.as_str()).unwrap_or_default();
    if !url.starts_with("http://") {
        return;
    }
    let may = section.get("insecure").and_then(|insecure| insecure.value.as_bool());
    let headers = set("headers").filter(|setting| {
        setting.value.as_table().is_some_and(|headers| headers.keys().any(|name| is_secret(name)))
    });
    let secret = CREDENTIALS.iter().find_map(|name| set(name)).or(headers);
    if let (Some(setting), Some(false)) = (secret, may) {
        let text = "would be sent unencrypted; begin `url` with https://, or set `insecure = true`";
        refuse(setting, text.into());
    }
    if let Some(setting) = TLS.iter().find_map(|name| set(name)) {
        refuse(setting, "does nothing with http://; begin `url` with https://".into());
    }
}

/// Says whether the text of a header with this name is likely to be a secret.
///
/// Source: as `upload/src/transport/connection.rs` says.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["auth", "token", "key", "secret", "password", "cookie"].iter().any(|word| name.contains(word))
}

/// How a server is reached.
pub(super) static CONNECTION: [Key; 15] = [
    Key::new(
        "url",
        Kind::Url,
        Unset::Missing("\"http://HOST:PORT\""),
        "where the server is; `https://` for TLS",
    ),
    Key::new(
        "tenant",
        Kind::Text,
        Unset::Nothing,
        "whose profiles these are, for servers with several tenants (`X-Scope-OrgID`)",
    ),
    Key::new(
        "timeout_seconds",
        Kind::Number { from: 0.01, to: 3600.0 },
        Unset::Is("10"),
        "seconds after which a request has failed",
    ),
    Key::new("compression", Kind::OneOf(&["gzip", "none"]), Unset::Is("gzip"), "of what is sent"),
    Key::new(
        "tls.ca_file",
        Kind::File,
        Unset::Nothing,
        "whom to trust, in place of the system's list (PEM)",
    ),
    Key::new("tls.cert_file", Kind::File, Unset::Nothing, "certificate that we show (PEM)"),
    Key::new("tls.key_file", Kind::File, Unset::Nothing, "its key (PEM)"),
    Key::new("tls.insecure_skip_verify", Kind::Switch, Unset::Is("false"), "trust whoever answers"),
    Key::new(
        "bearer_token_file",
        Kind::File,
        Unset::Nothing,
        "file with a token; read again when it changes",
    ),
    Key::new("basic_auth.username", Kind::Text, Unset::Nothing, "name for basic authentication"),
    Key::new("basic_auth.password_file", Kind::File, Unset::Nothing, "file with its password"),
    Key::new("headers", Kind::Headers, Unset::Nothing, "headers of each request"),
    Key::new(
        "header_files",
        Kind::HeaderFiles,
        Unset::Nothing,
        "headers whose text is a secret, each in a file",
    ),
    Key::new(
        "proxy",
        Kind::Proxy,
        Unset::Nothing,
        "proxy to go through; without it `$HTTPS_PROXY`, `$HTTP_PROXY`, `$ALL_PROXY` and `$NO_PROXY` count",
    ),
    Key::new(
        "insecure",
        Kind::Switch,
        Unset::Is("false"),
        "whether credentials may be sent over `http://`",
    ),
];

const SYMBOLIZE: Key = Key::new(
    "symbolize",
    Kind::OneOf(&["agent", "server"]),
    Unset::Is("agent"),
    "who finds the names of functions; the server does so for files with a build id alone",
);

const DEBUG_INFO: Key = Key::new(
    "debug_info",
    Kind::Switch,
    Unset::Depends("`true` if the server finds names, else `false`"),
    "whether debug info is uploaded",
);

static PARCA: [Key; 3] = [
    SYMBOLIZE,
    DEBUG_INFO,
    Key::new(
        "request_bytes_max",
        Kind::Bytes { from: REQUEST_BYTES_MIN, to: 60 << 20 },
        Unset::Is("32MiB"),
        "largest request; Parca takes 64MiB, what is before it may take less",
    ),
];

const GIB: u64 = 1 << 30;
/// Source: `upload/src/sinks/parts.rs`.
const REQUEST_BYTES_MIN: u64 = 64 << 10;

/// What servers are made to take at most.
const fn limit_bytes(path: &'static str, usual: &'static str, meaning: &'static str) -> Key {
    Key::new(path, Kind::Bytes { from: 1 << 10, to: GIB }, Unset::Is(usual), meaning)
}

const fn limit(path: &'static str, usual: &'static str, meaning: &'static str) -> Key {
    // One label would be the name of the profile.
    Key::new(path, Kind::Whole { from: 2, to: 1_000_000_000 }, Unset::Is(usual), meaning)
}

static PYROSCOPE: [Key; 9] = [
    Key::new(
        "sample_labels",
        Kind::Switch,
        Unset::Is("true"),
        "whether `cut` and `guessed` are sent along, of which the server makes series of their own",
    ),
    SYMBOLIZE,
    DEBUG_INFO,
    limit_bytes(
        "limits.profile_bytes",
        "4MiB",
        "what the server takes of one profile, uncompressed",
    ),
    limit("limits.profile_samples", "16000", "what the server takes of samples in one profile"),
    limit("limits.stack_frames", "1000", "what the server takes of frames in one stack"),
    limit("limits.labels", "30", "what the server takes of labels of one series"),
    limit_bytes(
        "limits.bytes_per_second",
        "4000000B",
        "what the server takes in a second, uncompressed",
    ),
    limit_bytes("limits.burst_bytes", "2000000B", "what the server takes at once, uncompressed"),
];

static OTLP: [Key; 3] = [
    Key::new(
        "protocol",
        Kind::OneOf(&["grpc", "http"]),
        Unset::Depends("`\"http\"` if the port is 4318, else `\"grpc\"`"),
        "how requests travel",
    ),
    Key::new(
        "path",
        Kind::Text,
        Unset::Is("/v1development/profiles"),
        "path of the service below `url`, for HTTP",
    ),
    Key::new(
        "request_bytes_max",
        Kind::Bytes { from: REQUEST_BYTES_MIN, to: 64 << 20 },
        Unset::Is("3584KiB"),
        "largest request, uncompressed; most servers take 4MiB",
    ),
];

static FILE: [Key; 3] = [
    Key::new("directory", Kind::Directory, Unset::Missing("\"/PATH\""), "where it is"),
    Key::new(
        "max_bytes",
        Kind::Bytes { from: 1 << 16, to: 1 << 50 },
        Unset::Is("1GiB"),
        "largest size; the oldest windows go first",
    ),
    Key::new(
        "max_age",
        Kind::Duration { from: Duration::from_secs(1), to: Duration::from_secs(3660 * 86_400) },
        Unset::Is("7d"),
        "windows that are older go, ten with each new one",
    )
    .in_seconds("max_age_seconds"),
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Config, Flags};
    use super::*;

    fn config(text: &str) -> Result<SinkSettings, String> {
        let config = Config::from_text(Path::new("x"), text, &Flags::default(), [], "host");
        let config = config.map_err(|error| error.to_string())?;
        config.sinks.into_iter().next().map(|sink| sink.settings).ok_or("no sink".into())
    }

    /// A sink that has what it must have and nothing else.
    fn bare(of: &Type) -> String {
        let place = if of.is_server { "url = \"https://host\"" } else { "directory = \"/d\"" };
        format!("type = \"{}\"\n{place}\n", of.name)
    }

    #[test]
    fn the_list_of_names_is_that_of_the_types() {
        assert!(NAMES.iter().eq(TYPES.iter().map(|of| &of.name)));
    }

    #[test]
    fn defaults_are_those_of_the_settings() -> Result<(), String> {
        for of in &TYPES {
            let bare = bare(of);
            let settings: SinkSettings =
                toml::from_str(&bare).map_err(|error| error.to_string())?;
            assert_eq!(config(&format!("[sinks.a]\n{bare}"))?, settings, "{}", of.name);
        }
        Ok(())
    }

    /// Another value than the default.
    fn another(key: &Key) -> String {
        let usual = match key.unset {
            Unset::Is(text) => text,
            _ => "",
        };
        match key.kind {
            Kind::Switch => (usual != "true").to_string(),
            Kind::Whole { from, .. } => from.to_string(),
            Kind::Number { from, .. } => from.to_string(),
            Kind::OneOf(words) => {
                let other = words.iter().find(|word| **word != usual);
                format!("{:?}", other.copied().unwrap_or_default())
            }
            Kind::Duration { from, .. } => {
                format!("\"{}\"", super::super::units::duration_text(from))
            }
            Kind::Bytes { from, .. } => format!("\"{from}B\""),
            Kind::Directory | Kind::DirectoryOrOff | Kind::File => "\"/other\"".into(),
            Kind::Url => "\"https://other\"".into(),
            Kind::Proxy => "\"http://other\"".into(),
            Kind::Labels | Kind::Headers => "{ a = \"b\" }".into(),
            Kind::HeaderFiles => "{ a = \"/b\" }".into(),
            Kind::Text | Kind::AddressOrOff => "\"off\"".into(),
        }
    }

    #[test]
    fn every_key_changes_the_settings() -> Result<(), String> {
        for of in &TYPES {
            let bare = format!("[sinks.a]\n{}", bare(of));
            for key in of.keys().filter(|key| !matches!(key.unset, Unset::Missing(_))) {
                let mut text = format!("{bare}{} = {}\n", key.path, another(key));
                for (_, other) in TOGETHER.iter().filter(|(one, _)| *one == key.path) {
                    text += &format!("{other} = \"/other\"\n");
                }
                assert_ne!(config(&text)?, config(&bare)?, "{text}");
            }
        }
        Ok(())
    }

    /// Fields whose keys have other names.
    const RENAMED: [(&str, &str); 2] = [("bytes_max", "max_bytes"), ("age_max_seconds", "max_age")];

    #[test]
    fn every_field_of_the_settings_has_a_key() -> Result<(), String> {
        for of in &TYPES {
            let shown = format!("{:#?}", config(&format!("[sinks.a]\n{}", bare(of)))?);
            let mut path: Vec<(usize, String)> = Vec::new();
            let mut fields = 0;
            for line in shown.lines() {
                let depth = line.len() - line.trim_start().len();
                path.retain(|(above, _)| *above < depth);
                let Some((name, _)) = line.trim().split_once(": ") else { continue };
                if name == "connection" {
                    continue; // its fields are the sink's own
                }
                let name =
                    RENAMED.iter().find(|(field, _)| *field == name).map_or(name, |(_, key)| key);
                path.push((depth, name.to_owned()));
                let names: Vec<&str> = path.iter().map(|(_, name)| name.as_str()).collect();
                let key = names.join(".");
                let known = Known::among(&key, of.keys().map(|key| key.path));
                assert_ne!(known, Known::No, "{} has `{key}`:\n{shown}", of.name);
                fields += 1;
            }
            assert!(fields >= of.own.len(), "{shown}");
        }
        Ok(())
    }
}
