//! The files with code that an argument names: an ELF file, those of a process, or of a profile.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use profile::BuildId;
use profile::pprof::{decode, proto};
use symbolizer::DebugLinks;

use crate::processes::{is_at, open_regular_at};
use crate::procfs::{self, MapsEntry};

/// Largest profile that is read, in bytes, and decompressed.
const PROFILE_MAX: usize = 512 << 20;

/// A file with code.
pub(super) struct CodeFile {
    /// Its path, or what a profile calls it.
    pub name: String,
    pub place: Place,
}

/// Where a file is.
pub(super) enum Place {
    /// Here, mapped by this thread's process if there is one.
    Here { file: File, tid: Option<u32> },
    /// It is not here.
    Elsewhere { build_id: Option<BuildId>, reason: String },
}

impl CodeFile {
    /// Returns the files of an argument: an ELF file, a process, or a profile.
    pub fn read(text: &str) -> Result<Vec<Self>> {
        if let (Ok(pid), false) = (text.parse(), Path::new(text).exists()) {
            return Self::of_process(pid);
        }
        let mut file = open_regular_at(text).context("cannot open it")?;
        let mut start = [0; 4];
        let length = file.read(&mut start).context("cannot read it")?;
        if start == *b"\x7fELF" {
            let name = std::fs::canonicalize(text).context("cannot follow its path")?;
            let name = name.to_string_lossy().into_owned();
            return Ok(vec![Self { name, place: Place::Here { file, tid: None } }]);
        }
        let mut bytes = start[..length].to_vec();
        file.take(PROFILE_MAX as u64).read_to_end(&mut bytes).context("cannot read it")?;
        let profile = decode(&bytes, PROFILE_MAX);
        let profile =
            profile.context("neither an ELF file nor a profile in the format of pprof")?;
        let files = of_profile(&profile);
        ensure!(!files.is_empty(), "no frame of the profile is in a file");
        Ok(files)
    }

    /// Returns the files that a process executes.
    pub fn of_process(pid: u32) -> Result<Vec<Self>> {
        let maps =
            procfs::executable_maps(pid, &[]).context("cannot read the mappings of a process")?;
        let mut seen = HashSet::new();
        let is_file = |entry: &&MapsEntry| entry.is_executable && entry.path.starts_with('/');
        let files = maps.entries.iter().filter(is_file);
        let files = files.filter(|entry| seen.insert((entry.major, entry.minor, entry.inode)));
        let files: Vec<CodeFile> = files.map(|entry| of_mapping(pid, entry)).collect();
        if files.is_empty() {
            bail!("the process executes no file; a kernel thread has none");
        }
        Ok(files)
    }

    /// Returns whether it lies where a package of the host may have put it.
    pub fn is_of_host(&self) -> bool {
        matches!(&self.place, Place::Here { file, .. } if is_at(file, Path::new(&self.name)))
    }
}

/// Writes a field of the paragraph about a file.
pub(super) fn write_field(out: &mut impl Write, name: &str, text: &str) -> io::Result<()> {
    writeln!(out, "  {name:<11} {text}")
}

fn of_mapping(pid: u32, entry: &MapsEntry) -> CodeFile {
    let MapsEntry { start, end, path, .. } = entry;
    let name = procfs::without_deleted(path).to_owned();
    let opened = open_regular_at(&format!("/proc/{pid}/map_files/{start:x}-{end:x}"))
        .or_else(|_| open_regular_at(&format!("/proc/{pid}/root{name}")));
    let place = match opened {
        Ok(file) => Place::Here { file, tid: Some(pid) },
        Err(error) => {
            Place::Elsewhere { build_id: None, reason: format!("cannot open it: {error}") }
        }
    };
    CodeFile { name, place }
}

/// Returns the files of a profile that have a path. One that is here with another build ID is not
/// the one that was profiled.
fn of_profile(profile: &proto::Profile) -> Vec<CodeFile> {
    let text = |index: i64| profile.string_table.get(index as usize).map_or("", String::as_str);
    let files = profile.mapping.iter().map(|mapping| {
        let name = text(mapping.filename).to_owned();
        let build_id = BuildId::from_hex(text(mapping.build_id));
        let place = match open_regular_at(&name) {
            Ok(file) if has_build_id(&file, build_id.as_ref()) => Place::Here { file, tid: None },
            Ok(_) => {
                let reason = "the file here is of another build".into();
                Place::Elsewhere { build_id, reason }
            }
            Err(error) => {
                let reason = format!("the file is not here: {error}");
                Place::Elsewhere { build_id, reason }
            }
        };
        CodeFile { name, place }
    });
    files.filter(|target| target.name.starts_with('/')).collect()
}

fn has_build_id(file: &File, build_id: Option<&BuildId>) -> bool {
    let own = file.try_clone().and_then(DebugLinks::read).unwrap_or_default().build_id;
    own.as_deref() == build_id.map(BuildId::as_bytes)
}
