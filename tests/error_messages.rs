//! Errors are one sentence with the next step, and leave no files.
#![allow(clippy::unwrap_used)]

mod common;
use std::fs;
use std::process::{Command, Output};

use common::user::User;
use common::{alone, compile, directory, everytick};

/// Runs `everytick` with these arguments in an empty directory, and checks that it fails with this
/// status and text, leaving the directory empty.
fn check(arguments: &[&str], status: i32, expected: &str) {
    let _alone = alone();
    let empty = directory();
    let output = everytick().args(arguments).current_dir(empty.path()).output().unwrap();
    assert_error(&output, status, expected);
    assert_eq!(empty.path().read_dir().unwrap().count(), 0, "{arguments:?} left files");
}

fn assert_error(output: &Output, status: i32, expected: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    assert!(stderr.contains(expected), "{stderr:?} lacks {expected:?}");
    for cause in stderr.split([':', ';']).map(str::trim).filter(|cause| cause.contains(' ')) {
        assert_eq!(stderr.matches(cause).count(), 1, "{cause:?} is said twice: {stderr}");
    }
    let usage = stderr.contains("For more information, try '--help'"); // clap adds lines of its own
    assert!(usage || stderr.trim_end().lines().count() == 1, "more than one line: {stderr}");
}

#[test]
fn process_does_not_exist() {
    let expected = "-p 4194303: there is no process 4194303; `ps -e` lists all processes";
    check(&["record", "-p", "4194303"], 1, expected);
    let expected = "-t 4194303: there is no thread 4194303; `ps -eL` lists all threads";
    check(&["record", "-t", "4194303"], 1, expected);
}

#[test]
fn frequency_is_zero() {
    let expected = "invalid value '0' for '--frequency <HZ>': give a whole number of Hz above 0";
    check(&["record", "-F", "0"], 2, expected);
}

#[test]
fn frequency_is_above_the_kernels_limit() {
    let limit = fs::read_to_string("/proc/sys/kernel/perf_event_max_sample_rate").unwrap();
    let expected = format!(
        "cannot sample at 1000000 Hz: this kernel allows at most {}; lower the frequency",
        limit.trim()
    );
    check(&["record", "-F", "1000000"], 1, &expected);
}

#[test]
fn duration_is_invalid() {
    let expected = "invalid value '-1' for '--duration <TIME>': give a duration, as in \"10s\"";
    check(&["record", "-d", "-1"], 2, expected);
    check(&["record", "-d", "soon"], 2, "give a duration, as in \"10s\", \"500ms\" or \"12m30s\"");
    check(&["record", "-d", "0"], 2, "give a duration of 1ms to 11574d");
    check(&["record", "-d", "10x"], 2, "give a number and one of the units ms, s, m, h, d");
}

#[test]
fn process_is_given_by_its_name() {
    let expected = "invalid value 'busy' for '--pid <PID>': not a process ID; to select processes \
                    by name use `--comm busy`";
    check(&["record", "-p", "busy"], 2, expected);
    check(&["record", "-p", "1,busy"], 2, expected);
    check(&["record", "-p", "1,"], 2, "invalid value '' for '--pid <PID>': give process IDs");
    check(&["record", "-p", "-1"], 2, "invalid value '-1' for '--pid <PID>': give process IDs");
    check(&["record", "-t", "busy"], 2, "for '--tid <TID>': not a thread ID; to select threads");
}

#[test]
fn cpus_are_invalid_or_offline() {
    for cpus in ["x", "3-1", "0,", "0-4294967295"] {
        check(
            &["record", "-C", cpus],
            2,
            "for '--cpu <CPUS>': give a list of CPUs, as in 0 or 0,2-3",
        );
    }
    check(&["record", "-C", "60000"], 1, "-C 60000: that CPU is not online; online are 0");
}

#[test]
fn options_of_perf_that_differ_are_refused_with_the_reason() {
    check(
        &["record", "-e", "cycles"],
        2,
        "invalid value 'cycles' for '--event <EVENT>': everytick samples the time that CPUs spend",
    );
    check(&["record", "--call-graph", "fp"], 2, "stacks are always unwound by call frame");
    check(&["record", "-a", "-p", "1"], 2, "'--all-cpus' cannot be used with '--pid <PID>'");
    check(&["record", "-c", "1000"], 2, "tip: the clock is set by its frequency: use -F HZ");
    check(&["-p", "1"], 2, "tip: use it as `everytick record -p`");
}

#[test]
fn sizes_lack_a_unit() {
    check(&["record", "--ring-size", "16"], 2, "for '--ring-size <SIZE>': add a unit");
    check(&["record", "--unwind-memory", "2TiB"], 2, "give 1MiB to 1GiB");
}

#[test]
fn exports_have_no_threads() {
    let export = ["agent", "--export", "-5m..", "-o", "x.svg", "--by", "thread"];
    check(&export, 2, "invalid value 'thread' for '--by <BY>': the agent adds up the samples");
}

#[test]
fn output_has_an_unknown_extension() {
    let expected = "x.txt: the name must end in one of .svg, .pb.gz, .folded, .speedscope.json, \
                    .perf, .firefox.json.gz; or choose with --format";
    check(&["record", "-o", "x.txt"], 1, expected);
}

#[test]
fn outputs_are_refused_before_anything_is_profiled() {
    check(&["record", "-o", "-"], 1, "-o - needs a format; add --format with one of svg, pprof,");
    check(&["record", "-o", "x.svg", "-o", "./x.svg"], 1, "./x.svg is given twice; give each");
    check(&["record", "--format", "text"], 2, "[possible values: svg, pprof, folded, speedscope,");
    let export =
        ["agent", "--export", "-5m..now", "-o", "x.firefox.json.gz", "--store", "/nowhere"];
    check(&export, 1, "x.firefox.json.gz: this format shows when samples were taken,");
}

#[test]
fn output_directory_is_missing_or_not_writable() {
    check(
        &["record", "-o", "/nowhere/x.svg"],
        1,
        "cannot write to the directory /nowhere: No such file",
    );
    check(&["record", "-o", "/proc/x.svg"], 1, "cannot write to the directory /proc: ");
}

#[test]
fn errors_of_unwind_and_agent_say_each_cause_once() {
    check(&["unwind", "/nowhere/x"], 1, "everytick: /nowhere/x: ");
    check(&["agent", "--config", "/nowhere.toml"], 1, "/nowhere.toml: no such file");
    let export = ["agent", "--export", "-5m..now", "-o", "x.svg", "--store", "/nowhere"];
    check(&export, 1, "cannot read the store /nowhere: No such file");
}

#[test]
fn one_bad_output_among_good_ones_fails_at_the_start() {
    check(
        &["record", "-d", "9", "-o", "good.svg", "-o", "bad"],
        1,
        "bad: the name must end in one of",
    );
}

#[test]
fn cgroup_does_not_exist() {
    check(
        &["record", "--cgroup", "/no/such"],
        1,
        "/no/such is not a cgroup; give a directory below /",
    );
    check(&["record", "--cgroup", "/tmp"], 1, "/tmp is not a cgroup");
}

#[test]
fn comm_is_too_long() {
    check(
        &["record", "--comm", "longer-than-15-bytes"],
        1,
        "names in the kernel have 1 to 15 bytes",
    );
}

#[test]
fn kernel_and_user_frames_are_both_left_out() {
    check(&["record", "--no-kernel", "--no-user"], 2, "cannot be used with");
}

#[test]
fn flag_or_command_is_unknown() {
    check(&["record", "--frequncy", "9"], 2, "a similar argument exists: '--frequency'");
    check(&["recrod"], 2, "a similar subcommand exists: 'record'");
}

#[test]
fn capabilities_are_missing() {
    let _alone = alone();
    let user = User::new();
    let output = user.everytick().args(["record", "-d", "1", "-o", "x.svg"]).output().unwrap();
    assert_error(
        &output,
        1,
        "profiling the whole machine needs CAP_BPF and CAP_PERFMON; run it as root, as in `sudo \
         everytick record`",
    );
    assert!(!user.path().join("x.svg").exists());
    let setcap = format!(
        "`sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search,cap_syslog+ep {}`",
        user.program().display()
    );
    assert!(String::from_utf8_lossy(&output.stderr).contains(&setcap));

    let doctor = user.everytick().arg("doctor").output().unwrap();
    let text = String::from_utf8(doctor.stdout).unwrap();
    assert_eq!(doctor.status.code(), Some(1), "{text}");
    for name in ["CAP_BPF", "CAP_PERFMON"] {
        assert!(text.contains(&format!("FAIL  capabilities    {name} missing, and ")), "{text}");
    }
    assert!(text.contains("warn  capabilities    CAP_SYS_PTRACE missing: "), "{text}");
    let own = "\nok    own processes   user code: ";
    assert!(text.contains(own) && !text.contains("user code: 0 samples"), "{text}");
    let works = "`everytick record` profiles own processes here, without kernel code: with -p,";
    assert!(text.contains(works), "{text}");
}

#[test]
fn user_profiles_by_the_capabilities_of_the_program() {
    let _alone = alone();
    let user = User::new();
    let capabilities = "cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search,cap_syslog+ep";
    common::succeed(Command::new("setcap").arg(capabilities).arg(user.program()));
    let program = common::Running::start(&user.compile("chain.c", "others"));
    let record = ["record", "-d", "1", "-F", "199", "-o", "x.folded", "-p", &program.pid()];
    let output = user.everytick().args(record).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let folded = fs::read_to_string(user.path().join("x.folded")).unwrap();
    assert!(folded.contains("others;_start;") && folded.contains(";main;a;b;c;spin "), "{folded}");
}

#[test]
fn seccomp_denies_bpf() {
    let _alone = alone();
    let place = directory();
    let deny = compile("deny_bpf.c", place.path(), "deny_bpf");
    let output = Command::new(&deny)
        .arg(env!("CARGO_BIN_EXE_everytick"))
        .args(["record", "-d", "1", "-o"])
        .arg(place.path().join("x.svg"))
        .output()
        .unwrap();
    assert_error(
        &output,
        1,
        "the kernel denies bpf(2) despite the required capabilities, because of a seccomp profile",
    );
    assert!(!place.path().join("x.svg").exists());

    let doctor =
        Command::new(&deny).arg(env!("CARGO_BIN_EXE_everytick")).arg("doctor").output().unwrap();
    assert_eq!(doctor.status.code(), Some(1));
}

#[test]
fn doctor_passes_where_record_works() {
    let _alone = alone();
    let output = everytick().arg("doctor").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.ends_with("`everytick record` works here.\n"), "{text}");
    assert!(!text.contains("FAIL"), "{text}");
}

#[test]
fn version_and_help_go_to_standard_output() {
    for (flag, expected) in
        [("--version", "everytick 0.1.0"), ("--help", "Examples:\n  everytick record ")]
    {
        let output = everytick().arg(flag).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains(expected), "{text}");
    }
}
