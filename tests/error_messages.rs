//! What cannot be done is refused in one sentence with the next step, and leaves nothing behind.
#![allow(clippy::unwrap_used)]

mod common;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use common::{alone, compile, directory, everytick};

/// Runs `everytick` with these arguments in an empty directory, and checks that it refuses
/// with exactly this text, leaving the directory empty.
fn check(arguments: &[&str], status: i32, expected: &str) {
    let _alone = alone();
    let place = directory();
    let output = everytick().args(arguments).current_dir(place.path()).output().unwrap();
    refused(&output, status, expected);
    assert_eq!(place.path().read_dir().unwrap().count(), 0, "{arguments:?} left files");
}

fn refused(output: &Output, status: i32, expected: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    assert!(stderr.contains(expected), "{stderr:?} does not say {expected:?}");
    let usage = stderr.contains("For more information, try '--help'"); // clap says more than a line
    assert!(usage || stderr.trim_end().lines().count() == 1, "more than a sentence: {stderr}");
}

#[test]
fn a_process_that_does_not_exist() {
    let expected = "everytick: there is no process 4194303; `ps -e` lists those that run";
    check(&["record", "-p", "4194303"], 1, expected);
}

#[test]
fn a_frequency_of_zero() {
    check(&["record", "-F", "0"], 2, "invalid value '0' for '--frequency <HZ>'");
}

#[test]
fn a_frequency_that_the_kernel_does_not_allow() {
    let limit = fs::read_to_string("/proc/sys/kernel/perf_event_max_sample_rate").unwrap();
    let expected =
        format!("-F 1000000: this kernel allows at most {} Hz; ask for less", limit.trim());
    check(&["record", "-F", "1000000"], 1, &expected);
}

#[test]
fn a_duration_that_is_none() {
    check(&["record", "-d", "-1"], 2, "give a number of seconds above 0");
    check(&["record", "-d", "soon"], 2, "give a number of seconds above 0");
}

#[test]
fn a_file_name_without_a_known_ending() {
    check(
        &["record", "-o", "x.txt"],
        1,
        "x.txt: the name must end in one of .svg, .pb.gz, .folded",
    );
}

#[test]
fn a_directory_that_does_not_exist_or_takes_no_files() {
    check(
        &["record", "-o", "/nowhere/x.svg"],
        1,
        "cannot write to the directory /nowhere: No such file",
    );
    check(&["record", "-o", "/proc/x.svg"], 1, "cannot write to the directory /proc: ");
}

#[test]
fn one_bad_file_among_good_ones_stops_it_before_it_starts() {
    check(
        &["record", "-d", "9", "-o", "good.svg", "-o", "bad"],
        1,
        "bad: the name must end in one of",
    );
}

#[test]
fn a_cgroup_that_is_none() {
    check(
        &["record", "--cgroup", "/no/such"],
        1,
        "/no/such is no cgroup; give a directory below /",
    );
    check(&["record", "--cgroup", "/tmp"], 1, "/tmp is no cgroup");
}

#[test]
fn a_name_that_the_kernel_cannot_have() {
    check(
        &["record", "--comm", "longer-than-15-bytes"],
        1,
        "the kernel keeps 1 to 15 bytes of a name",
    );
}

#[test]
fn leaving_out_everything() {
    check(&["record", "--no-kernel", "--no-user"], 2, "cannot be used with");
}

#[test]
fn an_unknown_flag_or_command() {
    check(&["record", "--frequncy", "9"], 2, "a similar argument exists: '--frequency'");
    check(&["recrod"], 2, "a similar subcommand exists: 'record'");
}

/// A copy of the program that every user may run.
fn public_copy(place: &common::TempDir) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let copy = place.path().join("everytick");
    fs::copy(env!("CARGO_BIN_EXE_everytick"), &copy).unwrap();
    for path in [place.path(), &copy] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    copy
}

#[test]
fn without_privileges() {
    let _alone = alone();
    let place = directory();
    let copy = public_copy(&place);
    let nobody =
        ["--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all", "--"];
    let run = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(nobody).arg(&copy).args(arguments).current_dir("/tmp").output().unwrap()
    };
    let output = run(&["record", "-d", "1", "-o", "/tmp/everytick-nobody.svg"]);
    refused(
        &output,
        1,
        "profiling needs CAP_BPF and CAP_PERFMON; run it as root, as in `sudo everytick record`",
    );
    assert!(!PathBuf::from("/tmp/everytick-nobody.svg").exists());

    let doctor = run(&["doctor"]);
    let text = String::from_utf8(doctor.stdout).unwrap();
    assert_eq!(doctor.status.code(), Some(1), "{text}");
    assert!(text.contains("FAILS  capabilities     CAP_BPF and CAP_PERFMON missing\n"), "{text}");
    assert!(text.ends_with("`everytick record` cannot run here.\n"), "{text}");
}

#[test]
fn where_seccomp_denies_bpf() {
    let _alone = alone();
    let place = directory();
    let deny = compile("deny_bpf.c", place.path(), "deny_bpf");
    let output = Command::new(&deny)
        .arg(env!("CARGO_BIN_EXE_everytick"))
        .args(["record", "-d", "1", "-o"])
        .arg(place.path().join("x.svg"))
        .output()
        .unwrap();
    refused(
        &output,
        1,
        "the kernel denies bpf(2) although we have the capabilities; a seccomp profile",
    );
    assert!(!place.path().join("x.svg").exists());

    let doctor =
        Command::new(&deny).arg(env!("CARGO_BIN_EXE_everytick")).arg("doctor").output().unwrap();
    assert_eq!(doctor.status.code(), Some(1));
}

#[test]
fn doctor_says_that_record_works_where_it_works() {
    let _alone = alone();
    let output = everytick().arg("doctor").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.ends_with("`everytick record` works here.\n"), "{text}");
    assert!(!text.contains("FAILS"), "{text}");
}

#[test]
fn version_and_help_are_on_standard_output() {
    for (flag, expected) in
        [("--version", "everytick 0.1.0"), ("--help", "Examples:\n  everytick record ")]
    {
        let output = everytick().arg(flag).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains(expected), "{text}");
    }
}
