//! Settings from OpenTelemetry's environment variables.
//!
//! | variable `OTEL_EXPORTER_OTLP_...` | key |
//! |---|---|
//! | `ENDPOINT` | `url`; for gRPC `http://` may be missing |
//! | `PROFILES_ENDPOINT` | `url` and `path`: what follows the host is the whole path |
//! | `PROTOCOL` | `protocol`: `grpc` or `http/protobuf` |
//! | `HEADERS` | `headers`: `name=value,...`, values percent-encoded |
//! | `TIMEOUT` | `timeout_seconds`, in milliseconds |
//! | `COMPRESSION` | `compression`: `gzip` or `none` |
//! | `CERTIFICATE` | `tls.ca_file` |
//! | `CLIENT_CERTIFICATE`, `CLIENT_KEY` | `tls.cert_file`, `tls.key_file` |
//! | `INSECURE` | `insecure`; also that an endpoint without `http://` is not encrypted |
//!
//! Each variable exists with `PROFILES_` in it, too, which overrides the other.
//!
//! Source: OpenTelemetry specification 1.5x, "OTLP exporter configuration".

use std::collections::BTreeMap;

use http::Uri;
use percent_encoding::percent_decode_str;

use super::Protocol;
use crate::config::{Choice, ConfigError, ConfigField, Value};
use crate::transport::Compression;

/// Prefix of all variables.
pub const VARIABLE_PREFIX: &str = "OTEL_EXPORTER_OTLP_";

/// The value of a key from a variable.
#[derive(Debug, PartialEq)]
pub struct EnvironmentValue {
    /// Path of the key.
    pub key: &'static str,
    /// Its value; that of `headers` may be a secret. Strings are not validated.
    pub value: Value,
    /// Full name of the variable.
    pub variable: String,
}

/// Reads the settings from the environment, which `variable` looks up. An empty variable counts as
/// not set.
///
/// # Errors
/// [`ConfigError::Invalid`] with the variable that is invalid.
pub fn from_environment(
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Vec<EnvironmentValue>, ConfigError> {
    let read = |suffix: &str| {
        let set = |middle: &str| {
            let name = format!("{VARIABLE_PREFIX}{middle}{suffix}");
            let text = variable(&name)?.trim().to_owned();
            (!text.is_empty()).then_some(Variable { name, text })
        };
        set("PROFILES_").or_else(|| set(""))
    };
    let insecure = read("INSECURE");
    let is_insecure = insecure.as_ref().is_some_and(Variable::is_true);
    let mut values = Vec::new();
    let mut push = |key, variable: &Variable, value| {
        values.push(EnvironmentValue { key, value, variable: variable.name.clone() });
    };
    if let Some(variable) = read("ENDPOINT") {
        let (url, path) = variable.endpoint(is_insecure)?;
        push("url", &variable, Value::Text(url));
        path.into_iter().for_each(|path| push("path", &variable, Value::Text(path)));
    }
    if let Some(variable) = insecure {
        push("insecure", &variable, Value::Bool(is_insecure));
    }
    for (key, suffix, parse) in VARIABLES {
        if let Some(variable) = read(suffix) {
            push(key, &variable, parse(&variable)?);
        }
    }
    Ok(values)
}

type Parse = fn(&Variable) -> Result<Value, ConfigError>;

/// Keys and the variables that set them, which depend on no other.
const VARIABLES: [(&str, &str, Parse); 7] = [
    ("protocol", "PROTOCOL", Variable::protocol),
    ("headers", "HEADERS", Variable::headers),
    ("timeout_seconds", "TIMEOUT", Variable::seconds),
    ("compression", "COMPRESSION", Variable::compression),
    ("tls.ca_file", "CERTIFICATE", Variable::file),
    ("tls.cert_file", "CLIENT_CERTIFICATE", Variable::file),
    ("tls.key_file", "CLIENT_KEY", Variable::file),
];

/// A variable that is set.
struct Variable {
    name: String,
    text: String,
}

impl Variable {
    /// `shown`: the text, or what replaces it because it may be a secret.
    fn invalid(&self, shown: &str, step: &str) -> ConfigError {
        ConfigError::Invalid(format!("{} is {shown}; {step}", self.name))
    }

    fn is_true(&self) -> bool {
        self.text.eq_ignore_ascii_case("true")
    }

    fn file(&self) -> Result<Value, ConfigError> {
        Ok(Value::Text(self.text.clone()))
    }

    /// Returns the address and, if it is one for profiles only, the path.
    fn endpoint(&self, is_insecure: bool) -> Result<(String, Option<String>), ConfigError> {
        // The text may hold a password.
        let invalid = || self.invalid("not an address", "write it as http://host:port");
        let text = match self.text.contains("://") {
            true => self.text.clone(),
            false if is_insecure => format!("http://{}", self.text),
            false => format!("https://{}", self.text),
        };
        if !self.name.contains("_PROFILES_") {
            return Ok((text, None));
        }
        let uri: Uri = text.parse().map_err(|_| invalid())?;
        let (scheme, authority) = uri.scheme_str().zip(uri.authority()).ok_or_else(invalid)?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok((format!("{scheme}://{authority}"), Some(path.to_owned())))
    }

    fn protocol(&self) -> Result<Value, ConfigError> {
        match self.text.as_str() {
            "grpc" => Ok(Protocol::Grpc.to_value()),
            "http/protobuf" => Ok(Protocol::Http.to_value()),
            text => Err(self.invalid(&format!("{text:?}"), "give grpc or http/protobuf")),
        }
    }

    fn compression(&self) -> Result<Value, ConfigError> {
        match Compression::from_name(&self.text) {
            Some(compression) => Ok(compression.to_value()),
            None => Err(self.invalid(&format!("{:?}", self.text), "give gzip or none")),
        }
    }

    fn seconds(&self) -> Result<Value, ConfigError> {
        match self.text.parse::<u32>() {
            Ok(milliseconds) => Ok(Value::Number(f64::from(milliseconds) / 1000.0)),
            Err(_) => Err(self.invalid(&format!("{:?}", self.text), "give milliseconds")),
        }
    }

    /// Parses `name=value,name=value`.
    fn headers(&self) -> Result<Value, ConfigError> {
        let header = |pair: &str| {
            let (name, value) = pair.split_once('=')?;
            let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
            (!name.trim().is_empty()).then(|| (name.trim().to_lowercase(), value.into_owned()))
        };
        let pairs = self.text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
        let headers: Option<BTreeMap<_, _>> = pairs.map(header).collect();
        let invalid = || self.invalid("not a list of headers", "write it as name=value,name=value");
        headers.map(Value::Table).ok_or_else(invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads variables, whose names are without the prefix, and shows their values by key.
    fn read(variables: &[(&str, &str)]) -> Result<BTreeMap<&'static str, String>, String> {
        let variable = |name: &str| {
            let name = name.strip_prefix(VARIABLE_PREFIX)?;
            let found = variables.iter().find(|(set, _)| *set == name);
            found.map(|(_, text)| (*text).to_owned())
        };
        let values = from_environment(variable).map_err(|error| error.to_string())?;
        let show = |value: EnvironmentValue| match value.value {
            Value::Text(text) => (value.key, text),
            other => (value.key, format!("{other:?}")),
        };
        Ok(values.into_iter().map(show).collect())
    }

    fn valid(variables: &[(&str, &str)]) -> BTreeMap<&'static str, String> {
        read(variables).unwrap()
    }

    #[test]
    fn empty_variables_set_nothing() {
        assert!(valid(&[]).is_empty());
        assert!(valid(&[("ENDPOINT", ""), ("TIMEOUT", " ")]).is_empty());
    }

    #[test]
    fn each_variable_sets_a_key() {
        let values = valid(&[
            ("ENDPOINT", "https://collector:4318/base"),
            ("PROTOCOL", "http/protobuf"),
            ("HEADERS", "Authorization=Bearer%20abc, x-cluster = blue"),
            ("TIMEOUT", "2500"),
            ("COMPRESSION", "none"),
            ("CERTIFICATE", "/ca"),
            ("CLIENT_CERTIFICATE", "/cert"),
            ("CLIENT_KEY", "/key"),
        ]);
        let headers = r#"Table({"authorization": "Bearer abc", "x-cluster": "blue"})"#;
        let expected = [
            ("url", "https://collector:4318/base"),
            ("protocol", "http"),
            ("headers", headers),
            ("timeout_seconds", "Number(2.5)"),
            ("compression", "none"),
            ("tls.ca_file", "/ca"),
            ("tls.cert_file", "/cert"),
            ("tls.key_file", "/key"),
        ];
        assert_eq!(values, expected.map(|(key, value)| (key, value.to_owned())).into());
    }

    #[test]
    fn profile_variables_override_and_hold_the_whole_path() {
        let values = valid(&[
            ("ENDPOINT", "http://other:4318"),
            ("PROFILES_ENDPOINT", "http://collector:4318/own/profiles"),
            ("TIMEOUT", "1000"),
            ("PROFILES_TIMEOUT", "3000"),
        ]);
        assert_eq!(values["url"], "http://collector:4318");
        assert_eq!(
            (&*values["path"], &*values["timeout_seconds"]),
            ("/own/profiles", "Number(3.0)")
        );
        let bare = valid(&[("PROFILES_ENDPOINT", "http://collector:4318")]);
        assert_eq!(bare["path"], "/");
    }

    #[test]
    fn a_host_without_a_scheme_is_encrypted_by_default() {
        let encrypted = valid(&[("ENDPOINT", "collector:4317")]);
        assert_eq!(encrypted["url"], "https://collector:4317");
        let insecure = valid(&[("ENDPOINT", "collector:4317"), ("INSECURE", "True")]);
        assert_eq!(insecure["url"], "http://collector:4317");
        assert_eq!(insecure["insecure"], "Bool(true)");
    }

    #[test]
    fn errors_show_no_secret() {
        let error = |variable| read(&[variable]).unwrap_err();
        let text = error(("PROTOCOL", "http/json"));
        assert!(text.contains("OTEL_EXPORTER_OTLP_PROTOCOL is \"http/json\""), "{text}");
        assert!(error(("TIMEOUT", "10s")).contains("milliseconds"));
        assert!(error(("COMPRESSION", "zstd")).contains("gzip or none"));
        let text = error(("HEADERS", "authorization hunter2"));
        assert!(text.contains("HEADERS") && !text.contains("hunter2"), "{text}");
        let text = error(("PROFILES_ENDPOINT", "http://user:hunter2@ /"));
        assert!(!text.contains("hunter2"), "{text}");
    }
}
