//! Values of keys, and the Rust types that hold them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A valid value of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// An integer, or a number of bytes.
    Integer(u64),
    /// Any number.
    Number(f64),
    /// A string, also one that is a path or an address.
    Text(String),
    /// A duration of whole milliseconds.
    Duration(Duration),
    /// Strings by name: labels, headers.
    Table(BTreeMap<String, String>),
    /// `off`, for keys that accept it.
    Off,
}

/// The values of a section by path, such as `tls.ca_file`. Keys that are not set are absent.
#[derive(Clone, Debug, Default)]
pub struct Values(BTreeMap<String, Value>);

impl Values {
    /// Returns the value of a key.
    pub fn get(&self, path: &str) -> Option<&Value> {
        self.0.get(path)
    }

    /// Whether no key is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the values below a table, by their paths in it.
    pub fn table(&self, name: &str) -> Self {
        let below = |path: &str| Some(path.strip_prefix(name)?.strip_prefix('.')?.to_owned());
        self.0.iter().filter_map(|(path, value)| Some((below(path)?, value.clone()))).collect()
    }
}

impl FromIterator<(String, Value)> for Values {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// A Rust type that holds the value of a key.
pub trait ConfigField: Sized {
    /// Converts a value; `None` if the key has another type.
    fn from_value(value: &Value) -> Option<Self>;
    /// Returns the value that [`Self::from_value`] converts to this.
    fn to_value(&self) -> Value;
}

/// An integer that holds the value of a key.
pub trait Integer: ConfigField + Copy {
    /// Widens it.
    fn to_u64(self) -> u64;
}

/// Implements [`Integer`]. The range of a key is of its field's type, so values fit.
macro_rules! integers {
    ($($type:ty),+) => {$(
        impl Integer for $type {
            fn to_u64(self) -> u64 {
                self as u64
            }
        }
    )+};
}

integers!(u32, u64, usize);

/// Implements [`ConfigField`]: `Type: VALUE => FIELD, this => VALUE`.
macro_rules! fields {
    ($($type:ty: $value:pat => $field:expr, $this:ident => $to_value:expr;)+) => {$(
        impl ConfigField for $type {
            fn from_value(value: &Value) -> Option<Self> {
                match value {
                    $value => $field,
                    _ => None,
                }
            }

            fn to_value(&self) -> Value {
                let $this = self;
                $to_value
            }
        }
    )+};
}

fields! {
    bool: Value::Bool(on) => Some(*on), this => Value::Bool(*this);
    u32: Value::Integer(number) => (*number).try_into().ok(), this => Value::Integer(this.to_u64());
    u64: Value::Integer(number) => Some(*number), this => Value::Integer(*this);
    usize:
        Value::Integer(number) => (*number).try_into().ok(), this => Value::Integer(this.to_u64());
    f64: Value::Number(number) => Some(*number), this => Value::Number(*this);
    Duration: Value::Duration(duration) => Some(*duration), this => Value::Duration(*this);
    String: Value::Text(text) => Some(text.clone()), this => Value::Text(this.clone());
    PathBuf: Value::Text(text) => Some(text.into()), this => Value::Text(path_text(this));
    SocketAddr: Value::Text(text) => text.parse().ok(), this => Value::Text(this.to_string());
    BTreeMap<String, String>:
        Value::Table(table) => Some(table.clone()), this => Value::Table(this.clone());
    BTreeMap<String, PathBuf>:
        Value::Table(table) => {
            Some(table.iter().map(|(name, path)| (name.clone(), path.into())).collect())
        },
        this => {
            Value::Table(this.iter().map(|(name, path)| (name.clone(), path_text(path))).collect())
        };
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// `None` is `off` where a key accepts it, else a key that is not set.
impl<T: ConfigField> ConfigField for Option<T> {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Off => Some(None),
            value => T::from_value(value).map(Some),
        }
    }

    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::Off, T::to_value)
    }
}
