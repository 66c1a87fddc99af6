//! Values of keys, and the Rust types that hold them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
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

/// Implements [`ConfigField`] for types that are one variant of [`Value`].
macro_rules! fields {
    ($($type:ty = $variant:ident),*) => {$(
        impl ConfigField for $type {
            fn from_value(value: &Value) -> Option<Self> {
                match value {
                    Value::$variant(value) => Some(value.clone()),
                    _ => None,
                }
            }

            fn to_value(&self) -> Value {
                Value::$variant(self.clone())
            }
        }
    )*};
}

fields!(bool = Bool, f64 = Number, String = Text, Duration = Duration);

/// An integer that holds the value of a key.
pub trait Integer: ConfigField + Copy {
    /// Widens it.
    fn to_u64(self) -> u64;
}

/// Implements [`ConfigField`] for integers. The range of a key is of its field's type, so values fit.
macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Integer for $type {
            fn to_u64(self) -> u64 {
                self as u64
            }
        }

        impl ConfigField for $type {
            fn from_value(value: &Value) -> Option<Self> {
                match value {
                    Value::Integer(value) => Self::try_from(*value).ok(),
                    _ => None,
                }
            }

            fn to_value(&self) -> Value {
                Value::Integer(self.to_u64())
            }
        }
    )*};
}

integers!(u32, u64, usize);

impl ConfigField for PathBuf {
    fn from_value(value: &Value) -> Option<Self> {
        String::from_value(value).map(Self::from)
    }

    fn to_value(&self) -> Value {
        Value::Text(self.to_string_lossy().into_owned())
    }
}

impl ConfigField for SocketAddr {
    fn from_value(value: &Value) -> Option<Self> {
        String::from_value(value)?.parse().ok()
    }

    fn to_value(&self) -> Value {
        Value::Text(self.to_string())
    }
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

impl ConfigField for BTreeMap<String, String> {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Table(table) => Some(table.clone()),
            _ => None,
        }
    }

    fn to_value(&self) -> Value {
        Value::Table(self.clone())
    }
}

impl ConfigField for BTreeMap<String, PathBuf> {
    fn from_value(value: &Value) -> Option<Self> {
        let table = BTreeMap::<String, String>::from_value(value)?;
        Some(table.into_iter().map(|(name, path)| (name, path.into())).collect())
    }

    fn to_value(&self) -> Value {
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        Value::Table(self.iter().map(|(name, path)| (name.clone(), text(path))).collect())
    }
}
