//! What OpenTelemetry's variables give to sinks of type `otlp`: the weakest layer, below the file.

use toml::Value;
use upload::sinks::otlp::{FromEnvironment, Protocol, from_environment};
use upload::transport::Compression;

use super::error::{Origin, Problem};
use super::schema::Key;
use super::settle::Setting;

/// What they begin with.
pub(super) const PREFIX: &str = "OTEL_EXPORTER_OTLP_";

/// Keys and the variables that give them, less [`PREFIX`] and the `PROFILES_` that may follow it.
const VARIABLES: [(&str, &str); 10] = [
    ("url", "ENDPOINT"),
    ("path", "ENDPOINT"),
    ("protocol", "PROTOCOL"),
    ("headers", "HEADERS"),
    ("timeout_seconds", "TIMEOUT"),
    ("compression", "COMPRESSION"),
    ("tls.ca_file", "CERTIFICATE"),
    ("tls.cert_file", "CLIENT_CERTIFICATE"),
    ("tls.key_file", "CLIENT_KEY"),
    ("insecure", "INSECURE"),
];

/// What they give.
#[derive(Default)]
pub(super) struct Otel {
    given: FromEnvironment,
    /// Names of those that are set.
    names: Vec<String>,
}

impl Otel {
    /// Reads variables: whole names, and text that is not empty.
    pub fn of(variables: &[(String, String)]) -> Result<Self, Problem> {
        let text = |name: &str| {
            variables.iter().find(|(found, _)| found == name).map(|(_, text)| text.clone())
        };
        let given = from_environment(text)
            .map_err(|error| Problem::OpenTelemetry { text: error.to_string() })?;
        Ok(Self { given, names: variables.iter().map(|(name, _)| name.clone()).collect() })
    }

    /// Gives a key that nobody else has set. `earlier`: keys of the sink before it, the address among them.
    pub fn setting(&self, key: &'static Key, earlier: &[Setting]) -> Option<Setting> {
        let (path, suffix) = VARIABLES.iter().find(|(path, _)| *path == key.path)?;
        let url = earlier.iter().find(|setting| setting.key.path == "url");
        let is_ours = |url: &Setting| matches!(&url.origin, Origin::Environment(name) if name.starts_with(PREFIX));
        let is_encrypted =
            |url: &Setting| url.value.as_str().is_some_and(|url| url.starts_with("https://"));
        // The path belongs to an address, and certificates to one that is encrypted.
        let counts = match *path {
            "path" => url.is_some_and(is_ours),
            path if path.starts_with("tls.") => url.is_some_and(is_encrypted),
            _ => true,
        };
        let value = self.value(path).filter(|_| counts)?;
        let of = |middle: &str| format!("{PREFIX}{middle}{suffix}");
        let name = Some(of("PROFILES_")).filter(|name| self.names.contains(name));
        Some(Setting { key, value, origin: Origin::Environment(name.unwrap_or_else(|| of(""))) })
    }

    fn value(&self, path: &str) -> Option<Value> {
        let given = &self.given;
        let text = |text: &str| Value::String(text.to_owned());
        let file = |path: &Option<std::path::PathBuf>| path.as_ref()?.to_str().map(text);
        match path {
            "url" => given.url.as_deref().map(text),
            "path" => given.path.as_deref().map(text),
            "protocol" => given.protocol.map(|protocol| match protocol {
                Protocol::Grpc => text("grpc"),
                Protocol::Http => text("http"),
            }),
            "headers" if given.headers.is_empty() => None,
            "headers" => {
                let headers = given.headers.iter().map(|(name, value)| (name.clone(), text(value)));
                Some(Value::Table(headers.collect()))
            }
            "timeout_seconds" => given.timeout_seconds.map(Value::Float),
            "compression" => given.compression.map(|compression| match compression {
                Compression::Gzip => text("gzip"),
                Compression::None => text("none"),
            }),
            "tls.ca_file" => file(&given.tls.ca_file),
            "tls.cert_file" => file(&given.tls.cert_file),
            "tls.key_file" => file(&given.tls.key_file),
            "insecure" => given.insecure.map(Value::Boolean),
            _ => None,
        }
    }
}
