//! Where the code of BPF programs is.

use std::ops::Range;

use libbpf_rs::query::{ProgInfoIter, ProgInfoQueryOptions, ProgramInfo};

/// Programs that are asked about.
const PROGRAMS_MAX: usize = 1 << 14;

/// Returns the addresses of the code of all BPF programs that are loaded, of each function of them;
/// `None` without CAP_SYS_ADMIN: then the caller's own programs are not listed either.
pub fn bpf_code() -> Option<Vec<Range<u64>>> {
    let options =
        ProgInfoQueryOptions::default().include_jited_ksyms(true).include_jited_func_lens(true);
    let programs = ProgInfoIter::with_query_opts(options).take(PROGRAMS_MAX);
    let functions: Vec<Range<u64>> = programs.flat_map(functions).collect();
    (!functions.is_empty()).then_some(functions)
}

fn functions(program: ProgramInfo) -> Vec<Range<u64>> {
    let ProgramInfo { jited_ksyms, jited_func_lens, .. } = program;
    let starts = jited_ksyms.into_iter().map(|start| start.addr() as u64);
    let functions = starts.zip(jited_func_lens);
    let functions = functions.map(|(start, bytes)| start..start.saturating_add(bytes.into()));
    functions.filter(|function| function.start > 0).collect()
}
