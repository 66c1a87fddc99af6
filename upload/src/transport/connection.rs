//! The configuration of a connection to a server, and its contradictions.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use crate::config::{ConfigError, Conflict, is_secret_header};

crate::config! {
    /// The connection to a server.
    pub struct Connection {
        /// Address of the server; `https://` for TLS.
        url: String = url().required("\"http://HOST:PORT\""),
        /// Tenant that the profiles belong to, for servers with several tenants (`X-Scope-OrgID`).
        tenant: Option<String> = text().optional(),
        /// Seconds until a request fails, from connecting to the end of the answer.
        timeout_seconds: f64 = number(0.01..=3600.0).default(10.0),
        /// Compression of requests.
        compression: Compression = one_of().default(Compression::Gzip),
        /// Certificates, for `https://` only.
        tls: Tls = table(),
        /// File with a token, which is sent as `authorization: Bearer`. It is read again when it
        /// changes.
        bearer_token_file: Option<PathBuf> = file().optional(),
        /// User and password, instead of a token.
        basic_auth: Option<BasicAuth> = table(),
        /// Headers (gRPC: metadata) of each request.
        headers: BTreeMap<String, String> = headers().or_empty(),
        /// Headers with secret values: a file for each, of which the first line is sent.
        header_files: BTreeMap<String, PathBuf> = header_files().or_empty(),
        /// Proxy; without it `$HTTPS_PROXY`, `$HTTP_PROXY`, `$ALL_PROXY` and `$NO_PROXY` apply.
        proxy: Option<String> = proxy().optional(),
        /// Whether credentials may be sent over `http://`.
        insecure: bool = boolean().default(false),
    }
}

crate::config! {
    /// Certificates: of the servers that are trusted, and our own.
    pub struct Tls {
        /// Certificates to trust instead of the system's list (PEM).
        ca_file: Option<PathBuf> = file().optional(),
        /// Client certificate, followed by its chain (PEM).
        cert_file: Option<PathBuf> = file().optional(),
        /// Private key of the client certificate (PEM).
        key_file: Option<PathBuf> = file().optional(),
        /// Whether the server's certificate is left unverified.
        insecure_skip_verify: bool = boolean().default(false),
    }
}

crate::config! {
    /// User and password.
    pub struct BasicAuth {
        /// User of basic authentication.
        username: String = text().required("\"USER\""),
        /// File with the password, in its first line.
        password_file: PathBuf = file().required("\"/PATH\""),
    }
}

crate::config! {
    /// Compression of requests.
    pub enum Compression {
        /// By gzip.
        Gzip = "gzip",
        /// Not at all.
        None = "none",
    }
}

impl Connection {
    /// Returns the settings that contradict each other.
    pub fn conflicts(&self) -> Vec<Conflict> {
        let mut conflicts = Vec::new();
        let mut pair = |[first, second]: [(&'static str, bool); 2]| {
            for ((key, is_set), (other, has_other)) in [(first, second), (second, first)] {
                if is_set && !has_other {
                    let text = format!("is set without `{other}`; set both or none");
                    conflicts.push(Conflict::new(key, text));
                }
            }
        };
        let Tls { cert_file, key_file, .. } = &self.tls;
        pair([("tls.cert_file", cert_file.is_some()), ("tls.key_file", key_file.is_some())]);
        if let Some(BasicAuth { username, password_file }) = &self.basic_auth {
            let has_password = !password_file.as_os_str().is_empty();
            pair([
                ("basic_auth.username", !username.is_empty()),
                ("basic_auth.password_file", has_password),
            ]);
            if self.bearer_token_file.is_some() {
                let text = "is set beside `bearer_token_file`; keep one of them";
                conflicts.push(Conflict::new("basic_auth.username", text));
            }
        }
        if self.url.starts_with("http://") {
            conflicts.extend(self.unencrypted_secret());
            conflicts.extend(self.unused_tls());
        }
        conflicts
    }

    /// Returns the first setting with a secret that must not be sent over `http://`.
    fn unencrypted_secret(&self) -> Option<Conflict> {
        let has_secret_header = self.headers.keys().any(|name| is_secret_header(name));
        let secrets = [
            ("bearer_token_file", self.bearer_token_file.is_some()),
            ("basic_auth.password_file", self.basic_auth.is_some()),
            ("header_files", !self.header_files.is_empty()),
            ("headers", has_secret_header),
        ];
        let (key, _) = secrets.into_iter().find(|(_, is_set)| *is_set && !self.insecure)?;
        let text = "would be sent unencrypted; begin `url` with https://, or set `insecure = true`";
        Some(Conflict::new(key, text))
    }

    /// Returns the first setting of TLS, which `http://` does not use.
    fn unused_tls(&self) -> Option<Conflict> {
        let Tls { ca_file, cert_file, key_file, insecure_skip_verify } = &self.tls;
        let settings = [
            ("tls.ca_file", ca_file.is_some()),
            ("tls.cert_file", cert_file.is_some()),
            ("tls.key_file", key_file.is_some()),
            ("tls.insecure_skip_verify", *insecure_skip_verify),
        ];
        let (key, _) = settings.into_iter().find(|(_, is_set)| *is_set)?;
        Some(Conflict::new(key, "does nothing with http://; begin `url` with https://"))
    }

    /// Returns the address of the server.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] if it is not an absolute address, which the type of the key rules
    /// out.
    pub(super) fn base_url(&self) -> Result<Uri, ConfigError> {
        let url = self.url.parse().ok().filter(|url: &Uri| url.host().is_some());
        url.ok_or_else(|| {
            ConfigError::Invalid("cannot parse `url`; write it as http://host:port".to_owned())
        })
    }

    /// Returns how long a request may take.
    pub(super) fn timeout(&self) -> Duration {
        Duration::try_from_secs_f64(self.timeout_seconds).unwrap_or(Duration::MAX)
    }
}

/// Returns an address without secrets: scheme, host and port.
pub(super) fn display_url(url: &Uri) -> String {
    let host = url.authority().map_or("", |authority| authority.as_str());
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{}://{host}", url.scheme_str().unwrap_or("http"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(url: &str) -> Connection {
        Connection { url: url.to_owned(), ..Connection::default() }
    }

    fn check(connection: &Connection, expected: &[&str]) {
        let conflicts: Vec<String> =
            connection.conflicts().iter().map(ToString::to_string).collect();
        assert_eq!(conflicts.len(), expected.len(), "{conflicts:?}");
        for (conflict, expected) in conflicts.iter().zip(expected) {
            assert!(conflict.starts_with(expected), "{conflict}");
        }
    }

    #[test]
    fn secrets_are_not_sent_unencrypted_by_default() {
        let token = |url: &str| Connection { bearer_token_file: Some("t".into()), ..with(url) };
        check(&token("https://h"), &[]);
        check(&token("http://h"), &["`bearer_token_file` would be sent unencrypted"]);
        check(&Connection { insecure: true, ..token("http://h") }, &[]);
        let header = |name: &str| {
            let headers = BTreeMap::from([(name.to_owned(), "hunter2".to_owned())]);
            Connection { headers, ..with("http://h") }
        };
        check(&header("Authorization"), &["`headers` would be sent unencrypted"]);
        check(&header("x-api-key"), &["`headers` would be sent unencrypted"]);
        check(&header("x-cluster"), &[]);
    }

    #[test]
    fn tls_settings_need_https() {
        let tls = Tls { ca_file: Some("ca".into()), ..Tls::default() };
        check(&Connection { tls, ..with("http://h") }, &["`tls.ca_file` does nothing"]);
        let tls = Tls { insecure_skip_verify: true, ..Tls::default() };
        check(
            &Connection { tls, ..with("http://h") },
            &["`tls.insecure_skip_verify` does nothing"],
        );
    }

    #[test]
    fn incomplete_pairs_and_two_credentials_are_conflicts() {
        let basic_auth = BasicAuth { username: "u".into(), password_file: "p".into() };
        let both = Connection {
            bearer_token_file: Some("t".into()),
            basic_auth: Some(basic_auth.clone()),
            ..with("https://h")
        };
        check(&both, &["`basic_auth.username` is set beside `bearer_token_file`"]);
        let no_user = BasicAuth { username: String::new(), ..basic_auth };
        check(
            &Connection { basic_auth: Some(no_user), ..with("https://h") },
            &["`basic_auth.password_file` is set without `basic_auth.username`"],
        );
        let tls = Tls { cert_file: Some("c".into()), ..Tls::default() };
        check(
            &Connection { tls, ..with("https://h") },
            &["`tls.cert_file` is set without `tls.key_file`"],
        );
    }
}
