//! The set-up that HTTP and gRPC share: where a server is, the way to it, trust and credentials.

use std::time::Duration;

use http::Uri;
use hyper_util::client::proxy::matcher::Intercept;
use rustls::ClientConfig;

use super::connection::{Compression, Connection};
use super::credentials::Credentials;
use super::proxy::{Proxies, display_route};
use super::responses::ResponseCounts;
use super::tls::{TlsFiles, foreign_client_config};
use crate::config::ConfigError;

/// How we introduce ourselves.
pub(super) const USER_AGENT: &str = concat!("everytick/", env!("CARGO_PKG_VERSION"));

/// One server as it is configured.
pub(super) struct Endpoint {
    pub url: Uri,
    /// The server and the proxy in front of it, without secrets.
    pub name: String,
    /// How long one request may take.
    pub timeout: Duration,
    pub is_gzip: bool,
    pub credentials: Credentials,
    /// Responses since they were taken last.
    pub responses: ResponseCounts,
    proxies: Proxies,
    tls: Option<TlsFiles>,
    config: Connection,
}

impl Endpoint {
    /// Checks the configuration and reads the files that it names. Connects to nothing.
    ///
    /// `protocol`: what TLS negotiates, `h2` or `http/1.1`. Returns the TLS configuration for
    /// `https://` too.
    ///
    /// # Errors
    /// What is wrong with the configuration, and what to do.
    pub fn new(
        config: &Connection,
        protocol: &'static [u8],
    ) -> Result<(Self, Option<ClientConfig>), ConfigError> {
        // However the caller came by them: secrets are not sent unencrypted.
        if let Some(conflict) = config.conflicts().first() {
            return Err(ConfigError::Invalid(conflict.to_string()));
        }
        let url = config.base_url()?;
        let proxies = Proxies::new(config, |name| std::env::var(name).ok())?;
        let name = display_route(&url, proxies.proxy_for(&url)?.as_ref());
        let (tls, client_config) = match url.scheme_str() {
            Some("https") => {
                let (files, client_config) = TlsFiles::new(&config.tls, protocol)?;
                (Some(files), Some(client_config))
            }
            _ => (None, None),
        };
        let endpoint = Self {
            name,
            timeout: config.timeout(),
            is_gzip: config.compression == Compression::Gzip,
            credentials: Credentials::new(config)?,
            responses: ResponseCounts::default(),
            proxies,
            tls,
            url,
            config: config.clone(),
        };
        Ok((endpoint, client_config))
    }

    /// Returns the proxy on the way to an address.
    pub fn proxy_for(&self, url: &Uri) -> Result<Option<Intercept>, ConfigError> {
        self.proxies.proxy_for(url)
    }

    /// Returns a new TLS configuration once its files have changed.
    pub fn changed_tls(&mut self) -> Option<ClientConfig> {
        self.tls.as_mut().and_then(TlsFiles::changed)
    }

    /// Returns TLS for addresses that the server gives out, which are not its own.
    pub fn foreign_tls(&self) -> Result<ClientConfig, ConfigError> {
        foreign_client_config(&self.config.tls)
    }
}
