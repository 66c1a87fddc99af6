//! Credentials: headers of every request, some of them from files.
//!
//! A file is read again when it changes and when the server rejects our credentials. Kubernetes
//! replaces mounted secrets behind a symbolic link, so the path is resolved for every request.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use super::connection::Connection;
use super::error::TransportError;
use crate::batch::Failure;
use crate::config::{ConfigError, is_secret_header};

/// Largest file with a secret, in bytes. Tokens of cloud providers have a few thousand.
const SECRET_BYTES_MAX: u64 = 64 << 10;
/// Length below which a secret is not redacted, in bytes: it would occur in any text.
const REDACTED_MIN: usize = 4;
/// Replaces a secret.
const REDACTED: &str = "***";
/// Headers that the transport itself sets.
const RESERVED: [&str; 9] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "grpc-encoding",
    "grpc-timeout",
    "host",
    "te",
    "transfer-encoding",
];

/// The configured headers of one server.
pub(super) struct Credentials {
    fixed: HeaderMap,
    from_files: Vec<SecretHeader>,
}

/// A header whose value is in a file.
struct SecretHeader {
    name: HeaderName,
    scheme: Scheme,
    file: PathBuf,
    /// The value and the file's state when it was read.
    cached: Option<(FileStamp, HeaderValue)>,
}

/// How the value is made of the secret.
enum Scheme {
    Plain,
    Bearer,
    Basic { username: String },
}

/// File attributes that change with the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileStamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl FileStamp {
    /// Reads the attributes of a file, following links.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

impl Credentials {
    /// Checks names and values of headers, and that files can be read.
    pub fn new(config: &Connection) -> Result<Self, ConfigError> {
        let mut fixed = HeaderMap::new();
        for (name, text) in &config.headers {
            fixed.insert(header_name(name)?, header_value(name, text)?);
        }
        if let Some(tenant) = &config.tenant {
            let name = HeaderName::from_static("x-scope-orgid");
            fixed.insert(name, header_value("tenant", tenant)?);
        }
        let mut credentials = Self { fixed, from_files: from_files(config)? };
        for header in &mut credentials.from_files {
            header.value().map_err(|error| error.into_config_error(&header.file))?;
        }
        Ok(credentials)
    }

    /// Returns the headers, with the current content of their files.
    pub fn headers(&mut self) -> Result<HeaderMap, TransportError> {
        let mut headers = self.fixed.clone();
        for header in &mut self.from_files {
            let value = header.value().map_err(|error| error.into_transport_error(&header.file))?;
            headers.insert(header.name.clone(), value);
        }
        Ok(headers)
    }

    /// Reads all files, changed or not. Returns whether any value is different now.
    pub fn reload(&mut self) -> bool {
        let mut is_different = false;
        for header in &mut self.from_files {
            let before = header.cached.take();
            match header.value() {
                Ok(now) => is_different |= before.is_none_or(|(_, value)| value != now),
                Err(_) => header.cached = before,
            }
        }
        is_different
    }

    /// Replaces our secrets in what a server says: some servers repeat a header that they reject.
    ///
    /// To be called before the text is shortened, because only whole secrets are found, and the
    /// beginning of one at the end of the text.
    pub fn redact(&self, mut text: String) -> String {
        let fixed = self.fixed.iter().filter(|(name, _)| is_secret_header(name.as_str()));
        let cached = self.from_files.iter().filter_map(|header| header.cached.as_ref());
        let values = fixed.map(|(_, value)| value).chain(cached.map(|(_, value)| value));
        let mut secrets: Vec<&str> =
            values.filter_map(|value| value.to_str().ok()).flat_map(forms).collect();
        // One may contain another: the longest is replaced first.
        secrets.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
        for secret in secrets {
            if text.contains(secret) {
                text = text.replace(secret, REDACTED);
            }
            let mut starts = (REDACTED_MIN..secret.len()).rev().filter_map(|l| secret.get(..l));
            if let Some(start) = starts.find(|start| text.ends_with(start)) {
                text.truncate(text.len() - start.len());
                text.push_str(REDACTED);
            }
        }
        text
    }
}

/// Returns a value, what follows its first word, and its last word: `Bearer a b`, `a b`, `b`.
fn forms(secret: &str) -> impl Iterator<Item = &str> {
    let rest = secret.split_once(' ').map(|(_, rest)| rest.trim_start());
    let last = secret.rsplit_once(' ').map(|(_, last)| last);
    [Some(secret), rest, last].into_iter().flatten().filter(|form| form.len() >= REDACTED_MIN)
}

fn from_files(config: &Connection) -> Result<Vec<SecretHeader>, ConfigError> {
    let header = |name, scheme, file: &Path| {
        let file = file.to_owned();
        SecretHeader { name, scheme, file, cached: None }
    };
    let mut headers = Vec::new();
    if let Some(file) = &config.bearer_token_file {
        headers.push(header(AUTHORIZATION, Scheme::Bearer, file));
    }
    if let Some(basic) = &config.basic_auth {
        let scheme = Scheme::Basic { username: basic.username.clone() };
        headers.push(header(AUTHORIZATION, scheme, &basic.password_file));
    }
    for (name, file) in &config.header_files {
        headers.push(header(header_name(name)?, Scheme::Plain, file));
    }
    Ok(headers)
}

fn header_name(name: &str) -> Result<HeaderName, ConfigError> {
    let refuse = |what: &str| ConfigError::Invalid(format!("the header {name:?} {what}"));
    let header = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| refuse("is no valid name; use letters, digits and `-`"))?;
    if RESERVED.contains(&header.as_str()) {
        return Err(refuse("cannot be set; remove it"));
    }
    if header.as_str().ends_with("-bin") {
        return Err(refuse("would be binary in gRPC, which cannot be set; choose another name"));
    }
    Ok(header)
}

fn header_value(name: &str, text: &str) -> Result<HeaderValue, ConfigError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        ConfigError::Invalid(format!(
            "the value of `{name}` has characters that are not allowed in headers"
        ))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Why a secret cannot be used.
enum SecretError {
    Read(std::io::Error),
    Invalid(&'static str),
}

impl SecretError {
    fn into_config_error(self, path: &Path) -> ConfigError {
        match self {
            Self::Read(source) => ConfigError::File { path: path.to_owned(), source },
            Self::Invalid(what) => ConfigError::Invalid(format!("{} {what}", path.display())),
        }
    }

    fn into_transport_error(self, path: &Path) -> TransportError {
        let text = match self {
            Self::Read(error) => format!("cannot read {}: {error}", path.display()),
            Self::Invalid(what) => format!("{} {what}", path.display()),
        };
        TransportError::new(Failure::Unauthenticated, text)
    }
}

impl SecretHeader {
    /// Returns the header's value, from the file if that has changed.
    fn value(&mut self) -> Result<HeaderValue, SecretError> {
        let stamp = FileStamp::of(&self.file).map_err(SecretError::Read)?;
        match &self.cached {
            Some((known, value)) if *known == stamp => Ok(value.clone()),
            _ => {
                let value = self.scheme.value(&read_secret(&self.file)?)?;
                self.cached = Some((stamp, value.clone()));
                Ok(value)
            }
        }
    }
}

impl Scheme {
    fn value(&self, secret: &str) -> Result<HeaderValue, SecretError> {
        let text = match self {
            Self::Plain => secret.to_owned(),
            Self::Bearer => format!("Bearer {secret}"),
            Self::Basic { username } => {
                format!("Basic {}", STANDARD.encode(format!("{username}:{secret}")))
            }
        };
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| SecretError::Invalid("has characters that are not allowed in headers"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// Reads the first line of a file, trimmed.
fn read_secret(path: &Path) -> Result<String, SecretError> {
    let mut text = String::new();
    let file = File::open(path).map_err(SecretError::Read)?;
    file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text).map_err(SecretError::Read)?;
    if text.len() as u64 > SECRET_BYTES_MAX {
        return Err(SecretError::Invalid(
            "is too large for a secret; give a file with the secret alone",
        ));
    }
    match text.trim().lines().next() {
        Some(line) => Ok(line.trim_end().to_owned()),
        None => Err(SecretError::Invalid("is empty; write the secret into it")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::connection::BasicAuth;
    use super::*;

    fn authorization(credentials: &mut Credentials) -> String {
        let headers = credentials.headers().unwrap();
        assert!(headers[AUTHORIZATION].is_sensitive());
        headers[AUTHORIZATION].to_str().unwrap().to_owned()
    }

    fn replace(path: &Path, text: &str) {
        let beside = path.with_extension("new");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, path).unwrap();
    }

    #[test]
    fn a_replaced_token_file_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "one\n").unwrap();
        let config = Connection { bearer_token_file: Some(path.clone()), ..Connection::default() };
        let mut credentials = Credentials::new(&config).unwrap();
        assert_eq!(authorization(&mut credentials), "Bearer one");
        replace(&path, "two\n");
        assert_eq!(authorization(&mut credentials), "Bearer two");
        assert!(!credentials.reload(), "nothing is new");
    }

    #[test]
    fn reload_reads_a_file_whose_attributes_are_unchanged() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "one").unwrap();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let config = Connection { bearer_token_file: Some(path.clone()), ..Connection::default() };
        let mut credentials = Credentials::new(&config).unwrap();
        fs::write(&path, "two").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        assert_eq!(authorization(&mut credentials), "Bearer one");
        assert!(credentials.reload());
        assert_eq!(authorization(&mut credentials), "Bearer two");
    }

    #[test]
    fn all_kinds_of_headers_are_sent() {
        let directory = tempfile::tempdir().unwrap();
        let (password, key) = (directory.path().join("password"), directory.path().join("key"));
        fs::write(&password, "open sesame").unwrap();
        fs::write(&key, "k").unwrap();
        let config = Connection {
            basic_auth: Some(BasicAuth { username: "Aladdin".into(), password_file: password }),
            headers: [("x-cluster".to_owned(), "blue".to_owned())].into(),
            header_files: [("X-Api-Key".to_owned(), key)].into(),
            tenant: Some("t1".into()),
            ..Connection::default()
        };
        let headers = Credentials::new(&config).unwrap().headers().unwrap();
        assert_eq!(headers[AUTHORIZATION], "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(
            (&headers["x-cluster"], &headers["x-api-key"]),
            (&"blue".parse().unwrap(), &"k".parse().unwrap())
        );
        assert_eq!(headers["x-scope-orgid"], "t1");
    }

    #[test]
    fn secrets_are_redacted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "hunter2").unwrap();
        let config = Connection {
            bearer_token_file: Some(path),
            headers: [
                ("x-api-key".into(), "swordfish".into()),
                ("x-cluster".into(), "blue".into()),
            ]
            .into(),
            ..Connection::default()
        };
        let credentials = Credentials::new(&config).unwrap();
        let text = credentials.redact("no: Bearer hunter2, swordfish, blue".into());
        assert_eq!(text, "no: ***, ***, blue");
    }

    #[test]
    fn a_secret_of_several_words_is_redacted_in_part_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, "ApiKey open sesame").unwrap();
        let config = Connection {
            header_files: [("x-key".to_owned(), path)].into(),
            ..Connection::default()
        };
        let credentials = Credentials::new(&config).unwrap();
        let redacted = |text: &str| credentials.redact(text.to_owned());
        assert_eq!(redacted("ApiKey open sesame, open sesame, sesame!"), "***, ***, ***!");
        assert_eq!(redacted("who is ApiKey open ses"), "who is ***");
        assert_eq!(redacted("who is sesa"), "who is ***");
        assert_eq!(redacted("Open says me"), "Open says me");
    }

    #[test]
    fn errors_contain_no_secret() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let start = |config: Connection| Credentials::new(&config).err().unwrap().to_string();
        let token =
            || Connection { bearer_token_file: Some(path.clone()), ..Connection::default() };
        assert!(start(token()).contains("cannot read"));
        fs::write(&path, " \n").unwrap();
        assert!(start(token()).contains("is empty"));
        fs::write(&path, "hunter2\u{1}").unwrap();
        let text = start(token());
        assert!(text.contains("not allowed in headers") && !text.contains("hunter2"), "{text}");
        let header = |name: &str, text: &str| Connection {
            headers: [(name.to_owned(), text.to_owned())].into(),
            ..Connection::default()
        };
        assert!(start(header("content-length", "1")).contains("cannot be set"));
        assert!(start(header("a b", "1")).contains("is no valid name"));
        let text = start(header("x-key", "hunter2\n"));
        assert!(text.contains("`x-key`") && !text.contains("hunter2"), "{text}");
    }
}
