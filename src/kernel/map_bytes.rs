//! Kernel memory of our BPF maps.

use std::collections::HashMap;

/// Sums the memory of every BPF map that this process holds open, in bytes.
pub fn bpf_map_bytes() -> u64 {
    let entries = std::fs::read_dir("/proc/self/fdinfo").into_iter().flatten().flatten();
    let infos = entries.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    // A map can be open under several descriptors.
    let by_id: HashMap<u64, u64> = infos.filter_map(|info| id_and_bytes(&info)).collect();
    by_id.values().sum()
}

/// Returns the id and memory of the map that a descriptor's `fdinfo` describes.
fn id_and_bytes(info: &str) -> Option<(u64, u64)> {
    let number =
        |key: &str| info.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok());
    info.contains("map_type:").then(|| number("map_id:").zip(number("memlock:"))).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_maps_have_an_id_and_bytes() {
        let map = "pos:\t0\nmap_type:\t2\nmap_id:\t7\nmemlock:\t4096\n";
        assert_eq!(id_and_bytes(map), Some((7, 4096)));
        let program = "pos:\t0\nprog_type:\t7\nprog_id:\t7\nmemlock:\t4096\n";
        assert_eq!(id_and_bytes(program), None);
    }
}
