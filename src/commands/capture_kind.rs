//! How a recording takes its samples: by BPF programs, or without capabilities by clocks of own
//! processes.

use anyhow::{Result, bail};

use super::cli::RecordArguments;
use super::load_diagnostics::how_to_get_capabilities;
use crate::host::{Capabilities, TaskAccess};

/// What takes the samples of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CaptureKind {
    /// BPF programs in the ticks of each CPU.
    Machine,
    /// Clocks of the selected tasks, because capabilities are missing.
    Tasks(TaskAccess),
}

impl CaptureKind {
    /// Returns what is possible here.
    ///
    /// # Errors
    /// When nothing is, or not what was asked for: what is missing, and the next steps.
    pub fn of(arguments: &RecordArguments) -> Result<Self> {
        let missing = Capabilities::effective().required_and_missing();
        if missing.is_empty() {
            return Ok(Self::Machine);
        }
        let (missing, how) = (missing.join(" and "), how_to_get_capabilities());
        let access = match TaskAccess::probe() {
            Ok(access) => access,
            Err(error) => bail!(
                "profiling needs {missing}, and without them own processes cannot be profiled \
                 either, because {error}; {how}; or {}",
                error.next_step()
            ),
        };
        match needs_programs(arguments) {
            None => Ok(Self::Tasks(access)),
            Some(Need::WholeMachine) => bail!(
                "profiling the whole machine needs {missing}; {how}; own processes can be profiled \
                 without: select them with -p or -t, or give a COMMAND"
            ),
            Some(Need::Option(option)) => bail!(
                "{option} needs {missing}; {how}; own processes can be profiled without {option}"
            ),
        }
    }

    /// Returns what is possible for own processes; `None` if everything is.
    pub fn access(self) -> Option<TaskAccess> {
        match self {
            Self::Machine => None,
            Self::Tasks(access) => Some(access),
        }
    }
}

/// What only the BPF programs can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    WholeMachine,
    Option(&'static str),
}

/// Returns what the arguments ask for that only the BPF programs can do.
fn needs_programs(arguments: &RecordArguments) -> Option<Need> {
    let RecordArguments { sampling, all, command, .. } = arguments;
    let options = [
        (!arguments.cgroups.is_empty(), "--cgroup"),
        (!arguments.comms.is_empty(), "--comm"),
        (arguments.idle, "--idle"),
        (arguments.no_user, "--no-user"),
        (arguments.tick_limit.is_some(), "--tick-limit"),
    ];
    let is_selected = !sampling.pids.is_empty() || !sampling.tids.is_empty() || !command.is_empty();
    if *all || !is_selected {
        return Some(Need::WholeMachine);
    }
    options.into_iter().find(|(is_given, _)| *is_given).map(|(_, name)| Need::Option(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::cli::parse_record;

    #[test]
    fn selected_tasks_need_no_programs() {
        let check = |arguments: &str, expected| {
            assert_eq!(needs_programs(&parse_record(arguments)), expected, "{arguments}");
        };
        check("-p 1 -t 2 -C 0 --no-kernel -F max --by thread -d 1 make", None);
        check("-t 1", None);
        check("", Some(Need::WholeMachine));
        check("-a make", Some(Need::WholeMachine));
        check("--comm x", Some(Need::WholeMachine));
        check("-p 1 --comm x", Some(Need::Option("--comm")));
        check("--cgroup /x make", Some(Need::Option("--cgroup")));
        check("-p 1 --no-user", Some(Need::Option("--no-user")));
    }
}
