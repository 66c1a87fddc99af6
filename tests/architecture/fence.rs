//! Unsafe code and libbpf occur in `src/kernel` alone.

use super::{CRATES, assert_none, files, read};

const FENCED: [&str; 4] = ["unsafe ", "unsafe{", "libbpf_rs", "libbpf_sys"];

#[test]
fn unsafe_code_and_libbpf_stay_in_the_kernel_module() {
    let sources = files::below_all(&["src", "profile", "unwind", "symbolizer", "upload"], &[".rs"]);
    let outside = sources.iter().filter(|file| !file.path.starts_with("src/kernel/"));
    let problems: Vec<_> = outside
        .flat_map(|file| {
            let code = file.code();
            let found = FENCED.into_iter().filter(move |word| code.contains(word));
            found.map(|word| format!("{} contains `{}`", file.path, word.trim()))
        })
        .collect();
    assert_none(&problems, "move this behind src/kernel:");
}

#[test]
fn crates_forbid_unsafe_code() {
    for directory in CRATES.iter().filter(|directory| **directory != ".") {
        let library = read(&format!("{directory}/src/lib.rs"));
        assert!(
            library.contains("#![forbid(unsafe_code)]"),
            "crate {directory} allows unsafe code"
        );
    }
}
