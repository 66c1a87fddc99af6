//! Declarations of fields in [`config!`](crate::config!): the type of a key, then its default.
//!
//! The Rust type of a declaration is that of its field, so a default or a range of another type
//! does not compile.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::key::{DefaultValue, Key, KeyType};
use super::value::{ConfigField, Integer, Values};
use super::{Choice, Config};

/// How a field of type `T` is declared.
pub trait Declaration<T> {
    /// Describes the keys that set the field.
    fn keys(&self, field: &str, help: String) -> Vec<Key>;
    /// Takes the field from the values of its section.
    fn read(self, field: &str, values: &Values) -> T;
    /// Shows the field without secrets.
    fn show(&self, field: &T) -> String;
}

/// A type of values that a field of type `T` can hold; a default completes the declaration.
pub struct ValueType<T> {
    key_type: KeyType,
    accepts_off: bool,
    field: PhantomData<T>,
}

/// A field that is set by one key.
pub struct KeyDeclaration<T> {
    key_type: KeyType,
    accepts_off: bool,
    default: DefaultValue,
    /// The field while the key is not set.
    unset: T,
    needs_restart: bool,
}

impl<T> ValueType<T> {
    fn new(key_type: KeyType) -> Self {
        Self { key_type, accepts_off: false, field: PhantomData }
    }

    fn with<U>(self, default: DefaultValue, unset: U) -> KeyDeclaration<U> {
        let Self { key_type, accepts_off, .. } = self;
        KeyDeclaration { key_type, accepts_off, default, unset, needs_restart: false }
    }

    /// Accepts `off`, too, which is `None`.
    pub fn or_off(self) -> ValueType<Option<T>> {
        ValueType { accepts_off: true, ..ValueType::new(self.key_type) }
    }

    /// Holds while the key is not set.
    pub fn default(self, default: T) -> KeyDeclaration<T>
    where
        T: ConfigField,
    {
        self.with(DefaultValue::Value(default.to_value()), default)
    }

    /// Has no default: the feature is off while the key is not set.
    pub fn optional(self) -> KeyDeclaration<Option<T>> {
        self.with(DefaultValue::None, None)
    }

    /// Is `None` while the key is not set; the code that uses it decides. `default`: how, for the
    /// documentation.
    pub fn optional_or(self, default: &'static str) -> KeyDeclaration<Option<T>> {
        self.with(DefaultValue::Computed(default), None)
    }
}

impl<T: Default> ValueType<T> {
    /// Must be set. `example`: a value in TOML, for error messages.
    pub fn required(self, example: &str) -> KeyDeclaration<T> {
        self.with(DefaultValue::Required(example.to_owned()), T::default())
    }

    /// Is set by the configuration module. `default`: how, for the documentation.
    pub fn computed(self, default: &'static str) -> KeyDeclaration<T> {
        self.with(DefaultValue::Computed(default), T::default())
    }

    /// Is empty while the key is not set.
    pub fn or_empty(self) -> KeyDeclaration<T> {
        self.with(DefaultValue::None, T::default())
    }
}

impl<T> KeyDeclaration<T> {
    /// Makes a change take effect after a restart only.
    pub fn needs_restart(self) -> Self {
        Self { needs_restart: true, ..self }
    }
}

impl<T: ConfigField> Declaration<T> for KeyDeclaration<T> {
    fn keys(&self, field: &str, help: String) -> Vec<Key> {
        vec![Key {
            path: field.to_owned(),
            help,
            key_type: self.key_type.clone(),
            accepts_off: self.accepts_off,
            default: self.default.clone(),
            needs_restart: self.needs_restart,
        }]
    }

    fn read(self, field: &str, values: &Values) -> T {
        let Some(value) = values.get(field) else { return self.unset };
        let field = T::from_value(value);
        debug_assert!(field.is_some(), "the value is of the key's type, and so is the field");
        field.unwrap_or(self.unset)
    }

    fn show(&self, field: &T) -> String {
        self.key_type.show(&field.to_value())
    }
}

/// A field that is set by the keys of its type.
pub struct KeyGroup {
    /// Whether the keys are below the name of the field.
    is_table: bool,
}

/// Declares a table: the keys of the field's type, below its name.
pub fn table() -> KeyGroup {
    KeyGroup { is_table: true }
}

/// Declares a part of the struct: the keys of the field's type, without its name.
pub fn flattened() -> KeyGroup {
    KeyGroup { is_table: false }
}

impl<T: Config> Declaration<T> for KeyGroup {
    fn keys(&self, field: &str, _help: String) -> Vec<Key> {
        let mut keys = T::keys();
        for key in keys.iter_mut().filter(|_| self.is_table) {
            key.path = format!("{field}.{}", key.path);
        }
        keys
    }

    fn read(self, field: &str, values: &Values) -> T {
        match self.is_table {
            true => T::from_values(&values.table(field)),
            false => T::from_values(values),
        }
    }

    fn show(&self, field: &T) -> String {
        format!("{field:?}")
    }
}

/// An integer in a range.
pub fn integer<T: Integer>(range: RangeInclusive<T>) -> ValueType<T> {
    ValueType::new(KeyType::Integer(range.start().to_u64()..=range.end().to_u64()))
}

/// One of the variants of an enum.
pub fn one_of<T: Choice>() -> ValueType<T> {
    ValueType::new(KeyType::OneOf(T::NAMES))
}

/// Declares the functions of types: `name(ARGUMENT: BOUND) -> FIELD = KEY TYPE`.
macro_rules! value_types {
    ($(
        $(#[$doc:meta])+
        $name:ident($($range:ident: $bound:ty)?) -> $field:ty = $key_type:expr;
    )+) => {$(
        $(#[$doc])+
        pub fn $name($($range: RangeInclusive<$bound>)?) -> ValueType<$field> {
            ValueType::new($key_type)
        }
    )+};
}

value_types! {
    /// `true` or `false`.
    boolean() -> bool = KeyType::Bool;
    /// Any number in a range.
    number(range: f64) -> f64 = KeyType::Number(range);
    /// A size in bytes, written with a unit.
    bytes(range: u64) -> u64 = KeyType::Bytes(range);
    /// A duration, written with a unit.
    duration(range: Duration) -> Duration = KeyType::Duration(range);
    /// A string.
    text() -> String = KeyType::Text;
    /// Absolute path of a directory.
    directory() -> PathBuf = KeyType::Directory;
    /// Absolute path of a file that must exist, such as one that holds a secret.
    file() -> PathBuf = KeyType::File;
    /// IP address and port.
    address() -> SocketAddr = KeyType::Address;
    /// Address of a server.
    url() -> String = KeyType::Url;
    /// Address of a proxy.
    proxy() -> String = KeyType::Proxy;
    /// Names of labels and their values.
    labels() -> BTreeMap<String, String> = KeyType::Labels;
    /// Names of HTTP headers and their values.
    headers() -> BTreeMap<String, String> = KeyType::Headers;
    /// Names of HTTP headers and the files that hold their values.
    header_files() -> BTreeMap<String, PathBuf> = KeyType::HeaderFiles;
}

/// Kibibytes in bytes.
pub const fn kib(number: u64) -> u64 {
    number << 10
}

/// Mebibytes in bytes.
pub const fn mib(number: u64) -> u64 {
    number << 20
}

/// Gibibytes in bytes.
pub const fn gib(number: u64) -> u64 {
    number << 30
}

/// Tebibytes in bytes.
pub const fn tib(number: u64) -> u64 {
    number << 40
}

/// Seconds.
pub const fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

/// Hours.
pub const fn hours(number: u64) -> Duration {
    seconds(number * 3600)
}

/// Days.
pub const fn days(number: u64) -> Duration {
    hours(number * 24)
}
