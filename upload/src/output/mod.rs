//! Outputs of `record` and of the agent's export, in the formats of [`Format`].
//!
//! An [`OutputFile`] is checked when it is created, before profiling starts, and written once. A
//! file appears whole or not at all: it is written to a temporary file beside it, then renamed.

mod error;
mod firefox;
mod flamegraph;
mod folded;
mod format;
mod named_frame;
mod perf_script;
mod runtime_frames;
mod speedscope;
mod target;

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use profile::pprof::{self, SampleUnit};
use profile::{CaptureContext, Profile, pprof::proto as pb};

pub use error::OutputError;
pub use flamegraph::Direction;
pub use folded::{StackRoot, folded};
pub use format::Format;
pub use runtime_frames::RuntimeFrames;
use target::Target;
pub use target::{check_writable, replace};

/// How outputs are made.
#[derive(Clone, Copy, Debug, Default)]
pub struct OutputOptions {
    /// The format; `None` if the extension selects it.
    pub format: Option<Format>,
    /// The outermost frames of stacks written as text.
    pub root: StackRoot,
    /// Which way the calls of a flame graph go.
    pub direction: Direction,
    /// What is shown of an interpreter's machinery.
    pub runtime_frames: RuntimeFrames,
}

/// A file to be written, or standard output.
#[derive(Clone, Debug)]
pub struct OutputFile {
    /// As the caller chose it.
    path: PathBuf,
    target: Target,
    format: Format,
    root: StackRoot,
    direction: Direction,
    runtime_frames: RuntimeFrames,
}

impl OutputFile {
    /// Checks that the file can be written, without touching an existing one. `path`: `-` is
    /// standard output.
    ///
    /// # Errors
    /// [`OutputError`] for an unknown extension or a directory that is not writable.
    pub fn new(path: PathBuf, options: OutputOptions) -> Result<Self, OutputError> {
        let target = Target::of(&path);
        let format = match options.format.or_else(|| Format::from_path(&path)) {
            Some(format) => format,
            None if target == Target::Stdout => return Err(OutputError::StdoutFormat),
            None => return Err(OutputError::Extension { path }),
        };
        target.check(format.is_binary())?;
        let OutputOptions { root, direction, runtime_frames, .. } = options;
        Ok(Self { path, target, format, root, direction, runtime_frames })
    }

    /// Checks several files; see [`OutputFile::new`].
    ///
    /// # Errors
    /// [`OutputError`] of the first that cannot be written, or is given twice.
    pub fn all(paths: Vec<PathBuf>, options: OutputOptions) -> Result<Vec<Self>, OutputError> {
        let mut files: Vec<Self> = Vec::new();
        for path in paths {
            let file = Self::new(path, options)?;
            let identity = file.target.identity();
            if files.iter().any(|other| other.target.identity() == identity) {
                return Err(OutputError::Twice { path: file.path });
            }
            files.push(file);
        }
        Ok(files)
    }

    /// Returns the path of the file as the caller chose it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the name of the output for people.
    pub fn name(&self) -> String {
        match self.target {
            Target::Stdout => "standard output".into(),
            _ => self.path.display().to_string(),
        }
    }

    /// Returns whether the output goes to standard output.
    pub fn is_stdout(&self) -> bool {
        self.target == Target::Stdout
    }

    /// Returns the format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Checks that the file can be made of a profile without the times of its samples.
    ///
    /// # Errors
    /// [`OutputError::NoTimes`] if its format needs them.
    pub fn check_without_times(&self) -> Result<(), OutputError> {
        match self.format.needs_times() {
            true => Err(OutputError::NoTimes { path: self.path.clone() }),
            false => Ok(()),
        }
    }

    /// Writes a profile.
    ///
    /// # Errors
    /// [`OutputError`]; an existing file is unchanged.
    pub fn write(&self, profile: &Profile) -> Result<(), OutputError> {
        self.target.replace(&self.path, |out: &mut dyn Write| {
            self.encode(profile, SampleUnit::Samples, out)
        })
    }

    /// Writes a pprof message, converted to the format of the file.
    ///
    /// # Errors
    /// [`OutputError`], also for a malformed message; an existing file is unchanged.
    pub fn write_message(&self, message: &pb::Profile) -> Result<(), OutputError> {
        if self.format == Format::Pprof {
            let bytes = pprof::compress_file(&pprof::for_viewers(message));
            return self.target.replace(&self.path, |out: &mut dyn Write| {
                out.write_all(&bytes).map_err(|source| self.failed(source))
            });
        }
        let unit = SampleUnit::of(message);
        let profile = pprof::from_message(message, unit)
            .map_err(|source| OutputError::Message { path: self.path.clone(), source })?;
        self.target.replace(&self.path, |out: &mut dyn Write| self.encode(&profile, unit, out))
    }

    fn failed(&self, source: io::Error) -> OutputError {
        OutputError::Write { path: self.path.clone(), source }
    }

    fn encode(
        &self,
        profile: &Profile,
        unit: SampleUnit,
        out: &mut dyn Write,
    ) -> Result<(), OutputError> {
        let draw = |source| OutputError::Draw { path: self.path.clone(), source };
        let shown = match self.format {
            Format::Pprof => Cow::Borrowed(profile),
            _ => self.runtime_frames.of(profile),
        };
        let profile = &*shown;
        let written = match self.format {
            Format::Pprof => out.write_all(&pprof::encode(profile)),
            Format::Folded => out.write_all(folded(profile, self.root).as_bytes()),
            Format::Svg => {
                let svg =
                    flamegraph::draw(profile, self.root, self.direction, unit).map_err(draw)?;
                out.write_all(&svg)
            }
            Format::Speedscope => speedscope::write(profile, self.root, &title(profile), out),
            Format::Perf if unit != SampleUnit::Samples => {
                return Err(OutputError::Periods { path: self.path.clone() });
            }
            Format::Perf => perf_script::write(profile, out),
            Format::Firefox => match &profile.timeline {
                Some(timeline) => firefox::write(profile, timeline, &title(profile), out),
                None => return Err(OutputError::NoTimes { path: self.path.clone() }),
            },
        };
        written.map_err(|source| self.failed(source))
    }
}

/// Returns what a profile is called in viewers.
fn title(profile: &Profile) -> String {
    let context = profile.comments.iter().find_map(|comment| CaptureContext::parse(comment));
    match context {
        Some(CaptureContext { host, scope, .. }) => format!("CPU time on {host}: {scope}"),
        None => "CPU time by stack".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;
    use profile::{Cpu, SampleId, SampleTimes, TimedSample, Timeline};

    use super::*;

    fn error_for(path: &str) -> String {
        let options = OutputOptions::default();
        OutputFile::new(path.into(), options).expect_err("not writable").to_string()
    }

    #[test]
    fn an_unknown_extension_is_an_error() {
        let advice = "the name must end in one of .svg, .pb.gz, .folded, .speedscope.json, .perf, \
                      .firefox.json.gz; or choose with --format";
        assert_eq!(error_for("x.txt"), format!("x.txt: {advice}"));
        assert_eq!(error_for(".svg"), format!(".svg: {advice}"));
    }

    #[test]
    fn standard_output_needs_a_format() {
        assert!(error_for("-").starts_with("-o - needs a format; add --format with one of svg,"));
        let options = OutputOptions { format: Some(Format::Folded), ..OutputOptions::default() };
        let output = OutputFile::new("-".into(), options).expect("text");
        assert!(output.is_stdout());
    }

    #[test]
    fn a_format_is_for_any_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let options = OutputOptions { format: Some(Format::Folded), ..OutputOptions::default() };
        let output = OutputFile::new(dir.path().join("x.svg"), options).expect("writable");
        output.write(&folded::tests::example()).expect("written");
        let text = std::fs::read_to_string(output.path()).expect("text");
        assert!(text.starts_with("p:q;"), "{text}");
    }

    #[test]
    fn a_file_given_twice_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let all = |names: &[&str]| {
            let paths = names.iter().map(|name| dir.path().join(name)).collect();
            OutputFile::all(paths, OutputOptions::default()).map(|files| files.len())
        };
        assert_eq!(all(&["x.svg", "x.folded"]).ok(), Some(2));
        let error = all(&["x.svg", "./x.svg"]).expect_err("one file");
        assert!(error.to_string().ends_with("x.svg is given twice; give each file once"));
        std::os::unix::fs::symlink(dir.path().join("x.svg"), dir.path().join("y.svg"))
            .expect("a link");
        std::fs::write(dir.path().join("x.svg"), "").expect("written");
        all(&["x.svg", "y.svg"]).expect_err("a link to the same file");
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        assert_eq!(
            error_for("/nowhere/x.svg"),
            "cannot write to the directory /nowhere: No such file or directory (os error 2); \
             choose another directory"
        );
    }

    #[test]
    fn checking_leaves_no_file_and_writing_leaves_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let options = OutputOptions::default();
        let output = OutputFile::new(dir.path().join("x.folded"), options).expect("writable");
        let names = || std::fs::read_dir(dir.path()).expect("readable").count();
        assert_eq!(names(), 0);
        output.write(&Profile::default()).expect("written");
        assert_eq!(names(), 1);
    }

    #[test]
    fn machinery_is_hidden_in_all_formats_but_pprof() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut times = SampleTimes::new(1 << 10);
        times.add(TimedSample { time_ns: 1, cpu: Cpu(0), sample: SampleId(0) });
        let timeline = Some(Timeline { start_ns: 0, times });
        let profile = Profile { timeline, ..runtime_frames::tests::python_example() };
        for format in Format::names().map(|name| Format::from_name(name).expect("a format")) {
            let text = |runtime_frames| {
                let options =
                    OutputOptions { format: Some(format), runtime_frames, ..Default::default() };
                let output = OutputFile::new(dir.path().join("x"), options).expect("writable");
                output.write(&profile).expect("written");
                let bytes = std::fs::read(output.path()).expect("readable");
                let mut text = Vec::new();
                let unpacked = GzDecoder::new(&bytes[..]).read_to_end(&mut text);
                let text = if unpacked.is_ok() { text } else { bytes };
                String::from_utf8_lossy(&text).into_owned()
            };
            let [hidden, shown] = [RuntimeFrames::Hide, RuntimeFrames::Show].map(text);
            assert!(shown.contains("run_eval"), "{format:?}: {shown}");
            let is_pprof = format == Format::Pprof;
            assert_eq!(hidden.contains("run_eval"), is_pprof, "{format:?}");
            // XML escapes nothing of it, and pprof has the parts.
            let name = if is_pprof { "App.work" } else { "App.work (app.py:5)" };
            assert!(hidden.contains(name) && hidden.contains("encode"), "{format:?}: {hidden}");
        }
    }

    #[test]
    fn a_message_is_written_like_its_profile() {
        let dir = tempfile::tempdir().expect("a directory");
        for profile in [folded::tests::example(), runtime_frames::tests::python_example()] {
            let message = pprof::to_message(&profile, pprof::SampleGrouping::ByThread);
            let options = OutputOptions { root: StackRoot::Thread, ..OutputOptions::default() };
            for name in ["x.folded", "x.svg", "x.pb.gz"] {
                let bytes_of = |write: &dyn Fn(&OutputFile) -> Result<(), OutputError>| {
                    let output = OutputFile::new(dir.path().join(name), options).expect("writable");
                    write(&output).expect("written");
                    std::fs::read(output.path()).expect("readable")
                };
                let from_profile = bytes_of(&|output| output.write(&profile));
                assert!(
                    from_profile == bytes_of(&|output| output.write_message(&message)),
                    "{name}"
                );
            }
        }
    }
}
