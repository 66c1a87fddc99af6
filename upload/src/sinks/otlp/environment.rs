//! Settings that OpenTelemetry's variables of the environment give.
//!
//! | variable `OTEL_EXPORTER_OTLP_...` | setting |
//! |---|---|
//! | `ENDPOINT` | `url`; for gRPC a host and port without `http://` will do |
//! | `PROFILES_ENDPOINT` | `url` and `path`: what follows the host is the whole path |
//! | `PROTOCOL` | `protocol`: `grpc` or `http/protobuf` |
//! | `HEADERS` | `headers`: `name=text,...`, text percent-encoded |
//! | `TIMEOUT` | `timeout_seconds`, there in milliseconds |
//! | `COMPRESSION` | `compression`: `gzip` or `none` |
//! | `CERTIFICATE`, `CLIENT_CERTIFICATE`, `CLIENT_KEY` | `tls.ca_file`, `tls.cert_file`, `tls.key_file` |
//! | `INSECURE` | `insecure`; also that an endpoint without `http://` is not encrypted |
//!
//! Each exists with `PROFILES_` in it too, which counts before the other.
//!
//! Source: OpenTelemetry specification 1.5x, "OTLP exporter configuration".

use http::Uri;
use percent_encoding::percent_decode_str;

use super::Protocol;
use crate::sinks::StartError;
use crate::transport::{Compression, Tls};

/// What the environment gives; `None` and empty where it gives nothing.
#[derive(Clone, Default, PartialEq)]
pub struct FromEnvironment {
    /// The server.
    pub url: Option<String>,
    /// Path of the service.
    pub path: Option<String>,
    /// How requests travel.
    pub protocol: Option<Protocol>,
    /// Headers; their text may be secret.
    pub headers: Vec<(String, String)>,
    /// Seconds that a request may take.
    pub timeout_seconds: Option<f64>,
    /// How requests are compressed.
    pub compression: Option<Compression>,
    /// Certificates.
    pub tls: Tls,
    /// Send credentials over `http://` too.
    pub insecure: Option<bool>,
}

/// Reads what the environment gives, which is asked by `variable`. An empty variable is one that is not set.
///
/// # Errors
/// [`StartError::Settings`] with the variable that cannot be followed.
pub fn from_environment(
    variable: impl Fn(&str) -> Option<String>,
) -> Result<FromEnvironment, StartError> {
    let read = |name: &str| {
        let of = |middle: &str| {
            let name = format!("OTEL_EXPORTER_OTLP_{middle}{name}");
            let text = variable(&name)?.trim().to_owned();
            (!text.is_empty()).then_some((name, text))
        };
        of("PROFILES_").or_else(|| of(""))
    };
    let file = |name: &str| read(name).map(|(_, text)| text.into());
    let insecure = read("INSECURE").map(|(_, text)| text.eq_ignore_ascii_case("true"));
    let (url, path) = match read("ENDPOINT") {
        Some((name, text)) => endpoint(&name, &text, insecure == Some(true))?,
        None => (None, None),
    };
    Ok(FromEnvironment {
        url,
        path,
        protocol: read("PROTOCOL").map(protocol).transpose()?,
        headers: read("HEADERS").map(headers).transpose()?.unwrap_or_default(),
        timeout_seconds: read("TIMEOUT").map(milliseconds).transpose()?,
        compression: read("COMPRESSION").map(compression).transpose()?,
        tls: Tls {
            ca_file: file("CERTIFICATE"),
            cert_file: file("CLIENT_CERTIFICATE"),
            key_file: file("CLIENT_KEY"),
            insecure_skip_verify: false,
        },
        insecure,
    })
}

fn refuse(name: &str, shown: &str, step: &str) -> StartError {
    StartError::Settings(format!("{name} is {shown:?}; {step}"))
}

/// The address and, of one for profiles alone, the path.
fn endpoint(
    name: &str,
    text: &str,
    is_insecure: bool,
) -> Result<(Option<String>, Option<String>), StartError> {
    // What it shows could hold a password.
    let wrong = || refuse(name, "no address", "write it as http://host:port");
    let text = match text.contains("://") {
        true => text.to_owned(),
        false if is_insecure => format!("http://{text}"),
        false => format!("https://{text}"),
    };
    if !name.contains("_PROFILES_") {
        return Ok((Some(text), None));
    }
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let (scheme, authority) = uri.scheme_str().zip(uri.authority()).ok_or_else(wrong)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok((Some(format!("{scheme}://{authority}")), Some(path.to_owned())))
}

fn protocol((name, text): (String, String)) -> Result<Protocol, StartError> {
    match text.as_str() {
        "grpc" => Ok(Protocol::Grpc),
        "http/protobuf" => Ok(Protocol::Http),
        _ => Err(refuse(&name, &text, "give grpc or http/protobuf")),
    }
}

fn compression((name, text): (String, String)) -> Result<Compression, StartError> {
    match text.as_str() {
        "gzip" => Ok(Compression::Gzip),
        "none" => Ok(Compression::None),
        _ => Err(refuse(&name, &text, "give gzip or none")),
    }
}

fn milliseconds((name, text): (String, String)) -> Result<f64, StartError> {
    match text.parse::<u32>() {
        Ok(milliseconds) => Ok(f64::from(milliseconds) / 1000.0),
        Err(_) => Err(refuse(&name, &text, "give milliseconds")),
    }
}

/// Reads `name=text,name=text`.
fn headers((name, list): (String, String)) -> Result<Vec<(String, String)>, StartError> {
    let one = |pair: &str| {
        let (header, text) = pair.split_once('=')?;
        let text = percent_decode_str(text.trim()).decode_utf8().ok()?;
        (!header.trim().is_empty()).then(|| (header.trim().to_lowercase(), text.into_owned()))
    };
    let pairs = list.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let headers: Option<Vec<_>> = pairs.map(one).collect();
    headers.ok_or_else(|| refuse(&name, "...", "write it as name=text,name=text"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;

    /// What variables give whose names begin with `OTEL_EXPORTER_OTLP_`.
    fn given(variables: &[(&str, &str)]) -> Result<FromEnvironment, String> {
        let variable = |name: &str| {
            let name = name.strip_prefix("OTEL_EXPORTER_OTLP_")?;
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, text)| (*text).to_owned())
        };
        from_environment(variable).map_err(|error| error.to_string())
    }

    fn of(variables: &[(&str, &str)]) -> FromEnvironment {
        given(variables).unwrap()
    }

    #[test]
    fn nothing_set_gives_nothing() {
        assert!(of(&[]) == FromEnvironment::default());
        assert!(of(&[("ENDPOINT", ""), ("TIMEOUT", " ")]) == FromEnvironment::default());
    }

    #[test]
    fn each_variable_is_a_setting() {
        let given = of(&[
            ("ENDPOINT", "https://collector:4318/base"),
            ("PROTOCOL", "http/protobuf"),
            ("HEADERS", "Authorization=Bearer%20abc, x-cluster = blue"),
            ("TIMEOUT", "2500"),
            ("COMPRESSION", "none"),
            ("CERTIFICATE", "/ca"),
            ("CLIENT_CERTIFICATE", "/cert"),
            ("CLIENT_KEY", "/key"),
        ]);
        assert_eq!(given.url.as_deref(), Some("https://collector:4318/base"));
        assert_eq!((given.path, given.protocol), (None, Some(Protocol::Http)));
        let headers = [("authorization", "Bearer abc"), ("x-cluster", "blue")];
        assert_eq!(given.headers, headers.map(|(name, text)| (name.to_owned(), text.to_owned())));
        assert_eq!(
            (given.timeout_seconds, given.compression),
            (Some(2.5), Some(Compression::None))
        );
        assert_eq!(given.tls.ca_file.as_deref(), Some(Path::new("/ca")));
        assert_eq!(given.tls.cert_file.as_deref(), Some(Path::new("/cert")));
        assert_eq!(given.tls.key_file.as_deref(), Some(Path::new("/key")));
        assert_eq!(given.insecure, None);
    }

    #[test]
    fn what_is_for_profiles_counts_first_and_its_path_is_the_whole_one() {
        let given = of(&[
            ("ENDPOINT", "http://other:4318"),
            ("PROFILES_ENDPOINT", "http://collector:4318/own/profiles"),
            ("TIMEOUT", "1000"),
            ("PROFILES_TIMEOUT", "3000"),
        ]);
        assert_eq!(given.url.as_deref(), Some("http://collector:4318"));
        assert_eq!(
            (given.path.as_deref(), given.timeout_seconds),
            (Some("/own/profiles"), Some(3.0))
        );
        let bare = of(&[("PROFILES_ENDPOINT", "http://collector:4318")]);
        assert_eq!(bare.path.as_deref(), Some("/"));
    }

    #[test]
    fn a_host_without_a_scheme_is_encrypted_unless_it_is_said_otherwise() {
        let url = |variables: &[(&str, &str)]| of(variables).url.unwrap();
        assert_eq!(url(&[("ENDPOINT", "collector:4317")]), "https://collector:4317");
        let insecure = [("ENDPOINT", "collector:4317"), ("INSECURE", "True")];
        assert_eq!(url(&insecure), "http://collector:4317");
        assert_eq!(of(&insecure).insecure, Some(true));
    }

    #[test]
    fn what_cannot_be_followed_is_told_without_secrets() {
        let error = |variable| given(&[variable]).err().unwrap();
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
