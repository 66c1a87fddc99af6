//! `everytick debuginfo`: where the names and lines of files come from, which paths were searched
//! for debug info, and what to install.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use profile::{BuildId, error_chain, printable};
use symbolizer::NameSource;
use symbolizer::proto::FileRole;

use super::code_file::{CodeFile, Place, write_field};
use super::examples::DEBUGINFO_EXAMPLES;
use super::terminal::line;
use crate::host::{debug_package, packages_of};
use crate::processes::{DebugFileSearch, SearchOutcome, SearchedPath};

/// Arguments of `debuginfo`.
#[derive(Debug, Args)]
#[command(after_help = DEBUGINFO_EXAMPLES)]
pub(super) struct DebuginfoArguments {
    /// An ELF file, a process by its ID, or a profile in the format of pprof.
    #[arg(required = true, value_name = "FILE|PID|PROFILE")]
    pub targets: Vec<String>,
}

/// Prints a paragraph per file. Returns failure if a target cannot be read.
pub(super) fn run(arguments: &DebuginfoArguments) -> Result<ExitCode> {
    let mut has_failed = false;
    let mut out = io::BufWriter::new(io::stdout().lock());
    for text in &arguments.targets {
        match CodeFile::read(text) {
            Ok(targets) => {
                for target in targets {
                    describe(&target, &mut out)?;
                }
            }
            Err(error) => {
                has_failed = true;
                let cause = error_chain(error.as_ref());
                line(&format!("everytick: {}: {}", printable(text), printable(&cause)));
            }
        }
    }
    out.flush()?;
    Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn describe(target: &CodeFile, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", printable(&target.name))?;
    let (search, own_sources) = match &target.place {
        Place::Here { file, tid } => {
            let opened = file.try_clone().and_then(|own| match tid {
                Some(tid) => DebugFileSearch::of_mapping(*tid, own, &target.name),
                None => DebugFileSearch::of_file(own, &target.name),
            });
            match opened.and_then(|search| Ok((search, NameSource::of(file.try_clone()?)?))) {
                Ok(found) => found,
                Err(error) => {
                    return write_field(out, "problem", &format!("cannot read it: {error}"));
                }
            }
        }
        Place::Elsewhere { build_id, reason } => {
            write_field(out, "problem", reason)?;
            match build_id {
                Some(build_id) => (DebugFileSearch::of_build_id(build_id), Vec::new()),
                None => return Ok(()),
            }
        }
    };
    let build_id = search.links.build_id.as_deref().and_then(BuildId::new);
    let text = build_id.as_ref().map_or("none".into(), BuildId::to_string);
    write_field(out, "build ID", &text)?;
    let of_debug_file = sources_of(&search, FileRole::Debug);
    let sources: Vec<NameSource> = own_sources.iter().chain(&of_debug_file).copied().collect();
    write_field(out, "itself has", &list(&own_sources))?;
    for path in &search.paths {
        let root = if path.is_in_process { " (root of the process)" } else { "" };
        let path_text = printable(&path.path);
        write_field(
            out,
            "looked at",
            &format!("{path_text}{root}: {}", outcome_text(path, &search)),
        )?;
    }
    write_field(out, "result", result_text(&sources))?;
    match next_step(target, &sources, build_id.as_ref()) {
        Some(step) => write_field(out, "next step", &step),
        None => Ok(()),
    }
}

fn list(sources: &[NameSource]) -> String {
    let names: Vec<&str> = sources.iter().map(|source| source.name()).collect();
    if names.is_empty() { "no names".into() } else { names.join(", ") }
}

/// Returns what the file that was found in a role has.
fn sources_of(search: &DebugFileSearch, role: FileRole) -> Vec<NameSource> {
    let file = search.found.iter().find(|(of, _)| *of == role).map(|(_, file)| file.try_clone());
    let sources = file.and_then(Result::ok).and_then(|file| NameSource::of(file).ok());
    sources.unwrap_or_default()
}

fn outcome_text(path: &SearchedPath, search: &DebugFileSearch) -> String {
    match path.outcome {
        SearchOutcome::Found(FileRole::Supplementary) => "what dwz has put aside".into(),
        SearchOutcome::Found(FileRole::Package) => "the package of split units".into(),
        SearchOutcome::Found(role) => list(&sources_of(search, role)),
        SearchOutcome::Missing => "nothing".into(),
        SearchOutcome::Executable => "the file itself".into(),
        SearchOutcome::Unreadable => "no file that can be read".into(),
        SearchOutcome::OtherUser => "of another user, not used".into(),
        SearchOutcome::OtherFileSystem => "on another file system, not used".into(),
        SearchOutcome::OtherBuild => "of another build, not used".into(),
    }
}

fn result_text(sources: &[NameSource]) -> &'static str {
    let has_lines = sources.iter().any(|source| source.has_lines());
    let has_functions = sources.iter().any(|source| source.has_local_functions());
    match (has_lines, has_functions, sources.is_empty()) {
        (true, _, _) => "functions, inlined functions and lines",
        (_, true, _) => "functions, no lines",
        (_, _, false) => "exported functions alone",
        (_, _, true) => "no names",
    }
}

/// Returns the next step for a file without lines; `None` if it has them.
fn next_step(
    target: &CodeFile,
    sources: &[NameSource],
    build_id: Option<&BuildId>,
) -> Option<String> {
    if sources.iter().any(|source| source.has_lines()) {
        return None;
    }
    let Some(build_id) = build_id else {
        return Some("compile it with -g, or give it a build ID (-Wl,--build-id)".into());
    };
    let package = packages_of(Path::new("/"), &[&target.name]).pop().flatten();
    Some(match package.filter(|_| target.is_of_host()) {
        Some(package) => format!("install {}", debug_package(&package)),
        None => {
            let path = build_id.debug_file();
            format!("put its debug info at {}, or compile it with -g", path.display())
        }
    })
}
