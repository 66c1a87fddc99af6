//! TLS by the settings: whom to trust, who we are, and when the files of either have changed.

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
use super::credentials::Stamp;
use crate::sinks::StartError;

/// Largest file of certificates, in bytes. The list of a Linux system has about 220 KB.
const PEM_BYTES_MAX: u64 = 4 << 20;

/// TLS for one server, made anew when a file changes.
pub(super) struct TlsFiles {
    settings: Tls,
    /// The application protocol to agree on: `h2` or `http/1.1`.
    protocol: &'static [u8],
    stamps: Vec<Option<Stamp>>,
}

impl TlsFiles {
    /// Makes the configuration and remembers what its files look like.
    pub fn new(
        settings: &Tls,
        protocol: &'static [u8],
    ) -> Result<(Self, ClientConfig), StartError> {
        let settings = settings.clone();
        let stamps = stamps(&settings);
        let config = config(&settings, protocol)?;
        Ok((Self { settings, protocol, stamps }, config))
    }

    /// A new configuration, if a file has changed and all of them can be used as they are now. In the middle of
    /// a rotation a certificate and its key may not fit: the old ones stay until they do.
    pub fn changed(&mut self) -> Option<ClientConfig> {
        let stamps = stamps(&self.settings);
        if stamps == self.stamps {
            return None;
        }
        match config(&self.settings, self.protocol) {
            Ok(config) => {
                self.stamps = stamps;
                Some(config)
            }
            Err(error) => {
                tracing::debug!("certificates have changed, but cannot be used yet: {error}");
                None
            }
        }
    }
}

fn stamps(settings: &Tls) -> Vec<Option<Stamp>> {
    let files = [&settings.ca_file, &settings.cert_file, &settings.key_file];
    files.into_iter().flatten().map(|path| Stamp::of(path).ok()).collect()
}

/// TLS for addresses that a server gives out, such as those of a bucket: who signs for the system or for the
/// server is trusted, and nobody is told who we are.
pub(super) fn trust_of_others(settings: &Tls) -> Result<ClientConfig, StartError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &settings.ca_file {
        add(&mut roots, path)?;
    }
    let builder = builder(settings.insecure_skip_verify, || Ok(roots))?;
    Ok(with_protocol(builder.with_no_client_auth(), b"http/1.1"))
}

/// TLS that is never used, for `http://`.
pub(super) fn trust_of_nobody() -> Result<ClientConfig, StartError> {
    Ok(builder(false, || Ok(RootCertStore::empty()))?.with_no_client_auth())
}

type Builder = ConfigBuilder<ClientConfig, WantsClientCert>;

fn builder(
    trust_all: bool,
    roots: impl FnOnce() -> Result<RootCertStore, StartError>,
) -> Result<Builder, StartError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| StartError::Settings(format!("cannot set up TLS: {error}")))?;
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

fn config(settings: &Tls, protocol: &[u8]) -> Result<ClientConfig, StartError> {
    let builder = builder(settings.insecure_skip_verify, || roots(settings.ca_file.as_deref()))?;
    let config = match (&settings.cert_file, &settings.key_file) {
        (Some(cert), Some(key)) => {
            let refuse = |error| {
                StartError::Settings(format!(
                    "{} and {} do not fit together: {error}",
                    cert.display(),
                    key.display()
                ))
            };
            builder.with_client_auth_cert(certificates(cert)?, private_key(key)?).map_err(refuse)?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(with_protocol(config, protocol))
}

/// The certificates to trust: those of a file, else those of the system.
fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, StartError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca_file {
        add(&mut roots, path)?;
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(StartError::Settings(
                "this system has no list of certificates to trust; set tls.ca_file, or SSL_CERT_FILE in the \
                 environment"
                    .into(),
            ));
        }
    }
    Ok(roots)
}

fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), StartError> {
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| {
            let path = path.display();
            StartError::Settings(format!(
                "{path} has a certificate that cannot be trusted: {error}"
            ))
        })?;
    }
    Ok(())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(not_pem(path, "certificate")),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, StartError> {
    // What the parser says of a key is not shown.
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| not_pem(path, "private key"))
}

fn read(path: &Path) -> Result<Vec<u8>, StartError> {
    let file_error = |source| StartError::File { path: PathBuf::from(path), source };
    let length = fs::metadata(path).map_err(file_error)?.len();
    if length > PEM_BYTES_MAX {
        return Err(not_pem(path, "certificate"));
    }
    fs::read(path).map_err(file_error)
}

fn not_pem(path: &Path, what: &str) -> StartError {
    StartError::Settings(format!("{} has no {what} in PEM form; give one that has", path.display()))
}

/// Trusts whoever answers, for `insecure_skip_verify`. Signatures of the handshake are still checked, so that
/// it is who holds the certificate's key.
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
#[allow(clippy::unwrap_used)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};

    use super::*;

    fn made() -> CertifiedKey<rcgen::KeyPair> {
        generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap()
    }

    fn write(directory: &Path, of: &CertifiedKey<rcgen::KeyPair>) -> Tls {
        let (cert, key) = (directory.join("cert.pem"), directory.join("key.pem"));
        fs::write(&cert, of.cert.pem()).unwrap();
        fs::write(&key, of.signing_key.serialize_pem()).unwrap();
        Tls {
            ca_file: Some(cert.clone()),
            cert_file: Some(cert),
            key_file: Some(key),
            ..Tls::default()
        }
    }

    #[test]
    fn half_a_rotation_waits_for_the_other_half() {
        let directory = tempfile::tempdir().unwrap();
        let settings = write(directory.path(), &made());
        let (mut files, _) = TlsFiles::new(&settings, b"h2").unwrap();
        assert!(files.changed().is_none(), "nothing has changed");
        let next = made();
        fs::write(settings.cert_file.as_ref().unwrap(), next.cert.pem()).unwrap();
        assert!(files.changed().is_none(), "the key is still the old one");
        fs::write(settings.key_file.as_ref().unwrap(), next.signing_key.serialize_pem()).unwrap();
        assert!(files.changed().is_some());
        assert!(files.changed().is_none());
    }

    #[test]
    fn files_that_are_something_else_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let good = write(directory.path(), &made());
        let error = |settings: &Tls| TlsFiles::new(settings, b"h2").err().unwrap().to_string();
        let nothing = Tls { ca_file: Some(directory.path().join("nothing")), ..Tls::default() };
        assert!(error(&nothing).contains("cannot read"));
        let key_as_ca = Tls { ca_file: good.key_file.clone(), ..Tls::default() };
        assert!(error(&key_as_ca).contains("has no certificate"));
        let swapped = Tls { key_file: good.cert_file.clone(), ..good.clone() };
        assert!(error(&swapped).contains("has no private key"));
        let other = directory.path().join("other.pem");
        fs::write(&other, made().signing_key.serialize_pem()).unwrap();
        let foreign = Tls { key_file: Some(other), ..good };
        assert!(error(&foreign).contains("do not fit together"));
    }
}
