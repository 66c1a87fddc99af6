//! `/proc/PID/fdinfo/FD` of BPF maps: bpf_map_show_fdinfo in the kernel's `kernel/bpf/syscall.c`.

use std::collections::HashMap;

/// Sums the memory of the BPF maps among open files, in bytes. `files`: the text of each file.
/// A map can be open under several descriptors and counts once.
pub fn bpf_map_bytes(files: impl Iterator<Item = String>) -> u64 {
    let bytes_by_id: HashMap<u64, u64> = files.filter_map(|text| parse_bpf_map(&text)).collect();
    bytes_by_id.into_values().fold(0, u64::saturating_add)
}

/// Parses the id and the bytes of a map; `None` for any other file.
fn parse_bpf_map(text: &str) -> Option<(u64, u64)> {
    let field = |name| text.lines().find_map(|line| line.strip_prefix(name));
    let number = |name| field(name)?.trim().parse().ok();
    field("map_type:")?;
    Some((number("map_id:")?, number("memlock:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_map_counts_once_and_other_files_do_not() {
        let map = |id, bytes| format!("pos:\t0\nmap_type:\t1\nmemlock:\t{bytes}\nmap_id:\t{id}\n");
        let others = ["pos:\t0\n", "prog_type:\t1\nmemlock:\t9\n", "map_type:\t1\nmap_id:\tx\n"];
        let files = [map(1, 100), map(1, 100), map(2, 30)].into_iter();
        assert_eq!(bpf_map_bytes(files.chain(others.map(str::to_owned))), 130);
    }
}
