//! Who we say that we are: headers of each request, some of them from files.
//!
//! A file is read when it changes and when the server does not know us. Kubernetes exchanges mounted secrets
//! behind a symbolic link, so what the path leads to is looked at each time.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use super::classify::TransportError;
use super::connection::Connection;
use crate::batch::Failure;
use crate::config::is_secret_header;
use crate::sinks::StartError;

/// Largest file of a secret, in bytes. Tokens of cloud providers have a few thousand.
const SECRET_BYTES_MAX: u64 = 64 << 10;
/// Texts shorter than this are in every text.
const SHORTEST_HIDDEN: usize = 4;
/// What stands in the place of a secret.
const HIDDEN: &str = "***";
/// Headers that the transport itself writes.
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

/// The headers that tell who we are.
pub(super) struct Credentials {
    fixed: HeaderMap,
    from_files: Vec<SecretHeader>,
}

/// A header whose text is in a file.
struct SecretHeader {
    name: HeaderName,
    kind: Kind,
    file: PathBuf,
    read: Option<(Stamp, HeaderValue)>,
}

/// What is made of the file's text.
enum Kind {
    Plain,
    Bearer,
    Basic { username: String },
}

/// What changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// Looks at a file, through links.
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
    /// Checks names and texts of headers, and that files can be read.
    pub fn new(connection: &Connection) -> Result<Self, StartError> {
        let mut fixed = HeaderMap::new();
        for (name, text) in &connection.headers {
            fixed.insert(header_name(name)?, header_value(name, text)?);
        }
        if let Some(tenant) = &connection.tenant {
            let name = HeaderName::from_static("x-scope-orgid");
            fixed.insert(name, header_value("tenant", tenant)?);
        }
        let mut credentials = Self { fixed, from_files: from_files(connection)? };
        for header in &mut credentials.from_files {
            header.value().map_err(|error| error.at_start(&header.file))?;
        }
        Ok(credentials)
    }

    /// The headers as of now.
    pub fn headers(&mut self) -> Result<HeaderMap, TransportError> {
        let mut headers = self.fixed.clone();
        for header in &mut self.from_files {
            let value = header.value().map_err(|error| error.while_running(&header.file))?;
            headers.insert(header.name.clone(), value);
        }
        Ok(headers)
    }

    /// Reads all files, changed or not. Tells whether anything is different now.
    pub fn read_anew(&mut self) -> bool {
        let mut is_different = false;
        for header in &mut self.from_files {
            let before = header.read.take();
            match header.value() {
                Ok(now) => is_different |= before.is_none_or(|(_, value)| value != now),
                Err(_) => header.read = before,
            }
        }
        is_different
    }

    /// Takes our secrets out of what a server says: some repeat what they do not like.
    ///
    /// To be called before the text is cut, because only whole secrets are found, and the beginning of one
    /// where the text ends.
    pub fn hide(&self, mut text: String) -> String {
        let fixed = self.fixed.iter().filter(|(name, _)| is_secret_header(name.as_str()));
        let read = self.from_files.iter().filter_map(|header| header.read.as_ref());
        let values = fixed.map(|(_, value)| value).chain(read.map(|(_, value)| value));
        let mut secrets: Vec<&str> =
            values.filter_map(|value| value.to_str().ok()).flat_map(forms).collect();
        // One may be part of another.
        secrets.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
        for secret in secrets {
            if text.contains(secret) {
                text = text.replace(secret, HIDDEN);
            }
            let mut begun = (SHORTEST_HIDDEN..secret.len()).rev().filter_map(|l| secret.get(..l));
            if let Some(begun) = begun.find(|begun| text.ends_with(begun)) {
                text.truncate(text.len() - begun.len());
                text.push_str(HIDDEN);
            }
        }
        text
    }
}

/// A header's text, what follows its first word, and its last word: `Bearer a b`, `a b`, `b`.
fn forms(secret: &str) -> impl Iterator<Item = &str> {
    let rest = secret.split_once(' ').map(|(_, rest)| rest.trim_start());
    let last = secret.rsplit_once(' ').map(|(_, last)| last);
    [Some(secret), rest, last].into_iter().flatten().filter(|form| form.len() >= SHORTEST_HIDDEN)
}

fn from_files(connection: &Connection) -> Result<Vec<SecretHeader>, StartError> {
    let header =
        |name, kind, file: &Path| SecretHeader { name, kind, file: file.to_owned(), read: None };
    let mut headers = Vec::new();
    if let Some(file) = &connection.bearer_token_file {
        headers.push(header(AUTHORIZATION, Kind::Bearer, file));
    }
    if let Some(basic) = &connection.basic_auth {
        let kind = Kind::Basic { username: basic.username.clone() };
        headers.push(header(AUTHORIZATION, kind, &basic.password_file));
    }
    for (name, file) in &connection.header_files {
        headers.push(header(header_name(name)?, Kind::Plain, file));
    }
    Ok(headers)
}

fn header_name(name: &str) -> Result<HeaderName, StartError> {
    let refuse = |what: &str| StartError::Settings(format!("the header {name:?} {what}"));
    let header = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| refuse("is no name of a header; use letters, digits and `-`"))?;
    if RESERVED.contains(&header.as_str()) {
        return Err(refuse("is one that cannot be set; take it out"));
    }
    if header.as_str().ends_with("-bin") {
        return Err(refuse("would be binary in gRPC, which cannot be set; choose another name"));
    }
    Ok(header)
}

fn header_value(name: &str, text: &str) -> Result<HeaderValue, StartError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        StartError::Settings(format!("the text of `{name}` has characters that no header may have"))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Why a secret cannot be had.
enum SecretError {
    Read(std::io::Error),
    Text(&'static str),
}

impl SecretError {
    fn at_start(self, path: &Path) -> StartError {
        match self {
            Self::Read(source) => StartError::File { path: path.to_owned(), source },
            Self::Text(what) => StartError::Settings(format!("{} {what}", path.display())),
        }
    }

    fn while_running(self, path: &Path) -> TransportError {
        let text = match self {
            Self::Read(error) => format!("cannot read {}: {error}", path.display()),
            Self::Text(what) => format!("{} {what}", path.display()),
        };
        TransportError::new(Failure::Unauthenticated, text)
    }
}

impl SecretHeader {
    /// The header's text, read if it is not known or has changed.
    fn value(&mut self) -> Result<HeaderValue, SecretError> {
        let stamp = Stamp::of(&self.file).map_err(SecretError::Read)?;
        match &self.read {
            Some((of, value)) if *of == stamp => Ok(value.clone()),
            _ => {
                let value = self.kind.value(&read_secret(&self.file)?)?;
                self.read = Some((stamp, value.clone()));
                Ok(value)
            }
        }
    }
}

impl Kind {
    fn value(&self, secret: &str) -> Result<HeaderValue, SecretError> {
        let text = match self {
            Self::Plain => secret.to_owned(),
            Self::Bearer => format!("Bearer {secret}"),
            Self::Basic { username } => {
                format!("Basic {}", STANDARD.encode(format!("{username}:{secret}")))
            }
        };
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| SecretError::Text("has characters that no header may have"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// The first line of a file, without the blanks around it.
fn read_secret(path: &Path) -> Result<String, SecretError> {
    let mut text = String::new();
    let file = File::open(path).map_err(SecretError::Read)?;
    file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text).map_err(SecretError::Read)?;
    if text.len() as u64 > SECRET_BYTES_MAX {
        return Err(SecretError::Text(
            "is too large for a secret; give the file with the secret alone",
        ));
    }
    match text.trim().lines().next() {
        Some(line) => Ok(line.trim_end().to_owned()),
        None => Err(SecretError::Text("is empty; write the secret into it")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
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
    fn a_token_is_read_again_when_its_file_is_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "one\n").unwrap();
        let connection =
            Connection { bearer_token_file: Some(path.clone()), ..Connection::default() };
        let mut credentials = Credentials::new(&connection).unwrap();
        assert_eq!(authorization(&mut credentials), "Bearer one");
        replace(&path, "two\n");
        assert_eq!(authorization(&mut credentials), "Bearer two");
        assert!(!credentials.read_anew(), "nothing is new");
    }

    #[test]
    fn a_file_that_looks_the_same_is_read_again_on_demand() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "one").unwrap();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let connection =
            Connection { bearer_token_file: Some(path.clone()), ..Connection::default() };
        let mut credentials = Credentials::new(&connection).unwrap();
        fs::write(&path, "two").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        assert_eq!(authorization(&mut credentials), "Bearer one");
        assert!(credentials.read_anew());
        assert_eq!(authorization(&mut credentials), "Bearer two");
    }

    #[test]
    fn users_and_headers_are_sent_as_the_protocols_say() {
        let directory = tempfile::tempdir().unwrap();
        let (password, key) = (directory.path().join("password"), directory.path().join("key"));
        fs::write(&password, "open sesame").unwrap();
        fs::write(&key, "k").unwrap();
        let connection = Connection {
            basic_auth: Some(BasicAuth { username: "Aladdin".into(), password_file: password }),
            headers: [("x-cluster".to_owned(), "blue".to_owned())].into(),
            header_files: [("X-Api-Key".to_owned(), key)].into(),
            tenant: Some("t1".into()),
            ..Connection::default()
        };
        let headers = Credentials::new(&connection).unwrap().headers().unwrap();
        assert_eq!(headers[AUTHORIZATION], "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(
            (&headers["x-cluster"], &headers["x-api-key"]),
            (&"blue".parse().unwrap(), &"k".parse().unwrap())
        );
        assert_eq!(headers["x-scope-orgid"], "t1");
    }

    #[test]
    fn a_server_that_repeats_a_secret_is_not_repeated() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "hunter2").unwrap();
        let connection = Connection {
            bearer_token_file: Some(path),
            headers: [
                ("x-api-key".into(), "swordfish".into()),
                ("x-cluster".into(), "blue".into()),
            ]
            .into(),
            ..Connection::default()
        };
        let credentials = Credentials::new(&connection).unwrap();
        let text = credentials.hide("no: Bearer hunter2, swordfish, blue".into());
        assert_eq!(text, "no: ***, ***, blue");
    }

    #[test]
    fn a_secret_of_several_words_is_hidden_whole_and_where_the_text_ends_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, "ApiKey open sesame").unwrap();
        let connection = Connection {
            header_files: [("x-key".to_owned(), path)].into(),
            ..Connection::default()
        };
        let credentials = Credentials::new(&connection).unwrap();
        let hidden = |text: &str| credentials.hide(text.to_owned());
        assert_eq!(hidden("ApiKey open sesame, open sesame, sesame!"), "***, ***, ***!");
        assert_eq!(hidden("who is ApiKey open ses"), "who is ***");
        assert_eq!(hidden("who is sesa"), "who is ***");
        assert_eq!(hidden("Open says me"), "Open says me");
    }

    #[test]
    fn what_cannot_be_sent_is_told_without_the_secret() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let start =
            |connection: Connection| Credentials::new(&connection).err().unwrap().to_string();
        let token =
            || Connection { bearer_token_file: Some(path.clone()), ..Connection::default() };
        assert!(start(token()).contains("cannot read"));
        fs::write(&path, " \n").unwrap();
        assert!(start(token()).contains("is empty"));
        fs::write(&path, "hunter2\u{1}").unwrap();
        let text = start(token());
        assert!(text.contains("no header may have") && !text.contains("hunter2"), "{text}");
        let header = |name: &str, text: &str| Connection {
            headers: [(name.to_owned(), text.to_owned())].into(),
            ..Connection::default()
        };
        assert!(start(header("content-length", "1")).contains("cannot be set"));
        assert!(start(header("a b", "1")).contains("is no name"));
        let text = start(header("x-key", "hunter2\n"));
        assert!(text.contains("`x-key`") && !text.contains("hunter2"), "{text}");
    }
}
