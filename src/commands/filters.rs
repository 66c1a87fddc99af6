//! Filters on the command line, translated to the form in which the kernel applies them.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use profile::{Cpu, Pid};

use super::cgroups;
use super::cli::{RecordArguments, SamplingArguments};
use super::values::CpuList;
use crate::kernel::abi::{COMM_LEN, CommKey};
use crate::kernel::{CpuSelection, Filters, online_cpus};
use crate::procfs::{start_ticks, thread_group};

/// Returns the filters of `record`.
pub(super) fn filters(arguments: &RecordArguments) -> Result<Filters> {
    let mut filters = Filters {
        processes: processes(&arguments.sampling.pids)?,
        threads: threads(&arguments.sampling.tids)?,
        ..Filters::default()
    };
    for path in &arguments.cgroups {
        filters.cgroups.extend(cgroups::keys_of(path)?);
    }
    for name in &arguments.comms {
        ensure!(
            !name.is_empty() && name.len() < COMM_LEN,
            "--comm {name:?}: names in the kernel have 1 to {} bytes; give what `ps -o comm` shows",
            COMM_LEN - 1
        );
        filters.comms.push(CommKey::new(name));
    }
    Ok(filters)
}

/// Returns each pid with the start time of its process, which distinguishes it from a later process
/// with the same pid.
pub(super) fn processes(pids: &[u32]) -> Result<Vec<(u32, u64)>> {
    let with_start = |pid: &u32| {
        let start = start_ticks(*pid).with_context(|| {
            format!("-p {pid}: there is no process {pid}; `ps -e` lists all processes")
        })?;
        let process = thread_group(*pid).unwrap_or(*pid);
        ensure!(
            process == *pid,
            "-p {pid}: that is a thread of process {process}; use `-t {pid}` for the thread, or \
             `-p {process}` for the process"
        );
        Ok((*pid, start))
    };
    pids.iter().map(with_start).collect()
}

/// Returns each tid with the start time of its thread, as [`processes`] does.
pub(super) fn threads(tids: &[u32]) -> Result<Vec<(u32, u64)>> {
    let with_start = |tid: &u32| {
        let start = start_ticks(*tid).with_context(|| {
            format!("-t {tid}: there is no thread {tid}; `ps -eL` lists all threads")
        })?;
        Ok((*tid, start))
    };
    tids.iter().map(with_start).collect()
}

/// Returns the processes of `-p`, and those that the threads of `-t` are of.
pub(super) fn selected_processes(arguments: &SamplingArguments) -> Vec<Pid> {
    let of_threads = arguments.tids.iter().filter_map(|tid| thread_group(*tid));
    let pids: BTreeSet<u32> = arguments.pids.iter().copied().chain(of_threads).collect();
    pids.into_iter().map(Pid).collect()
}

/// Returns the CPUs of `-C`, all of them if there is none.
pub(super) fn cpus(lists: &[CpuList]) -> Result<CpuSelection> {
    if lists.is_empty() {
        return Ok(CpuSelection::default());
    }
    let online = online_cpus().context("cannot find out which CPUs are online")?;
    let selected: BTreeSet<Cpu> = lists.iter().flat_map(|list| list.0.iter().copied()).collect();
    if let Some(cpu) = selected.iter().find(|cpu| !online.contains(cpu)) {
        let online = format_cpus(online);
        bail!("-C {}: that CPU is not online; online are {online}", cpu.0);
    }
    Ok(CpuSelection::only(selected))
}

/// Formats CPUs as a list such as `0-3,8`. `cpus`: sorted.
pub(super) fn format_cpus(cpus: impl IntoIterator<Item = Cpu>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for Cpu(cpu) in cpus {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let range = |(first, last): &(u32, u32)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.iter().map(range).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_formatted_as_ranges() {
        let format = |cpus: &[u32]| format_cpus(cpus.iter().copied().map(Cpu));
        assert_eq!(format(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
        assert_eq!((format(&[]), format(&[3])), (String::new(), "3".into()));
    }

    #[test]
    fn cpu_that_is_not_online_is_refused() {
        let error = cpus(&[CpuList(vec![Cpu(65_535)])]).expect_err("no such CPU").to_string();
        assert!(error.starts_with("-C 65535: that CPU is not online; online are 0"), "{error}");
    }

    #[test]
    fn thread_is_no_process() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let (keep, kept) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            sender.send(rustix::thread::gettid().as_raw_nonzero().get() as u32).expect("received");
            let _ = kept.recv();
        });
        let (tid, own_pid) = (receiver.recv().expect("sent"), std::process::id());
        let error = processes(&[tid]).expect_err("a thread").to_string();
        let expected = format!("-p {tid}: that is a thread of process {own_pid}; use `-t {tid}`");
        assert!(error.starts_with(&expected), "{error}");
        assert_eq!(threads(&[tid]).expect("a thread").len(), 1);
        let arguments = SamplingArguments {
            frequency: 99,
            duration: None,
            pids: vec![own_pid],
            tids: vec![tid],
            cpus: Vec::new(),
        };
        assert_eq!(selected_processes(&arguments), [Pid(own_pid)]);
        drop(keep);
        thread.join().expect("no panic");
    }
}
