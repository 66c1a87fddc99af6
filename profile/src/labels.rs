//! Labels: what tells one series of a profile store from another.
//!
//! A pprof sample carries labels. Its text labels but [`NOT_SERIES`] are those of its
//! series; numbers never are.

use std::collections::BTreeMap;

/// Text labels by name, sorted; those of one series.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(pub BTreeMap<String, String>);

/// Text labels of samples that make no series.
pub const NOT_SERIES: [&str; 3] = ["cut", "guessed", "thread"];
