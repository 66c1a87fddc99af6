//! The choice of the proxy in front of a server.

use http::Uri;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};

use super::connection::{Connection, display_url};
use crate::config::ConfigError;

/// Chooses the proxy for an address.
#[derive(Debug)]
pub(super) struct Proxies {
    matcher: Matcher,
    /// Where the proxy was configured.
    origin: &'static str,
}

impl Proxies {
    /// Takes the configured proxy for every address, else those of the environment. `variable`
    /// reads an environment variable.
    pub fn new(
        config: &Connection,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let builder = Matcher::builder();
        let Some(proxy) = &config.proxy else {
            let either = |name: &str| {
                variable(name).or_else(|| variable(&name.to_lowercase())).unwrap_or_default()
            };
            let matcher = builder
                .all(either("ALL_PROXY"))
                .http(either("HTTP_PROXY"))
                .https(either("HTTPS_PROXY"))
                .no(either("NO_PROXY"))
                .build();
            return Ok(Self {
                matcher,
                origin: "a variable of the environment such as HTTPS_PROXY",
            });
        };
        let proxies = Self { matcher: builder.all(proxy).build(), origin: "`proxy`" };
        match proxies.matcher.intercept(&Uri::from_static("http://any.example")) {
            Some(_) => Ok(proxies),
            None => Err(proxies.unusable()),
        }
    }

    /// Returns the proxy on the way to an address, if any.
    pub fn proxy_for(&self, url: &Uri) -> Result<Option<Intercept>, ConfigError> {
        match self.matcher.intercept(url) {
            Some(proxy) if proxy.uri().scheme_str() != Some("http") => Err(self.unusable()),
            other => Ok(other),
        }
    }

    fn unusable(&self) -> ConfigError {
        ConfigError::Invalid(format!(
            "the proxy of {} cannot be used; give one as http://host:port",
            self.origin
        ))
    }
}

/// Returns a server and the proxy in front of it, without secrets.
pub(super) fn display_route(url: &Uri, proxy: Option<&Intercept>) -> String {
    match proxy {
        Some(proxy) => {
            format!("{} through the proxy {}", display_url(url), display_url(proxy.uri()))
        }
        None => display_url(url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(proxy: Option<&str>, variables: &[(&str, &str)], url: &str) -> String {
        let connection = Connection { proxy: proxy.map(str::to_owned), ..Connection::default() };
        let variable = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, text)| (*text).to_owned())
        };
        let proxies = match Proxies::new(&connection, variable) {
            Ok(proxies) => proxies,
            Err(error) => return error.to_string(),
        };
        match proxies.proxy_for(&url.parse().unwrap()) {
            Ok(Some(proxy)) => display_url(proxy.uri()),
            Ok(None) => "none".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn configured_proxy_overrides_the_environment() {
        let variables = [("HTTPS_PROXY", "http://env:1"), ("NO_PROXY", "*")];
        assert_eq!(chosen(Some("http://set:2"), &variables, "https://h"), "http://set:2");
        assert_eq!(chosen(Some("http://u:p@set:2"), &[], "http://h"), "http://set:2");
    }

    #[test]
    fn environment_decides_by_scheme_and_host() {
        let variables = [
            ("https_proxy", "http://secure:1"),
            ("HTTP_PROXY", "plain:2"),
            ("NO_PROXY", "localhost,10.0.0.0/8,.internal"),
        ];
        let chosen = |url: &str| chosen(None, &variables, url);
        assert_eq!(chosen("https://store.example"), "http://secure:1");
        assert_eq!(chosen("http://store.example"), "http://plain:2");
        for near in ["http://localhost:7070", "http://10.1.2.3", "https://store.internal"] {
            assert_eq!(chosen(near), "none", "{near}");
        }
    }

    #[test]
    fn only_http_proxies_are_accepted() {
        assert!(chosen(Some("socks5://p:1"), &[], "http://h").contains("`proxy` cannot be used"));
        assert!(chosen(Some("not a proxy"), &[], "http://h").contains("`proxy` cannot be used"));
        let variables = [("ALL_PROXY", "socks5://p:1")];
        assert!(chosen(None, &variables, "http://h").contains("HTTPS_PROXY cannot be used"));
    }
}
