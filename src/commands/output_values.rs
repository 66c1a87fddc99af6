//! Values of the options that say how outputs are made: their format, and what they show of stacks.

use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use upload::output::{Format, RuntimeFrames, StackRoot};

/// Root frames of stacks.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum RootFrames {
    /// The name of the process.
    Process,
    /// The name of the process, then that of the thread.
    Thread,
    /// The name of the process with its number, as in nginx-12.
    Pid,
    /// The command line of the process, or its name if it exited too soon.
    Cmdline,
}

impl From<RootFrames> for StackRoot {
    fn from(root_frames: RootFrames) -> Self {
        match root_frames {
            RootFrames::Process => Self::Process,
            RootFrames::Thread => Self::Thread,
            RootFrames::Pid => Self::Pid,
            RootFrames::Cmdline => Self::CommandLine,
        }
    }
}

/// What is shown of an interpreter's machinery.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum RuntimeFramesMode {
    /// Leave them out, so that each function is below the one that has called it.
    Hide,
    /// Show them.
    Show,
}

impl From<RuntimeFramesMode> for RuntimeFrames {
    fn from(mode: RuntimeFramesMode) -> Self {
        match mode {
            RuntimeFramesMode::Hide => Self::Hide,
            RuntimeFramesMode::Show => Self::Show,
        }
    }
}

/// Parses `--by` of an export.
pub(super) fn exported_root(text: &str) -> Result<RootFrames, String> {
    match text {
        "process" => Ok(RootFrames::Process),
        _ => Err("the agent adds up the samples of all threads and processes of one name, so \
                  exported stacks start with that name; leave out --by, or use `everytick record \
                  --by`"
            .into()),
    }
}

/// Parses the name of a format, and lists all names in the help and in errors.
pub(super) fn format() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(Format::names())
        .map(|name| Format::from_name(&name).expect("one of the names"))
}
