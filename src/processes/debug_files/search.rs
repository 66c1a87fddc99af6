//! Finds the files with the debug info of an executable.
//!
//! They are looked for below the root of the process that maps the executable, then below our own:
//! by build ID, by the name in the executable (`.gnu_debuglink`), and what dwz and dwp have put
//! aside. The process chooses what lies below its root. So a file counts there only if it lies on
//! the file system of the executable and belongs to the same user: no user decides what names the
//! files of others have. The symbolizer compares build IDs and checksums again.

use std::cell::RefCell;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;

use profile::BuildId;
use rustix::io::Errno;
use symbolizer::proto::FileRole;
use symbolizer::{DebugLinks, SupplementaryLink};

use crate::processes::untrusted_path::{RootDirectory, open_regular};

/// Directory of the debug info that distributions install.
const INSTALLED: &str = "/usr/lib/debug";

/// Where the debug files of an executable were looked for, and those that were found.
#[derive(Debug)]
pub struct DebugFileSearch {
    /// The links of the executable.
    pub links: DebugLinks,
    /// The files that were found.
    pub found: Vec<(FileRole, File)>,
    /// All paths, in the order in which they were looked at.
    pub paths: Vec<SearchedPath>,
}

/// A path that was looked at.
#[derive(Debug)]
pub struct SearchedPath {
    /// Below the root.
    pub path: String,
    /// It is below the root of the process, else below our own.
    pub is_in_process: bool,
    /// What was there.
    pub outcome: SearchOutcome,
}

/// What was at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchOutcome {
    /// A file with this role.
    Found(FileRole),
    /// Nothing.
    Missing,
    /// The executable itself.
    Executable,
    /// A file that cannot be opened or read.
    Unreadable,
    /// A file of another user.
    OtherUser,
    /// A file on another file system than the executable.
    OtherFileSystem,
    /// A file of another build.
    OtherBuild,
}

impl DebugFileSearch {
    /// Looks for the debug files of an executable that a process maps. `tid`: a running thread of
    /// the process; `path`: where the executable was mapped.
    ///
    /// # Errors
    /// When the executable cannot be read.
    pub fn of_mapping(tid: u32, own: File, path: &str) -> io::Result<Self> {
        let root = (!has_own_root(tid)).then(|| RootDirectory::of_thread(tid).ok()).flatten();
        let path_in_process = path_below_root(tid, path);
        Self::run(Executable::open(own, path)?, root.map(|root| (root, path_in_process)))
    }

    /// Looks for the debug files of an executable at a path below our own root.
    ///
    /// # Errors
    /// When the executable cannot be read.
    pub fn of_file(own: File, path: &str) -> io::Result<Self> {
        Self::run(Executable::open(own, path)?, None)
    }

    /// Looks for the debug files of an executable that is not here.
    pub fn of_build_id(build_id: &BuildId) -> Self {
        let build_id = Some(build_id.as_bytes().to_vec());
        let links = DebugLinks { build_id, ..DebugLinks::default() };
        let executable = Executable { attributes: None, links, path: "" };
        Self::run(executable, None).unwrap_or_else(|_| Self {
            links: DebugLinks::default(),
            found: Vec::new(),
            paths: Vec::new(),
        })
    }

    fn run(executable: Executable<'_>, process: Option<(RootDirectory, &str)>) -> io::Result<Self> {
        let of_process = process.map(|(root, path)| Search::new(root, &executable, Some(path)));
        let own = RootDirectory::own().map(|root| Search::new(root, &executable, None))?;
        let searches: Vec<Search<'_>> = of_process.into_iter().chain([own]).collect();
        let debug = searches.iter().find_map(Search::debug_file);
        let (main_path, main_links) = match &debug {
            Some(debug) if debug.links.has_debug_info => (debug.path.as_str(), &debug.links),
            _ => (executable.path, &executable.links),
        };
        let mut found = Vec::new();
        if let Some(link) = &main_links.supplementary {
            let file = searches.iter().find_map(|search| search.supplementary(main_path, link));
            found.extend(file.map(|file| (FileRole::Supplementary, file)));
        }
        if executable.links.has_debug_info {
            let file = searches.iter().find_map(Search::package);
            found.extend(file.map(|file| (FileRole::Package, file)));
        }
        found.extend(debug.map(|debug| (FileRole::Debug, debug.file)));
        let paths = searches.into_iter().flat_map(|search| search.paths.into_inner()).collect();
        Ok(Self { links: executable.links, found, paths })
    }
}

/// Returns whether a process has our own root, and what is mounted below it.
fn has_own_root(tid: u32) -> bool {
    let link = |process: &str, name| fs::read_link(format!("/proc/{process}/{name}")).ok();
    let (of_process, own) = (tid.to_string(), "self");
    let is_same = |name| link(&of_process, name).is_some_and(|to| Some(to) == link(own, name));
    is_same("ns/mnt") && is_same("root")
}

/// Returns a path as a process sees it that has another root: in the list of its mappings, paths
/// are as we see them.
fn path_below_root(tid: u32, path: &str) -> &str {
    let root = fs::read_link(format!("/proc/{tid}/root")).unwrap_or_default();
    let root = root.to_str().unwrap_or_default().trim_end_matches('/');
    path.strip_prefix(root).filter(|below| below.starts_with('/')).unwrap_or(path)
}

/// The executable whose debug info is looked for.
struct Executable<'a> {
    /// `None` if it is not here.
    attributes: Option<Metadata>,
    links: DebugLinks,
    /// Where it was mapped.
    path: &'a str,
}

impl<'a> Executable<'a> {
    fn open(own: File, path: &'a str) -> io::Result<Self> {
        let attributes = Some(own.metadata()?);
        Ok(Self { attributes, links: DebugLinks::read(own)?, path })
    }

    fn is(&self, found: &Metadata) -> bool {
        let is_same = |own: &Metadata| (found.dev(), found.ino()) == (own.dev(), own.ino());
        self.attributes.as_ref().is_some_and(is_same)
    }
}

/// A debug file that was found.
struct DebugFile {
    path: String,
    file: File,
    links: DebugLinks,
}

/// Looks below one root.
struct Search<'a> {
    root: RootDirectory,
    /// It is the root of a process, which has chosen what lies below it.
    is_in_process: bool,
    executable: &'a Executable<'a>,
    /// Where the executable lies below the root; `None` if it is not known.
    path: Option<&'a str>,
    paths: RefCell<Vec<SearchedPath>>,
}

impl<'a> Search<'a> {
    /// Looks below the root of a process that may have the executable at a path, or below ours.
    fn new(
        root: RootDirectory,
        executable: &'a Executable<'a>,
        in_process: Option<&'a str>,
    ) -> Self {
        let is_in_process = in_process.is_some();
        let paths = RefCell::default();
        let mut this = Self { root, is_in_process, executable, path: None, paths };
        let paths = in_process.into_iter().chain([executable.path]);
        this.path = { paths }.find(|path| this.has_executable_at(path));
        this
    }

    fn has_executable_at(&self, path: &str) -> bool {
        let found = self.root.find(path).ok().and_then(|found| found.metadata().ok());
        found.is_some_and(|found| self.executable.is(&found))
    }

    /// Opens a file that may have debug info of the executable.
    fn open(&self, path: &str) -> Result<(File, DebugLinks), SearchOutcome> {
        let found = self.root.find(path).map_err(|error| match error {
            Errno::NOENT | Errno::NOTDIR => SearchOutcome::Missing,
            Errno::XDEV => SearchOutcome::OtherFileSystem,
            _ => SearchOutcome::Unreadable,
        })?;
        let attributes = found.metadata().map_err(|_| SearchOutcome::Unreadable)?;
        self.check_trust(&attributes)?;
        let open = || {
            let file = open_regular(&found)?;
            let links = DebugLinks::read(file.try_clone()?)?;
            Ok((file, links))
        };
        open().map_err(|_: io::Error| SearchOutcome::Unreadable)
    }

    fn check_trust(&self, found: &Metadata) -> Result<(), SearchOutcome> {
        if self.executable.is(found) {
            return Err(SearchOutcome::Executable);
        }
        let own = self.executable.attributes.as_ref();
        let is_owner = own.is_some_and(|own| own.uid() == found.uid());
        if !is_owner && (self.is_in_process || found.uid() != 0) {
            return Err(SearchOutcome::OtherUser);
        }
        let is_beside = own.is_some_and(|own| own.dev() == found.dev());
        if self.is_in_process && !is_beside {
            return Err(SearchOutcome::OtherFileSystem);
        }
        Ok(())
    }

    /// Opens a file that has a role if its links are right, and notes what was there.
    fn try_path(
        &self,
        path: &str,
        role: FileRole,
        is_right: impl Fn(&DebugLinks) -> bool,
    ) -> Option<(File, DebugLinks)> {
        let opened = self.open(path).and_then(|(file, links)| match is_right(&links) {
            true => Ok((file, links)),
            false => Err(SearchOutcome::OtherBuild),
        });
        let (outcome, found) = match opened {
            Ok(found) => (SearchOutcome::Found(role), Some(found)),
            Err(outcome) => (outcome, None),
        };
        let is_in_process = self.is_in_process;
        self.paths.borrow_mut().push(SearchedPath { path: path.into(), is_in_process, outcome });
        found
    }

    /// Finds the debug file.
    fn debug_file(&self) -> Option<DebugFile> {
        let own = &self.executable.links;
        let by_id = own.build_id.as_deref().and_then(installed_for);
        let link = own.debug.as_ref();
        let by_name = self.path.zip(link).map(|(path, link)| named_for(path, &link.name));
        let paths = by_id.into_iter().chain(by_name.into_iter().flatten());
        let is_right = |links: &DebugLinks| match (&own.build_id, &links.build_id) {
            (Some(own_id), Some(id)) => own_id == id,
            _ => link.is_some(), // by its checksum, which the symbolizer compares
        };
        let open = |path: String| {
            let (file, links) = self.try_path(&path, FileRole::Debug, is_right)?;
            Some(DebugFile { path, file, links })
        };
        { paths }.find_map(open)
    }

    /// Finds a supplementary file. `path`: of the file with the link.
    fn supplementary(&self, path: &str, link: &SupplementaryLink) -> Option<File> {
        let linked = match link.path.starts_with('/') {
            true => link.path.clone(),
            false => format!("{}/{}", directory_of(path), link.path),
        };
        let paths = installed_for(&link.build_id).into_iter().chain([linked]);
        let is_right = |links: &DebugLinks| links.build_id.as_ref() == Some(&link.build_id);
        let open = |path: String| self.try_path(&path, FileRole::Supplementary, is_right);
        { paths }.find_map(open).map(|(file, _)| file)
    }

    /// Finds the package of split units, whose numbers the symbolizer compares.
    fn package(&self) -> Option<File> {
        let path = format!("{}.dwp", self.path?);
        self.try_path(&path, FileRole::Package, |_| true).map(|(file, _)| file)
    }
}

/// Returns where distributions install the debug file of a build ID.
fn installed_for(build_id: &[u8]) -> Option<String> {
    Some(BuildId::new(build_id)?.debug_file().to_str()?.to_owned())
}

/// Returns where a debug file of this name may lie, for an executable at a path (GDB manual,
/// "Debugging Information in Separate Files").
fn named_for(path: &str, name: &str) -> [String; 3] {
    let directory = directory_of(path);
    [
        format!("{directory}/{name}"),
        format!("{directory}/.debug/{name}"),
        format!("{INSTALLED}{directory}/{name}"),
    ]
}

fn directory_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_files_lie_beside_the_executable_or_are_installed() {
        let expected =
            ["/usr/bin/a.debug", "/usr/bin/.debug/a.debug", "/usr/lib/debug/usr/bin/a.debug"];
        assert_eq!(named_for("/usr/bin/a", "a.debug"), expected);
        assert_eq!(named_for("/a", "a.debug")[0], "/a.debug");
    }
}
