//! The licence of each BPF source is the one that `NOTICE.md` promises.

use super::{assert_none, files, read};

/// Returns the paths in backticks of the item of `NOTICE.md` about dual-licensed headers.
fn dual_licensed() -> Vec<String> {
    let notice = read("NOTICE.md");
    let item = notice.split("\n- ").find(|item| item.contains("under either licence"));
    let item = item.expect("NOTICE.md lists the headers that can be used under either licence");
    let item = item.split("\n\n").next().unwrap();
    let quoted = item.split('`').skip(1).step_by(2);
    quoted.filter(|text| text.ends_with(".h")).map(str::to_owned).collect()
}

#[test]
fn bpf_sources_carry_the_licence_that_the_notice_promises() {
    let dual_licensed = dual_licensed();
    let sources = files::below("bpf", &[".c", ".h"]);
    for path in &dual_licensed {
        assert!(sources.iter().any(|file| file.path == *path), "NOTICE.md lists {path}: not there");
    }
    let mut problems = Vec::new();
    for file in &sources {
        let expected = match dual_licensed.contains(&file.path) {
            true => "SPDX-License-Identifier: GPL-2.0 OR Apache-2.0",
            false => "SPDX-License-Identifier: GPL-2.0",
        };
        let first = file.text.lines().next().unwrap_or_default();
        let found = first.trim_matches(['/', '*', ' ']);
        if found != expected {
            problems.push(format!("{}: expected `{expected}`, found `{found}`", file.path));
        }
    }
    assert_none(&problems, "these headers and NOTICE.md differ:");
}
