//! Options that users of `perf record` know.

use clap::Args;

use super::values;

/// Options of `perf record` that ask for what `record` always does. Others are refused with the
/// reason.
#[derive(Debug, Args)]
pub(super) struct PerfArguments {
    /// Stacks are always recorded.
    #[arg(short = 'g', hide = true)]
    pub has_stacks: bool,

    /// Stacks are always unwound by call frame information.
    #[arg(long = "call-graph", value_name = "MODE", hide = true, value_parser = values::call_graph)]
    pub call_graph: Option<String>,

    /// The event is always the clock of each CPU.
    #[arg(short = 'e', long, value_name = "EVENT", hide = true, value_parser = values::event)]
    pub event: Option<String>,
}
