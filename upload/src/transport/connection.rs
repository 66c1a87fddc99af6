//! Settings of one server, and what of them can be wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use serde::Deserialize;

use crate::sinks::StartError;

/// How a server is reached.
///
/// Unknown keys are errors where it is used on its own. Serde has no such check for a flattened struct, so the
/// settings of a sink check for both.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Connection {
    /// `http://` or `https://`, a host, and where it has them a port and a path.
    pub url: String,
    /// Certificates; for `https://` only.
    pub tls: Tls,
    /// A file whose first line is sent as `authorization: Bearer`.
    pub bearer_token_file: Option<PathBuf>,
    /// User and password, in place of a token.
    pub basic_auth: Option<BasicAuth>,
    /// Headers (gRPC: metadata) of each request.
    pub headers: BTreeMap<String, String>,
    /// Headers whose text is a secret: a file for each, of which the first line is sent.
    pub header_files: BTreeMap<String, PathBuf>,
    /// Sent as `X-Scope-OrgID`.
    pub tenant: Option<String>,
    /// `http://host:port` of a proxy. Without it `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and
    /// `NO_PROXY` of the environment count.
    pub proxy: Option<String>,
    /// Seconds that one request may take, from connecting to the end of the answer.
    pub timeout_seconds: f64,
    /// Of what is sent.
    pub compression: Compression,
    /// Send credentials over `http://` too.
    pub insecure: bool,
}

/// Whom to trust, and who we are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// Certificates (PEM) to trust, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate and those above it (PEM).
    pub cert_file: Option<PathBuf>,
    /// Its key (PEM).
    pub key_file: Option<PathBuf>,
    /// Trust whoever answers.
    pub insecure_skip_verify: bool,
}

/// A user and where the password is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BasicAuth {
    /// The user.
    pub username: String,
    /// A file whose first line is the password.
    pub password_file: PathBuf,
}

/// How requests are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// gzip.
    #[default]
    Gzip,
    /// Not at all.
    None,
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            url: String::new(),
            tls: Tls::default(),
            bearer_token_file: None,
            basic_auth: None,
            headers: BTreeMap::new(),
            header_files: BTreeMap::new(),
            tenant: None,
            proxy: None,
            timeout_seconds: 10.0,
            compression: Compression::Gzip,
            insecure: false,
        }
    }
}

/// Shows no text of headers, and no user and password in an address: people put secrets there, whatever the
/// documentation says.
impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("url", &without_secrets(&self.url))
            .field("tls", &self.tls)
            .field("bearer_token_file", &self.bearer_token_file)
            .field("basic_auth", &self.basic_auth)
            .field("headers", &self.headers.keys())
            .field("header_files", &self.header_files)
            .field("tenant", &self.tenant)
            .field("proxy", &self.proxy.as_deref().map(without_secrets))
            .field("timeout_seconds", &self.timeout_seconds)
            .field("compression", &self.compression)
            .field("insecure", &self.insecure)
            .finish()
    }
}

impl Connection {
    /// The address, checked.
    pub(super) fn base(&self) -> Result<Uri, StartError> {
        let shown = without_secrets(&self.url);
        let refuse = |what: &str| {
            StartError::Settings(format!("the url {shown:?} {what}; write it as http://host:port"))
        };
        let url: Uri = self.url.parse().map_err(|_| refuse("is no address"))?;
        if !matches!(url.scheme_str(), Some("http" | "https")) {
            return Err(refuse("does not begin with http:// or https://"));
        }
        if url.host().is_none_or(str::is_empty) {
            return Err(refuse("has no host"));
        }
        if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(StartError::Settings(format!(
                "the url {shown:?} has a user in it; use basic_auth with a password_file"
            )));
        }
        if url.query().is_some() {
            return Err(refuse("has a `?` in it"));
        }
        Ok(url)
    }

    /// Finds settings that do not go together.
    pub(super) fn check(&self) -> Result<(), StartError> {
        let refuse = |text: &str| Err(StartError::Settings(text.to_owned()));
        let url = self.base()?;
        self.time_limit()?;
        if self.bearer_token_file.is_some() && self.basic_auth.is_some() {
            return refuse("bearer_token_file and basic_auth exclude each other; keep one");
        }
        if self.tls.cert_file.is_some() != self.tls.key_file.is_some() {
            return refuse("tls.cert_file and tls.key_file go together; give both or none");
        }
        if url.scheme() == Some(&Scheme::HTTP) {
            self.check_unencrypted(&url)?;
        }
        Ok(())
    }

    fn check_unencrypted(&self, url: &Uri) -> Result<(), StartError> {
        if self.tls != Tls::default() {
            return Err(StartError::Settings(format!(
                "tls has settings, but {} is not encrypted; begin the url with https://",
                shown(url)
            )));
        }
        match self.credential() {
            Some(credential) if !self.insecure => Err(StartError::Settings(format!(
                "{credential} would go to {} unencrypted; begin the url with https://, or set insecure = true",
                shown(url)
            ))),
            _ => Ok(()),
        }
    }

    /// The name of the first setting with a secret.
    fn credential(&self) -> Option<String> {
        let header = self.headers.keys().find(|name| is_secret(name));
        self.bearer_token_file
            .as_ref()
            .map(|_| "bearer_token_file".to_owned())
            .or_else(|| self.basic_auth.as_ref().map(|_| "basic_auth".to_owned()))
            .or_else(|| self.header_files.keys().next().map(|name| format!("header_files.{name}")))
            .or_else(|| header.map(|name| format!("headers.{name}")))
    }

    /// How long one request may take.
    pub(super) fn time_limit(&self) -> Result<Duration, StartError> {
        match Duration::try_from_secs_f64(self.timeout_seconds) {
            Ok(limit) if (0.01..=3600.0).contains(&self.timeout_seconds) => Ok(limit),
            _ => Err(StartError::Settings(format!(
                "timeout_seconds is {}; give a number from 0.01 to 3600",
                self.timeout_seconds
            ))),
        }
    }
}

/// Whether the text of a header with this name is likely to be a secret.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["auth", "token", "key", "secret", "password", "cookie"].iter().any(|word| name.contains(word))
}

/// An address as it may be shown: scheme, host, port.
pub(super) fn shown(url: &Uri) -> String {
    let host = url.authority().map_or("", |authority| authority.as_str());
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{}://{host}", url.scheme_str().unwrap_or("http"))
}

/// Takes user, password and query out of what may be no address at all.
fn without_secrets(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if scheme.is_empty() { rest.to_owned() } else { format!("{scheme}://{rest}") }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn with(url: &str) -> Connection {
        Connection { url: url.to_owned(), ..Connection::default() }
    }

    fn check(connection: &Connection, expected: &str) {
        let text =
            connection.check().map_or_else(|error| error.to_string(), |()| "fine".to_owned());
        assert!(text.contains(expected), "{text:?} should say {expected:?}");
    }

    #[test]
    fn addresses_are_http_with_a_host_and_nothing_more() {
        check(&with("http://localhost:7070"), "fine");
        check(&with("https://store.example/prefix"), "fine");
        check(&with("http://[::1]:4317"), "fine");
        check(&with(""), "is no address");
        check(&with("localhost:7070"), "does not begin with http");
        check(&with("grpc://localhost"), "does not begin with http");
        check(&with("https://"), "is no address");
        check(&with("https://h/?a=b"), "has a `?`");
        check(&with("https://u:hunter2@h/"), "use basic_auth");
    }

    #[test]
    fn credentials_are_not_sent_unencrypted_unless_told_so() {
        let token = |url: &str| Connection { bearer_token_file: Some("t".into()), ..with(url) };
        check(&token("https://h"), "fine");
        check(&token("http://h"), "bearer_token_file would go to http://h unencrypted");
        check(&Connection { insecure: true, ..token("http://h") }, "fine");
        let header = |name: &str| {
            let headers = BTreeMap::from([(name.to_owned(), "hunter2".to_owned())]);
            Connection { headers, ..with("http://h") }
        };
        check(&header("Authorization"), "headers.Authorization would go");
        check(&header("x-api-key"), "headers.x-api-key would go");
        check(&header("x-cluster"), "fine");
        let tls = Tls { ca_file: Some("ca".into()), ..Tls::default() };
        check(&Connection { tls, ..with("http://h") }, "begin the url with https://");
    }

    #[test]
    fn what_excludes_or_needs_each_other_is_told() {
        let basic_auth = BasicAuth { username: "u".into(), password_file: "p".into() };
        let both = Connection {
            bearer_token_file: Some("t".into()),
            basic_auth: Some(basic_auth),
            ..with("https://h")
        };
        check(&both, "exclude each other");
        let tls = Tls { cert_file: Some("c".into()), ..Tls::default() };
        check(&Connection { tls, ..with("https://h") }, "go together");
        for timeout_seconds in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
            check(&Connection { timeout_seconds, ..with("https://h") }, "timeout_seconds is");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let connection = Connection {
            headers: BTreeMap::from([("x-api-key".into(), "hunter2".into())]),
            proxy: Some("http://user:hunter2@proxy:3128".into()),
            ..with("https://user:hunter2@host/path?token=hunter2")
        };
        let text = format!("{connection:?}");
        assert!(!text.contains("hunter2"), "{text}");
        for shown in ["https://host/path", "http://proxy:3128", "x-api-key"] {
            assert!(text.contains(shown), "{text}");
        }
        let error = connection.check().unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
