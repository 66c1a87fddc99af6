//! Which version of CPython a file contains.

use std::fmt;

use crate::runtimes::dynamic_file::DynamicFile;
use crate::runtimes::recognition_error::RecognitionError;

/// The major version that is known.
const MAJOR: u32 = 3;
/// The minor versions whose structures are known.
const MINORS: std::ops::RangeInclusive<u32> = 7..=15;

/// Functions that a version added, each exported by all later ones: versions before 3.11 do not
/// contain their number as data.
const ADDED_FUNCTIONS: [(u32, &str); 4] =
    [(7, "PyThread_tss_create"), (8, "Py_BytesMain"), (9, "PyFrame_GetBack"), (10, "PyIter_Send")];

/// A bit of a version's number: the build has no global lock.
const FREE_THREADED: u64 = 1 << 32;

/// A version of CPython, and whether the build has a global lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CpythonVersion {
    /// As in `PY_VERSION_HEX`: a byte each of major, minor and micro version, and half a byte each
    /// of the level and number of a release. The lower half is 0 if only the minor version is
    /// known.
    hex: u32,
    is_free_threaded: bool,
}

impl CpythonVersion {
    /// Returns the version of a `PY_VERSION_HEX` with a global lock; `None` if its structures are
    /// not known.
    pub fn from_hex(hex: u32) -> Option<Self> {
        let version = Self { hex, is_free_threaded: false };
        version.is_known().then_some(version)
    }

    /// Returns the version with a [`Self::number`], known or not.
    pub fn from_number(number: u64) -> Self {
        Self { hex: number as u32, is_free_threaded: number & FREE_THREADED != 0 }
    }

    /// Returns it as a number: `PY_VERSION_HEX`, and a bit for builds without a global lock.
    pub fn number(self) -> u64 {
        u64::from(self.hex) | if self.is_free_threaded { FREE_THREADED } else { 0 }
    }

    /// Returns whether its structures are known. Those of versions before the first release
    /// candidate changed from one to the next.
    pub fn is_known(self) -> bool {
        /// Level of a release candidate; that of a release is above it.
        const CANDIDATE: u32 = 0xc;
        let Self { hex, .. } = self;
        let is_release = hex >> 4 & 0xf >= CANDIDATE;
        let is_minor = hex & 0xffff == 0 && !self.contains_its_number();
        hex >> 24 == MAJOR && MINORS.contains(&self.minor()) && (is_release || is_minor)
    }

    /// Returns the version of a build that has a global lock or not.
    #[must_use]
    pub fn with_threads(self, is_free_threaded: bool) -> Self {
        Self { is_free_threaded, ..self }
    }

    /// Returns the version without what its builds differ by: 3.13 for 3.13.0 without a global
    /// lock.
    #[must_use]
    pub fn without_micro(self) -> Self {
        Self { hex: self.hex & 0xffff_0000, is_free_threaded: false }
    }

    /// Returns the minor version: 12 of 3.12.1.
    pub fn minor(self) -> u32 {
        self.hex >> 16 & 0xff
    }

    /// Returns whether the build has no global lock.
    pub fn is_free_threaded(self) -> bool {
        self.is_free_threaded
    }

    /// Returns whether the file describes its structures.
    pub fn has_debug_offsets(self) -> bool {
        self.minor() >= 13
    }

    /// Returns whether the file has the version as data.
    fn contains_its_number(self) -> bool {
        self.minor() >= 11
    }
}

impl fmt::Display for CpythonVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hex, is_free_threaded } = self;
        write!(f, "{}.{}", hex >> 24, self.minor())?;
        match hex >> 4 & 0xf {
            0 => {}
            0xc => write!(f, ".{}rc{}", hex >> 8 & 0xff, hex & 0xf)?,
            _ => write!(f, ".{}", hex >> 8 & 0xff)?,
        }
        f.write_str(if *is_free_threaded { " free-threaded" } else { "" })
    }
}

/// Finds the version of a file.
///
/// # Errors
/// If the version is not supported, or not found.
pub(super) fn of_file(file: &DynamicFile<'_>) -> Result<CpythonVersion, RecognitionError> {
    if let Some(number) = file.symbol("Py_Version") {
        let hex = file.u64_at(number.address).and_then(|hex| u32::try_from(hex).ok());
        let version = hex.map(|hex| (hex, CpythonVersion::from_hex(hex)));
        return match version {
            Some((_, Some(version))) if version.contains_its_number() => Ok(version),
            Some((hex, None)) if hex >> 24 == MAJOR => Err(RecognitionError::UnsupportedVersion),
            _ => Err(RecognitionError::UnknownVersion),
        };
    }
    let has = ADDED_FUNCTIONS.map(|(_, function)| file.symbol(function).is_some());
    let added = has.iter().take_while(|has| **has).count();
    let is_consistent = has[added..].iter().all(|has| !has);
    let newest = added.checked_sub(1).filter(|_| is_consistent);
    let minor = newest.map(|newest| ADDED_FUNCTIONS[newest].0);
    let version = minor.and_then(|minor| CpythonVersion::from_hex(MAJOR << 24 | minor << 16));
    version.ok_or(RecognitionError::UnknownVersion)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_known_from_the_first_release_candidate_on() {
        let text = |hex| CpythonVersion::from_hex(hex).map(|version| version.to_string());
        assert_eq!(text(0x030d_00f0).as_deref(), Some("3.13.0"));
        assert_eq!(text(0x030f_02f0).as_deref(), Some("3.15.2"));
        assert_eq!(text(0x030e_00c2).as_deref(), Some("3.14.0rc2"));
        assert_eq!(text(0x0309_0000).as_deref(), Some("3.9"));
        for unknown in [0, 0x0206_00f0, 0x0306_00f0, 0x030e_00b1, 0x0310_00f0, 0x030d_0000] {
            assert_eq!(text(unknown), None, "{unknown:x}");
        }
    }

    #[test]
    fn numbers_contain_versions() {
        let version = CpythonVersion::from_hex(0x030d_02f0).expect("known").with_threads(true);
        assert_eq!(CpythonVersion::from_number(version.number()), version);
        let texts = [version, version.without_micro()].map(|version| version.to_string());
        assert_eq!(texts, ["3.13.2 free-threaded", "3.13"]);
    }
}
