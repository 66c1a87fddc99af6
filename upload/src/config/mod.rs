//! Settings: each is declared once, in the struct that holds it.
//!
//! [`config!`](crate::config!) turns a struct into a section of the configuration. One declaration
//! says everything about a key: type, unit, range, default, documentation, and whether a change
//! needs a restart. The configuration module of the agent reads files, variables and flags by these
//! descriptions; it is the only caller of [`Key::parse`] and [`Config::from_values`].
//!
//! ```text
//! Input (as written) -- Key::parse --> Value -- Config::from_values --> struct --> conflicts()
//! ```
//!
//! A struct whose fields constrain each other has a method `conflicts` that returns [`Conflict`]s.
//! Everything that uses a validated struct may rely on the ranges of its keys and on the absence of
//! conflicts.
//!
//! This module never reads a file or a variable, and knows no section by name.

mod address;
pub mod declare;
mod entries;
mod error;
mod input;
mod key;
mod parse;
pub mod units;
mod value;

use std::fmt::{self, Debug, Display};

pub use address::check_url;
pub use entries::is_secret_header;
pub use error::ConfigError;
pub use input::{Input, InputEntry, InvalidEntry, InvalidValue, TEXT_BYTES_MAX, shorten};
pub use key::{DefaultValue, Key, KeyType};
pub use value::{ConfigField, Integer, Value, Values};

/// A struct that holds a section of the configuration, or a part of one.
///
/// Implemented by [`config!`](crate::config!). Its `Default` is the struct of which no key is set.
pub trait Config: Default + Debug {
    /// Returns the documentation of the section.
    fn help() -> String;
    /// Describes its keys, in the order of the fields.
    fn keys() -> Vec<Key>;
    /// Builds the struct from the values of its keys; one that is absent has its default.
    fn from_values(values: &Values) -> Self;
}

/// An enum that holds the value of a key, which is one of a few strings.
///
/// Implemented by [`config!`](crate::config!).
pub trait Choice: Copy + 'static {
    /// The strings, in the order of the variants.
    const NAMES: &'static [&'static str];
    /// Returns the string of a variant.
    fn name(self) -> &'static str;
    /// Returns the variant of a string.
    fn from_name(name: &str) -> Option<Self>;
}

impl<T: Choice> ConfigField for T {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Text(name) => T::from_name(name),
            _ => None,
        }
    }

    fn to_value(&self) -> Value {
        Value::Text(self.name().to_owned())
    }
}

/// A table that is `None` while none of its keys is set; keys that it requires are optional then.
impl<T: Config> Config for Option<T> {
    fn help() -> String {
        T::help()
    }

    fn keys() -> Vec<Key> {
        let mut keys = T::keys();
        for key in &mut keys {
            if let DefaultValue::Required(_) = key.default {
                key.default = DefaultValue::None;
            }
        }
        keys
    }

    fn from_values(values: &Values) -> Self {
        (!values.is_empty()).then(|| T::from_values(values))
    }
}

/// A setting that contradicts others of its section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Path of the key in its section.
    pub key: &'static str,
    /// The contradiction and the next step, without the key: "does nothing with http://; ...".
    pub text: String,
}

impl Conflict {
    /// Reports `key`.
    pub fn new(key: &'static str, text: impl Into<String>) -> Self {
        Self { key, text: text.into() }
    }
}

impl Display for Conflict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "`{}` {}", self.key, self.text)
    }
}

/// Joins the lines of a doc comment up to its first empty line. What follows is for readers of the
/// code.
#[doc(hidden)]
pub fn first_paragraph(lines: &[&str]) -> String {
    let lines = lines.iter().map(|line| line.trim()).take_while(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

/// Declares a struct of settings, or an enum that is the type of one.
///
/// Each field of a struct is one key, declared as `name: Type = TYPE.DEFAULT`. The functions for
/// both are in [`declare`] and need no import. The first paragraph of a doc
/// comment is also the text of the key in the documentation.
///
/// ```
/// upload::config! {
///     /// Where profiles are kept.
///     pub struct StoreConfig {
///         /// Whether profiles are kept at all.
///         enabled: bool = boolean().default(true),
///         /// Directory of the profiles.
///         directory: PathBuf = directory().required("\"/PATH\"").needs_restart(),
///         /// Maximum size of the directory.
///         max_bytes: u64 = bytes(kib(64)..=tib(1)).default(gib(1)),
///         /// Maximum age of a profile.
///         max_age: Duration = duration(seconds(1)..=days(365)).default(days(7)),
///         /// Compression of the files.
///         format: Format = one_of().default(Format::Gzip),
///     }
/// }
///
/// upload::config! {
///     /// How files are compressed.
///     pub enum Format {
///         /// By gzip.
///         Gzip = "gzip",
///         /// Not at all.
///         Plain = "none",
///     }
/// }
///
/// use std::path::PathBuf;
/// use std::time::Duration;
/// use upload::config::{Config, Input, Value, Values};
///
/// let keys = StoreConfig::keys();
/// assert_eq!(keys[2].path, "max_bytes");
/// assert_eq!(keys[2].help, "Maximum size of the directory.");
/// assert_eq!(keys[2].describe(), "size, 64KiB to 1TiB");
/// assert_eq!(keys[2].parse(&Input::Quoted("1B")).unwrap_err().advice, "give 64KiB to 1TiB");
///
/// let size = keys[2].parse(&Input::Quoted("512MiB")).unwrap();
/// let values = Values::from_iter([("max_bytes".to_owned(), size)]);
/// let config = StoreConfig::from_values(&values);
/// assert_eq!((config.max_bytes, config.max_age.as_secs()), (512 << 20, 7 * 86_400));
/// assert!(config.format == Format::Gzip);
/// ```
///
/// Keys may be grouped: `tls: Tls = table()` are the keys `tls.ca_file` and so on of the struct
/// `Tls`, and `connection: Connection = flattened()` are its keys without a prefix.
///
/// Structs are `Clone`, `PartialEq`, and `Debug` without secrets.
#[macro_export]
macro_rules! config {
    (
        $(#[doc = $about:literal])+
        $vis:vis struct $name:ident {
            $( $(#[doc = $help:literal])+ $field:ident: $type:ty = $declaration:expr ),+ $(,)?
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, PartialEq)]
        $vis struct $name { $( $(#[doc = $help])+ pub $field: $type, )+ }

        impl $crate::config::Config for $name {
            fn help() -> ::std::string::String {
                $crate::config::first_paragraph(&[$($about),+])
            }

            fn keys() -> ::std::vec::Vec<$crate::config::Key> {
                use $crate::config::declare::*;
                let mut keys = ::std::vec::Vec::new();
                $(
                    let help = $crate::config::first_paragraph(&[$($help),+]);
                    let field = stringify!($field);
                    keys.extend(Declaration::<$type>::keys(&$declaration, field, help));
                )+
                keys
            }

            fn from_values(values: &$crate::config::Values) -> Self {
                use $crate::config::declare::*;
                Self {
                    $(
                        $field: Declaration::<$type>::read(
                            $declaration, stringify!($field), values,
                        ),
                    )+
                }
            }
        }

        impl ::std::default::Default for $name {
            fn default() -> Self {
                $crate::config::Config::from_values(&$crate::config::Values::default())
            }
        }

        impl ::std::fmt::Debug for $name {
            fn fmt(&self, out: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                use $crate::config::declare::*;
                let mut out = out.debug_struct(stringify!($name));
                $(
                    let shown = Declaration::<$type>::show(&$declaration, &self.$field);
                    out.field(stringify!($field), &::std::format_args!("{shown}"));
                )+
                out.finish()
            }
        }
    };
    (
        $(#[doc = $about:literal])+
        $vis:vis enum $name:ident {
            $( $(#[doc = $help:literal])+ $variant:ident = $string:literal ),+ $(,)?
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $name { $( $(#[doc = $help])+ $variant, )+ }

        impl $crate::config::Choice for $name {
            const NAMES: &'static [&'static str] = &[$($string),+];

            fn name(self) -> &'static str {
                match self {
                    $( Self::$variant => $string, )+
                }
            }

            fn from_name(name: &str) -> ::std::option::Option<Self> {
                match name {
                    $( $string => ::std::option::Option::Some(Self::$variant), )+
                    _ => ::std::option::Option::None,
                }
            }
        }
    };
}
