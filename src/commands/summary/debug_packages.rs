//! Packages with the debug symbols of files without symbols.

use std::path::Path;

use profile::{BuildId, Mapping};

use crate::host::{debug_package, packages_of};
use crate::processes::{Executable, WindowExecutables};

/// Returns for each file the package that would give names to its functions, if it is known: the
/// file is the one that a package of this system has installed, and its debug symbols are missing.
/// A file of a container is of another system.
pub(super) fn debug_packages(
    files: &[&Mapping],
    executables: &WindowExecutables,
) -> Vec<Option<String>> {
    let paths: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let packages = packages_of(Path::new("/"), &paths);
    let installed = files.iter().zip(packages).map(|(file, package)| {
        package.filter(|_| lacks_debug_file(file) && is_installed(file, executables))
    });
    installed.map(|package| package.map(|package| debug_package(&package))).collect()
}

/// Returns whether a file has a build ID, by which its debug symbols are found, and these are not
/// installed.
fn lacks_debug_file(file: &Mapping) -> bool {
    file.build_id.as_ref().map(BuildId::debug_file).is_some_and(|symbols| !symbols.exists())
}

/// Returns whether the file that was profiled is the one of this name in our own root.
fn is_installed(file: &Mapping, executables: &WindowExecutables) -> bool {
    let is_same = |executable: &Executable| {
        *executable.name == file.name && executable.build_id == file.build_id
    };
    let mut same = executables.iter().filter(|executable| is_same(executable)).peekable();
    same.peek().is_some() && same.all(|executable| executable.is_at(Path::new(&file.name)))
}
