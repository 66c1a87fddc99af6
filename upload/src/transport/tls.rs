//! TLS as configured: trusted certificates, our own, and changes of their files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::connection::Tls;
use super::credentials::FileStamp;
use crate::config::ConfigError;

/// Largest file of certificates, in bytes. The bundle of a Linux system has about 220 KB.
const PEM_BYTES_MAX: u64 = 4 << 20;

/// TLS for one server, rebuilt when a file changes.
pub(super) struct TlsFiles {
    config: Tls,
    /// The application protocol to negotiate: `h2` or `http/1.1`.
    protocol: &'static [u8],
    stamps: Vec<Option<FileStamp>>,
}

impl TlsFiles {
    /// Reads the files and returns the client configuration too.
    pub fn new(config: &Tls, protocol: &'static [u8]) -> Result<(Self, ClientConfig), ConfigError> {
        let stamps = stamps(config);
        let client_config = client_config(config, protocol)?;
        Ok((Self { config: config.clone(), protocol, stamps }, client_config))
    }

    /// Returns a new configuration if a file has changed and all files can be used as they are. In
    /// the middle of a rotation a certificate and its key may not match: the old ones stay in use
    /// until they do.
    pub fn changed(&mut self) -> Option<ClientConfig> {
        let stamps = stamps(&self.config);
        if stamps == self.stamps {
            return None;
        }
        match client_config(&self.config, self.protocol) {
            Ok(client_config) => {
                self.stamps = stamps;
                Some(client_config)
            }
            Err(error) => {
                tracing::debug!("changed certificates cannot be used yet: {error}");
                None
            }
        }
    }
}

fn stamps(config: &Tls) -> Vec<Option<FileStamp>> {
    let files = [&config.ca_file, &config.cert_file, &config.key_file];
    files.into_iter().flatten().map(|path| FileStamp::of(path).ok()).collect()
}

/// Returns TLS for addresses that a server gives out, such as those of a bucket. The authorities of
/// the system and of the server are trusted; our own certificate is not shown.
pub(super) fn foreign_client_config(config: &Tls) -> Result<ClientConfig, ConfigError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &config.ca_file {
        add(&mut roots, path)?;
    }
    let builder = builder(config.insecure_skip_verify, || Ok(roots))?;
    Ok(with_protocol(builder.with_no_client_auth(), b"http/1.1"))
}

/// Returns TLS that trusts no server, for `http://`, where it is not used.
pub(super) fn unused_client_config() -> Result<ClientConfig, ConfigError> {
    Ok(builder(false, || Ok(RootCertStore::empty()))?.with_no_client_auth())
}

type Builder = ConfigBuilder<ClientConfig, WantsClientCert>;

fn builder(
    trust_all: bool,
    roots: impl FnOnce() -> Result<RootCertStore, ConfigError>,
) -> Result<Builder, ConfigError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::Invalid(format!("cannot set up TLS: {error}")))?;
    if trust_all {
        let verifier = Arc::new(TrustAll(provider));
        return Ok(builder.dangerous().with_custom_certificate_verifier(verifier));
    }
    Ok(builder.with_root_certificates(roots()?))
}

fn with_protocol(mut config: ClientConfig, protocol: &[u8]) -> ClientConfig {
    config.alpn_protocols = vec![protocol.to_vec()];
    config
}

fn client_config(config: &Tls, protocol: &[u8]) -> Result<ClientConfig, ConfigError> {
    let builder = builder(config.insecure_skip_verify, || roots(config.ca_file.as_deref()))?;
    let client_config = match (&config.cert_file, &config.key_file) {
        (Some(cert), Some(key)) => {
            let refuse = |error| {
                ConfigError::Invalid(format!(
                    "{} and {} do not fit together: {error}",
                    cert.display(),
                    key.display()
                ))
            };
            builder.with_client_auth_cert(certificates(cert)?, private_key(key)?).map_err(refuse)?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(with_protocol(client_config, protocol))
}

/// Returns the certificates to trust: those of a file, else those of the system.
fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca_file {
        add(&mut roots, path)?;
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(ConfigError::Invalid(
                "this system has no list of certificates to trust; set tls.ca_file, or \
                 SSL_CERT_FILE in the environment"
                    .into(),
            ));
        }
    }
    Ok(roots)
}

fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), ConfigError> {
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| {
            let path = path.display();
            ConfigError::Invalid(format!(
                "{path} has a certificate that cannot be trusted: {error}"
            ))
        })?;
    }
    Ok(())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(not_pem(path, "certificate")),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, ConfigError> {
    // The parser's error could show part of the key.
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| not_pem(path, "private key"))
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let file_error = |source| ConfigError::File { path: PathBuf::from(path), source };
    let length = fs::metadata(path).map_err(file_error)?.len();
    if length > PEM_BYTES_MAX {
        return Err(not_pem(path, "certificate"));
    }
    fs::read(path).map_err(file_error)
}

fn not_pem(path: &Path, what: &str) -> ConfigError {
    ConfigError::Invalid(format!("{} has no {what} in PEM form; give one that has", path.display()))
}

/// Trusts any server, for `insecure_skip_verify`. Signatures of the handshake are still verified,
/// so the server holds the key of its certificate.
#[derive(Debug)]
struct TrustAll(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAll {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};

    use super::*;

    fn key_pair() -> CertifiedKey<rcgen::KeyPair> {
        generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap()
    }

    fn write(directory: &Path, pair: &CertifiedKey<rcgen::KeyPair>) -> Tls {
        let (cert, key) = (directory.join("cert.pem"), directory.join("key.pem"));
        fs::write(&cert, pair.cert.pem()).unwrap();
        fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
        Tls {
            ca_file: Some(cert.clone()),
            cert_file: Some(cert),
            key_file: Some(key),
            ..Tls::default()
        }
    }

    #[test]
    fn rotation_takes_effect_when_both_files_match() {
        let directory = tempfile::tempdir().unwrap();
        let config = write(directory.path(), &key_pair());
        let (mut files, _) = TlsFiles::new(&config, b"h2").unwrap();
        assert!(files.changed().is_none(), "nothing has changed");
        let next = key_pair();
        fs::write(config.cert_file.as_ref().unwrap(), next.cert.pem()).unwrap();
        assert!(files.changed().is_none(), "the key is still the old one");
        fs::write(config.key_file.as_ref().unwrap(), next.signing_key.serialize_pem()).unwrap();
        assert!(files.changed().is_some());
        assert!(files.changed().is_none());
    }

    #[test]
    fn wrong_files_are_errors() {
        let directory = tempfile::tempdir().unwrap();
        let good = write(directory.path(), &key_pair());
        let error = |config: &Tls| TlsFiles::new(config, b"h2").err().unwrap().to_string();
        let nothing = Tls { ca_file: Some(directory.path().join("nothing")), ..Tls::default() };
        assert!(error(&nothing).contains("cannot read"));
        let key_as_ca = Tls { ca_file: good.key_file.clone(), ..Tls::default() };
        assert!(error(&key_as_ca).contains("has no certificate"));
        let swapped = Tls { key_file: good.cert_file.clone(), ..good.clone() };
        assert!(error(&swapped).contains("has no private key"));
        let other = directory.path().join("other.pem");
        fs::write(&other, key_pair().signing_key.serialize_pem()).unwrap();
        let foreign = Tls { key_file: Some(other), ..good };
        assert!(error(&foreign).contains("do not fit together"));
    }
}
