//! The verifier's cost of each program, which the test suite pins so that growth is noticed.

use std::fmt;

use libbpf_rs::PrintLevel;
use libbpf_rs::skel::OpenSkel;

use super::load::{MoveProbe, open};
use super::{LoadError, SamplerConfig, log};

/// The verifier's figures for one program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierCost {
    /// Name of the program.
    pub program: String,
    /// Instructions visited.
    pub instructions: u64,
    /// States explored.
    pub states: u64,
    /// Bytes of stack by function, as the verifier writes them: `88+40`.
    pub stack: String,
}

impl fmt::Display for VerifierCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { program, instructions, states, stack } = self;
        write!(f, "{program:<15} {instructions:>12} {states:>8}  {stack}")
    }
}

/// Loads the programs once more and returns the verifier's figures for each.
///
/// # Errors
/// [`LoadError`] if the kernel refuses them.
pub fn verifier_costs(config: &SamplerConfig) -> Result<Vec<VerifierCost>, LoadError> {
    const STATISTICS: u32 = 4;
    let (loaded, log) = log::with_messages(PrintLevel::Debug, || {
        let mut skeleton = open(config, MoveProbe::Tracepoint)?;
        skeleton.progs.sample.set_log_level(STATISTICS);
        skeleton.progs.sample_tailcall.set_log_level(STATISTICS);
        skeleton.progs.unwind_tailcall.set_log_level(STATISTICS);
        skeleton.progs.follow_fork.set_log_level(STATISTICS);
        skeleton.progs.follow_exec.set_log_level(STATISTICS);
        skeleton.progs.follow_free.set_log_level(STATISTICS);
        skeleton.progs.memory_fork.set_log_level(STATISTICS);
        skeleton.progs.memory_exec.set_log_level(STATISTICS);
        skeleton.progs.memory_exit.set_log_level(STATISTICS);
        skeleton.progs.memory_write.set_log_level(STATISTICS);
        skeleton.load().map(drop)
    });
    match loaded {
        Ok(()) => Ok(parse(&log)),
        Err(source) => Err(LoadError::Bpf { source, log }),
    }
}

fn parse(log: &str) -> Vec<VerifierCost> {
    let mut costs = Vec::new();
    let (mut program, mut stack) = (String::new(), String::new());
    for line in log.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after =
            |word| words.iter().position(|w| *w == word).and_then(|at| words.get(at + 1)).copied();
        if line.contains("BEGIN PROG LOAD LOG") {
            program = after("prog").unwrap_or_default().trim_matches(['\'', ':']).to_owned();
        } else if line.starts_with("stack depth") {
            stack = after("depth").unwrap_or_default().to_owned();
        } else if line.starts_with("processed") {
            let number = |word| after(word).and_then(|n| n.parse().ok()).unwrap_or(0);
            costs.push(VerifierCost {
                program: program.clone(),
                instructions: number("processed"),
                states: number("total_states"),
                stack: stack.clone(),
            });
        }
    }
    costs
}
