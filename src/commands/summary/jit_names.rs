//! How to make the JIT compiler of a process write the names of its code.

use profile::{Pid, Profile};

/// A program with a JIT compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runtime {
    Node,
    Java,
    Python,
    Erlang,
    DotNet,
}

/// Names of processes and of files, without directories, by which a runtime is recognized: they
/// begin so.
const NAMES: [(&str, Runtime); 9] = [
    ("node", Runtime::Node),
    ("libnode.so", Runtime::Node),
    ("java", Runtime::Java),
    ("libjvm.so", Runtime::Java),
    ("python", Runtime::Python),
    ("libpython", Runtime::Python),
    ("beam", Runtime::Erlang),
    ("dotnet", Runtime::DotNet),
    ("libcoreclr.so", Runtime::DotNet),
];

/// Returns how to make a process write the names of its JIT code.
pub(super) fn next_step(profile: &Profile, pid: Pid) -> String {
    match runtime(profile, pid) {
        Some(Runtime::Node) => "start node with --perf-basic-prof".into(),
        Some(Runtime::Java) => {
            format!("run `jcmd {pid} Compiler.perfmap` while it is recorded (JDK 17 or later)")
        }
        Some(Runtime::Python) => "start Python with -X perf (3.12 or later)".into(),
        Some(Runtime::Erlang) => "start Erlang with +JPperf map".into(),
        Some(Runtime::DotNet) => "start it with DOTNET_PerfMapEnabled=1".into(),
        None => "have its compiler write a perf map, /tmp/perf-PID.map, or a jitdump".into(),
    }
}

/// Returns whether a process runs the Java virtual machine.
pub(super) fn is_java(profile: &Profile, pid: Pid) -> bool {
    runtime(profile, pid) == Some(Runtime::Java)
}

/// Returns the runtime of a process: by its name, or by the files that its stacks lead through.
fn runtime(profile: &Profile, pid: Pid) -> Option<Runtime> {
    let of_process = profile.samples.iter().filter(|sample| profile.task_of(sample).pid == pid);
    let frames = of_process.flat_map(|sample| profile.frames_of(sample));
    let files = frames.map(|frame| profile.mapping_of(frame).name.as_str());
    let comms = profile.tasks.iter().filter(|task| task.pid == pid).map(|task| &*task.comm);
    let names = comms.chain(files).map(|path| path.rsplit('/').next().unwrap_or_default());
    let of_name = |name: &str| NAMES.iter().find(|(start, _)| name.starts_with(start));
    names.filter_map(of_name).map(|(_, runtime)| *runtime).next()
}

#[cfg(test)]
mod tests {
    use super::super::example::profile;
    use super::*;

    #[test]
    fn the_step_is_that_of_the_runtime() {
        let mut profile = profile(&[(&["main", "?"], 1)]);
        for (comm, file, expected) in [
            ("node", "/bin/x", "--perf-basic-prof"),
            ("MainThread", "/usr/bin/node", "--perf-basic-prof"),
            ("server", "/opt/jdk/lib/server/libjvm.so", "jcmd 12 Compiler.perfmap"),
            ("python3.12", "/bin/x", "-X perf"),
            ("app", "/opt/libcoreclr.so", "DOTNET_PerfMapEnabled=1"),
            ("app", "/bin/x", "perf-PID.map"),
        ] {
            profile.tasks[0].comm = comm.into();
            profile.mappings[0].name = file.into();
            let step = next_step(&profile, Pid(12));
            assert!(step.contains(expected), "{comm} {file}: {step}");
        }
    }
}
