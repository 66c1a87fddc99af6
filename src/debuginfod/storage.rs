//! Where downloaded files are: a directory of its own below the cache directory.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use profile::BuildId;
use sha2::{Digest, Sha256};
use symbolizer::{DebugFileError, DebugLinks, check_debug_file};

use crate::disk_cache::{CacheKind, Directory};

/// Most bytes of one file. Of the debug symbols of Debian's packages few are larger.
pub(super) const FILE_MAX: u64 = 256 << 20;
/// The files of the directory. Downloads in flight come on top.
pub(super) const KIND: CacheKind =
    CacheKind { suffix: ".debug", file_max: FILE_MAX, bytes_max: 1 << 30 };

/// Returns the name of a file: build IDs have any length.
pub(super) fn name_of(build_id: &BuildId) -> String {
    Sha256::digest(build_id.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Opens the file of a build ID and checks it: a crash may have truncated it. A damaged one is
/// removed.
pub(super) fn open_checked(directory: &Directory, build_id: &BuildId) -> Option<File> {
    let name = name_of(build_id);
    let file = directory.open_file(&name).ok().flatten()?;
    let is_whole = check(&file, build_id).is_ok();
    if !is_whole {
        directory.remove(&name);
    }
    is_whole.then_some(file)
}

/// Checks that a file is the debug file of a build ID.
///
/// # Errors
/// [`DebugFileError`] if it is not.
pub(super) fn check(file: &File, build_id: &BuildId) -> Result<(), DebugFileError> {
    let Ok(file) = file.try_clone() else { return Err(DebugFileError::NotElf) };
    let check = AssertUnwindSafe(|| check_debug_file(file, build_id.as_bytes()));
    catch_unwind(check).unwrap_or(Err(DebugFileError::NotElf))
}

/// Returns the build ID of the file to which dwz has moved a part of a debug file; `None` if it has
/// not.
pub(super) fn supplementary_of(file: File) -> Option<BuildId> {
    let read = AssertUnwindSafe(|| DebugLinks::read(file).ok()?.supplementary);
    BuildId::new(&catch_unwind(read).ok()??.build_id)
}

/// Returns the directory of downloaded files in a cache directory.
pub fn directory_below(cache: &Path) -> PathBuf {
    cache.join("debuginfo")
}

/// Returns the directory of downloaded files where no cache directory is given: below that of the
/// user for caches. `None` if the user has none.
///
/// Source: XDG Base Directory Specification.
pub fn default_directory() -> Option<PathBuf> {
    let absolute = |name: &str| {
        let path = std::env::var_os(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    let caches = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    Some(directory_below(&caches?.join("everytick")))
}
