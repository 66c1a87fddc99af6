//! Which Debian package a file is of, by the lists that dpkg keeps of the files of each package.
//!
//! Reading is bounded. Where the lists do not say which package it is, the answer is none.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// Directory of the lists, `PACKAGE.list` or `PACKAGE:ARCHITECTURE.list`.
const LISTS: &str = "var/lib/dpkg/info";
/// Files that a package has moved out of the way of its own: three lines each.
const DIVERSIONS: &str = "var/lib/dpkg/diversions";
/// Lists that are read at most; a workstation has 5,000.
const LISTS_MAX: usize = 20_000;
/// Bytes of one list; the longest of Debian 12 has 5 MiB.
const LIST_BYTES_MAX: u64 = 16 << 20;
/// Bytes of all lists.
const BYTES_MAX: usize = 256 << 20;

/// Returns the package that each of these files is of, if dpkg knows exactly one. `root`: where
/// the system is, `/`; `paths`: absolute, as seen in it.
pub fn packages_of(root: &Path, paths: &[&str]) -> Vec<Option<String>> {
    let mut owners: Vec<Vec<String>> = vec![Vec::new(); paths.len()];
    let aliases: Vec<(Vec<u8>, usize)> =
        (0..).zip(paths).flat_map(|(at, path)| aliases(root, path).map(move |a| (a, at))).collect();
    let wanted: HashMap<&[u8], usize> =
        aliases.iter().map(|(alias, at)| (alias.as_slice(), *at)).collect();
    let Ok(directory) = root.join(LISTS).read_dir() else { return vec![None; paths.len()] };
    let (mut list, mut bytes) = (Vec::new(), 0);
    for entry in directory.flatten().take(LISTS_MAX) {
        let Some(package) = package_of_list(&entry.file_name()) else { continue };
        read(&entry.path(), &mut list);
        bytes += list.len();
        for at in list.split(|byte| *byte == b'\n').filter_map(|line| wanted.get(line)) {
            if !owners[*at].contains(&package) {
                owners[*at].push(package.clone());
            }
        }
        if bytes > BYTES_MAX {
            break;
        }
    }
    read(&root.join(DIVERSIONS), &mut list);
    list.split(|byte| *byte == b'\n')
        .filter_map(|line| wanted.get(line))
        .for_each(|at| owners[*at].clear());
    owners.into_iter().map(only).collect()
}

/// Returns the package with the debug symbols of another: the one that Debian builds beside it.
pub fn debug_package(package: &str) -> String {
    match package {
        "libc6" => "libc6-dbg".into(), // debuggers and valgrind depend on it by this name
        package => format!("{package}-dbgsym"),
    }
}

/// Returns the paths by which dpkg may know a file: since `/bin`, `/lib` and others are links into
/// `/usr`, packages name their files in either way.
fn aliases(root: &Path, path: &str) -> impl Iterator<Item = Vec<u8>> {
    let below = |path: &str| root.join(path.trim_start_matches('/')).canonicalize().ok();
    let short = path.strip_prefix("/usr").filter(|short| short.starts_with('/'));
    let short = short.filter(|short| below(short).is_some_and(|file| Some(file) == below(path)));
    [Some(path), short].into_iter().flatten().map(|path| path.as_bytes().to_vec())
}

/// Returns the package that a file of the directory is the list of; `None` for another file.
fn package_of_list(name: &OsStr) -> Option<String> {
    let package = name.to_str()?.strip_suffix(".list")?;
    let package = package.split(':').next()?;
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    (!package.is_empty() && package.bytes().all(is_allowed)).then(|| package.to_owned())
}

/// Reads a file, up to a limit; nothing of one that cannot be read.
fn read(path: &Path, bytes: &mut Vec<u8>) {
    bytes.clear();
    let file = fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|_| File::open(path));
    let Some(Ok(file)) = file else { return };
    if file.take(LIST_BYTES_MAX).read_to_end(bytes).is_err() {
        bytes.clear();
    }
}

/// Returns the only one of a list.
fn only(mut packages: Vec<String>) -> Option<String> {
    packages.pop().filter(|_| packages.is_empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Returns a root with these lists, `usr/lib/tool` and a link to `usr/lib`.
    fn root(lists: &[(&str, &str)], diversions: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        let path = |path: &str| root.path().join(path);
        fs::create_dir_all(path(LISTS)).expect("created");
        fs::create_dir_all(path("usr/lib")).expect("created");
        fs::write(path("usr/lib/tool"), "").expect("written");
        symlink("usr/lib", path("lib")).expect("a link");
        for (name, text) in lists {
            fs::write(path(LISTS).join(name), text).expect("written");
        }
        fs::write(path(DIVERSIONS), diversions).expect("written");
        root
    }

    fn check(lists: &[(&str, &str)], diversions: &str, path: &str, expected: Option<&str>) {
        let root = root(lists, diversions);
        let found = packages_of(root.path(), &["/other", path]);
        assert_eq!(found, [None, expected.map(str::to_owned)], "{path} in {lists:?}");
    }

    #[test]
    fn package_is_the_one_whose_list_has_the_file() {
        let lists = [
            ("a.list", "/.\n/usr/lib\n/usr/lib/tool2\n/usr/lib/tool/x\n"),
            ("postgresql-15.list", "/.\n/usr\n/usr/lib\n/usr/lib/tool\n"),
            ("b.md5sums", "/usr/lib/tool\n"),
            ("not a package.list", "/usr/lib/tool\n"),
        ];
        check(&lists, "", "/usr/lib/tool", Some("postgresql-15"));
        check(&lists, "", "/usr/lib/too", None);
        check(&[], "", "/usr/lib/tool", None);
    }

    #[test]
    fn directories_that_are_links_have_two_names() {
        check(&[("libx:amd64.list", "/lib/tool\n")], "", "/usr/lib/tool", Some("libx"));
        check(&[("libx.list", "/lib/none\n")], "", "/usr/lib/none", None);
    }

    #[test]
    fn file_of_several_packages_is_of_none() {
        let lists = [("a.list", "/usr/lib/tool\n"), ("b.list", "/lib/tool\n")];
        check(&lists, "", "/usr/lib/tool", None);
        let moved = "/usr/lib/tool\n/usr/lib/tool.distrib\nb\n";
        check(&[("a.list", "/usr/lib/tool\n")], moved, "/usr/lib/tool", None);
        let both = [("c:amd64.list", "/usr/lib/tool\n"), ("c:i386.list", "/usr/lib/tool\n")];
        check(&both, "", "/usr/lib/tool", Some("c"));
    }
}
