//! The configuration: each error is one sentence with its place and the next step, and valid
//! settings take effect.
#![allow(clippy::unwrap_used)]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use everytick::config::{self, Config, ConfigError, Flags, LogFormat, LogLevel};
use everytick::symbolization::SymbolizeMode;
use expect_test::{Expect, expect, expect_file};

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn environment(variables: Pairs<'_>) -> Vec<(OsString, OsString)> {
    variables.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn load(text: &str, variables: Pairs<'_>, flags: &Flags) -> Result<Config, ConfigError> {
    let path = Path::new("everytick.toml");
    Config::from_text(path, text, flags, environment(variables), "web-1")
}

fn valid(text: &str) -> Config {
    load(text, &[], &Flags::default()).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

const SINK: &str = "[sinks.main]\ntype = \"parca\"\nurl = \"https://parca:7070\"\n";

fn with_sink(more: &str) -> String {
    format!("{SINK}{more}")
}

/// Cases in `tests/golden/config`: `---`, then variables as `$ NAME=TEXT`, then the file, then the
/// errors as `=> ERROR`. `UPDATE_EXPECT=1 ./dev test config` rewrites the errors.
#[test]
fn every_error_is_one_sentence_with_the_next_step() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/config");
    let mut cases = 0;
    for entry in directory.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let golden = std::fs::read_to_string(&path).unwrap();
        let mut text = String::new();
        for case in golden.split_terminator("---\n").skip(1) {
            cases += 1;
            text += &with_errors(case);
        }
        expect_file![path].assert_eq(&text);
    }
    assert!(cases >= 100, "{cases}");
}

/// Returns a case with its current errors.
fn with_errors(case: &str) -> String {
    let input: Vec<&str> = case.lines().filter(|line| !line.starts_with("=> ")).collect();
    let (variables, file): (Vec<&str>, Vec<&str>) =
        input.iter().partition(|line| line.starts_with("$ "));
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|line| line[2..].split_once('=').unwrap()).collect();
    let error = match load(&(file.join("\n") + "\n"), &variables, &Flags::default()) {
        Err(error) => error,
        Ok(config) => panic!("no error: {case}\n{config:?}"),
    };
    let mut text = format!("---\n{}\n", input.join("\n"));
    for problem in error.problems() {
        let sentence = problem.to_string();
        assert_eq!(sentence.lines().count(), 1, "{sentence}");
        assert!(sentence.contains(';'), "no next step: {sentence}");
        assert!(!sentence.contains("hunter2"), "a secret: {sentence}");
        text += &format!("=> {sentence}\n");
    }
    text
}

fn check_error(config: Result<Config, ConfigError>, expected: &Expect) {
    expected.assert_eq(&config.unwrap_err().to_string());
}

#[test]
fn variables_must_be_utf8() {
    let invalid = [("EVERYTICK_AGENT_NODE".into(), OsString::from_vec(vec![b'a', 0xff]))];
    let path = Path::new("everytick.toml");
    let config = Config::from_text(path, "", &Flags::default(), invalid, "web-1");
    check_error(config, &expect!["EVERYTICK_AGENT_NODE is not UTF-8; set it again"]);
}

#[test]
fn labels_and_sinks_are_limited() {
    let labels: String = (0..17).map(|number| format!("l{number} = \"x\"\n")).collect();
    let labels = format!("[agent.labels]\n{labels}");
    check_error(
        load(&labels, &[], &Flags::default()),
        &expect!["everytick.toml:1:8: `agent.labels` is a table of 17 entries; give at most 16"],
    );
    let sinks: String = (0..17).map(|n| SINK.replace("main", &format!("s{n}"))).collect();
    check_error(
        load(&sinks, &[], &Flags::default()),
        &expect!["everytick.toml:28:8: there are 17 sinks; remove some, because 16 is the maximum"],
    );
}

#[test]
fn all_errors_are_reported_from_the_top() {
    let text = "[spool]\nmax_bytes = 1\n\n[agent]\nfrequency = 0\nnod = \"x\"\n\n\
                [sinks.a]\ntype = \"x\"\n";
    let variables = [("EVERYTICK_X", "1")];
    check_error(
        load(text, &variables, &Flags::default()),
        &expect![[r#"
            everytick.toml:2:1: `spool.max_bytes` is 1; add a unit, as in "1MiB"
            everytick.toml:5:1: `agent.frequency` is 0; give an integer from 1 to 1000
            everytick.toml:6:1: unknown key `nod` in [agent]; did you mean `node`?
            everytick.toml:9:1: `sinks.a.type` is "x"; give one of "parca", "pyroscope", "otlp", "file"
            EVERYTICK_X is not a setting; unset it, or name it EVERYTICK_<SECTION>_<KEY> after a key of the file, as in EVERYTICK_AGENT_WINDOW"#]],
    );
}

/// Checks the error of a file that cannot be read.
fn check_unreadable(path: &Path, expected: Expect) {
    let flags = Flags { config: Some(path.to_owned()), ..Flags::default() };
    let error = Config::load(&flags, []).unwrap_err().to_string();
    let parent = path.parent().unwrap().to_str().unwrap();
    expected.assert_eq(&error.replace(parent, "DIR"));
}

#[test]
fn unreadable_files_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    check_unreadable(
        &directory.path().join("none.toml"),
        expect!["DIR/none.toml: no such file; check the path after --config"],
    );
    check_unreadable(
        Path::new("/dev/shm"),
        expect!["DIR/shm: not a regular file; give the path of a file after --config"],
    );
    check_unreadable(
        Path::new("/dev/zero"),
        expect!["DIR/zero: not a regular file; give the path of a file after --config"],
    );
    check_unreadable(
        &file("large.toml", &vec![b'\n'; (1 << 20) + 1]),
        expect![
            "DIR/large.toml: the file is larger than 1MiB; a configuration is a few pages, so check the path"
        ],
    );
    check_unreadable(
        &file("latin1.toml", b"[agent]\nnode = \"k\xf6ln\"\n"),
        expect!["DIR/latin1.toml:2:10: not UTF-8; save the file as UTF-8"],
    );
    check_unreadable(
        &file("utf16.toml", b"\xff\xfe[\0a\0"),
        expect!["DIR/utf16.toml:1:1: not UTF-8; save the file as UTF-8"],
    );
    // A regular file, and reading it fails.
    check_unreadable(
        Path::new("/proc/self/mem"),
        expect![
            "DIR/mem: cannot read the file: Input/output error (os error 5); make it readable for the user that everytick runs as"
        ],
    );
    valid(&"\n".repeat(1 << 20));
}

#[test]
fn defaults_apply_without_settings() {
    let config = valid("");
    expect![[r#"
        [agent]
        frequency = 19                                   # default
        window = "10s"                                   # default
        node = "web-1"                                   # default
        series_max = 500                                 # default
        max_cpu = 1.0                                    # default
        max_memory = "256MiB"                            # default
        kernel_stacks = true                             # default
        user_stacks = true                               # default
        listen = "127.0.0.1:7171"                        # default
        cache_dir = "/var/lib/everytick/cache"           # default
        debuginfod = "off"                               # default
        symbolize = "full"                               # default

        [log]
        level = "info"                                   # default
        format = "text"                                  # default

        [store]
        enabled = true                                   # default
        directory = "/var/lib/everytick/store"           # default
        max_bytes = "1GiB"                               # default
        max_age = "7d"                                   # default

        [spool]
        directory = "/var/lib/everytick/spool"           # default
        max_bytes = "512MiB"                             # default
    "#]]
    .assert_eq(&config.report());
    assert!(config.store.enabled && config.sinks.is_empty());
    assert_eq!(config.agent.window, Duration::from_secs(10));
    assert_eq!(config.agent.max_memory, 256 << 20);
    assert_eq!(config.agent.listen, Some(([127, 0, 0, 1], 7171).into()));
    assert_eq!(config.log.level, LogLevel::Info);
}

const ALL: &str = r#"
[agent]
frequency = 0x63
window = "1m"
node = "köln-1"
labels = { team = "core", zone = "a" }
series_max = 1_000
max_cpu = 2
max_memory = "64MiB"
kernel_stacks = false
user_stacks = true
listen = "off"
cache_dir = "off"

[log]
level = "warn"
format = "json"

[store]
enabled = true
directory = "/data/store"
max_bytes = "10GiB"
max_age = "30d"

[spool]
directory = "/data/spool"
max_bytes = "1GiB"
"#;

#[test]
fn durations_are_written_as_on_the_command_line() {
    for window in ["30", "\"30\"", "30.0", "\"30s\"", "\"0.5m\"", "\"29s1000ms\""] {
        let config = valid(&format!("[agent]\nwindow = {window}\n"));
        assert_eq!(config.agent.window, Duration::from_secs(30), "{window}");
    }
}

#[test]
fn every_key_of_a_file_takes_effect() {
    let config = valid(ALL);
    let agent = &config.agent;
    assert_eq!((agent.frequency, agent.window.as_secs()), (99, 60));
    assert_eq!((agent.node.as_str(), agent.labels["team"].as_str()), ("köln-1", "core"));
    assert_eq!((agent.series_max, agent.max_cpu, agent.max_memory), (1000, 2.0, 64 << 20));
    assert_eq!((agent.kernel_stacks, agent.user_stacks), (false, true));
    assert_eq!((agent.listen, &agent.cache_dir), (None, &None));
    assert_eq!((config.log.level, config.log.format), (LogLevel::Warn, LogFormat::Json));
    assert_eq!(config.store.retention.max_age, Duration::from_secs(30 * 86_400));
    assert_eq!((config.store.retention.max_bytes, config.spool.max_bytes), (10 << 30, 1 << 30));
    assert_eq!(config.spool.directory, Path::new("/data/spool"));
}

#[test]
fn the_report_is_an_equivalent_file() {
    for text in ["", ALL, SINK] {
        let values = |text: String| -> Vec<String> {
            text.lines().map(|line| line.split(" #").next().unwrap().trim_end().into()).collect()
        };
        let shown = valid(text).report();
        assert_eq!(values(shown.clone()), values(valid(&shown).report()));
    }
}

#[test]
fn flags_override_variables_and_these_the_file() {
    let file = "[agent]\nfrequency = 1\nwindow = \"1s\"\nmax_cpu = 0.1\n";
    let variables =
        [("EVERYTICK_AGENT_FREQUENCY", "2"), ("EVERYTICK_AGENT_WINDOW", "2s"), ("HOME", "/")];
    let flags = Flags { frequency: Some("3".into()), ..Flags::default() };
    let config = load(file, &variables, &flags).unwrap();
    assert_eq!(config.agent.frequency, 3);
    assert_eq!(config.agent.window, Duration::from_secs(2));
    assert_eq!(config.agent.max_cpu, 0.1);
    let shown = config.report();
    for (line, origin) in [
        ("frequency = 3", "--frequency"),
        ("window = \"2s\"", "EVERYTICK_AGENT_WINDOW"),
        ("max_cpu = 0.1", "everytick.toml:4:1"),
        ("series_max = 500", "default"),
    ] {
        let found = shown.lines().find(|shown| shown.starts_with(line)).unwrap();
        assert!(found.ends_with(&format!(" # {origin}")), "{found}");
    }
}

#[test]
fn overridden_values_are_validated() {
    let flags = Flags { frequency: Some("19".into()), ..Flags::default() };
    check_error(
        load("[agent]\nfrequency = 0\n", &[], &flags),
        &expect!["everytick.toml:2:1: `agent.frequency` is 0; give an integer from 1 to 1000"],
    );
}

#[test]
fn every_flag_takes_effect() {
    let some = |text: &str| Some(text.to_owned());
    let flags = Flags {
        config: None,
        frequency: some("99"),
        window: some("20s"),
        max_cpu: some("0.5"),
        max_memory: some("128MiB"),
        node: some("here"),
        listen: some("0.0.0.0:80"),
        store: some("/s"),
        debuginfod: some("http://127.0.0.1:8002"),
        symbolize: some("names"),
        log_level: some("debug"),
    };
    let config = load(SINK, &[], &flags).unwrap();
    assert_eq!((config.agent.frequency, config.agent.window.as_secs()), (99, 20));
    assert_eq!((config.agent.max_cpu, config.agent.max_memory), (0.5, 128 << 20));
    assert_eq!(config.agent.node, "here");
    assert_eq!(config.agent.listen, Some(([0, 0, 0, 0], 80).into()));
    assert!(config.store.enabled, "enabled beside a sink");
    assert_eq!(config.store.directory, Path::new("/s"));
    assert_eq!(config.agent.debuginfod.as_deref(), Some("http://127.0.0.1:8002"));
    assert_eq!(config.agent.symbolize, SymbolizeMode::Names);
    assert_eq!(config.log.level, LogLevel::Debug);
    let off = load("", &[], &Flags { store: some("off"), ..Flags::default() }).unwrap();
    assert!(!off.store.enabled);
}

#[test]
fn the_node_defaults_to_kubernetes_then_the_host() {
    let node = |variables: Pairs<'_>| load("", variables, &Flags::default()).unwrap().agent.node;
    assert_eq!(node(&[]), "web-1");
    assert_eq!(node(&[("NODE_NAME", "")]), "web-1");
    assert_eq!(node(&[("NODE_NAME", "node-7")]), "node-7");
    assert_eq!(node(&[("NODE_NAME", "node-7"), ("EVERYTICK_AGENT_NODE", "x")]), "x");
}

#[test]
fn a_sink_disables_the_store_by_default() {
    assert!(valid("").store.enabled);
    assert!(!valid(SINK).store.enabled);
    assert!(valid(&format!("store.enabled = true\n{SINK}")).store.enabled);
    assert!(!valid("store.enabled = false\n").store.enabled);
}

#[test]
fn a_sink_may_use_the_directory_of_a_disabled_store() {
    let config = valid("[sinks.a]\ntype = \"file\"\ndirectory = \"/var/lib/everytick/store\"\n");
    assert!(!config.store.enabled, "else the two directories would conflict");
}

#[test]
fn variables_set_keys_of_sinks_and_create_sinks() {
    let variables = [
        ("EVERYTICK_SINKS_MAIN_URL", "http://other:7070"),
        ("EVERYTICK_SINKS_MY_FILES_TYPE", "file"),
        ("EVERYTICK_SINKS_MY_FILES_DIRECTORY", "/profiles"),
        ("EVERYTICK_AGENT_LABELS", "team=core, zone=a"),
        ("EVERYTICK_AGENT_CACHE_DIR", ""),
        ("EVERYTICK_SERVICE_HOST", "10.0.0.1"),
        ("EVERYTICK_WORKER_SOCKET", "3"),
    ];
    let config = load(SINK, &variables, &Flags::default()).unwrap();
    let names: Vec<&str> = config.sinks.iter().map(|sink| sink.name.as_str()).collect();
    assert_eq!(names, ["main", "my_files"]);
    assert_eq!(config.agent.labels["zone"], "a");
    let shown = config.report();
    assert!(shown.contains("url = \"http://other:7070\""), "{shown}");
}

#[test]
fn opentelemetry_variables_set_missing_keys_of_otlp_sinks() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://other:4318"),
        ("OTEL_EXPORTER_OTLP_PROFILES_ENDPOINT", "http://collector:4318/own"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-team=hunter2"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
        ("OTEL_SERVICE_NAME", "x"),
    ];
    let shown = |text: &str| load(text, &variables, &Flags::default()).unwrap().report();
    let all = shown("[sinks.otel]\ntype = \"otlp\"\n");
    for line in [
        "url = \"http://collector:4318\"",
        "path = \"/own\"",
        "timeout_seconds = 2.5",
        "headers = { x-team = \"(not shown)\" }",
    ] {
        let found = all.lines().find(|shown| shown.starts_with(line));
        assert!(found.is_some_and(|line| line.contains(" # OTEL_EXPORTER_OTLP_")), "{line} {all}");
    }
    assert!(all.contains(" # OTEL_EXPORTER_OTLP_PROFILES_ENDPOINT"), "{all}");
    assert!(!all.contains("/ca.pem"), "certificates need https: {all}");

    let own = shown("[sinks.otel]\ntype = \"otlp\"\nurl = \"https://mine\"\ntimeout_seconds = 1\n");
    assert!(
        own.contains("url = \"https://mine\"") && own.contains("timeout_seconds = 1.0"),
        "{own}"
    );
    assert!(
        own.contains("path = \"/v1development/profiles\""),
        "the path belongs to another server: {own}"
    );
    assert!(!shown(SINK).contains("OTEL"), "other types ignore the variables");
}

#[test]
fn changes_that_need_a_restart_are_named() {
    let old = valid(SINK);
    let changes = |text: &str| valid(text).keep_until_restart(&old);
    assert!(changes(SINK).is_empty());
    let live = "[agent]\nfrequency = 99\nwindow = \"1m\"\nmax_cpu = 0.5\nlabels = { a = \"b\" }\n\
                [store]\nenabled = true\nmax_age = \"1d\"\n[log]\nlevel = \"debug\"\n";
    assert!(changes(live).is_empty(), "{:?}", changes(live));
    let fixed = "[agent]\nmax_memory = \"1GiB\"\nlisten = \"off\"\ncache_dir = \"/c\"\ndebuginfod = \"env\"\nkernel_stacks = false\n\
                 [store]\ndirectory = \"/s\"\n[spool]\ndirectory = \"/p\"\n[log]\nformat = \"json\"\n";
    assert_eq!(
        changes(fixed),
        [
            "agent.max_memory",
            "agent.kernel_stacks",
            "agent.listen",
            "agent.cache_dir",
            "agent.debuginfod",
            "log.format",
            "store.directory",
            "spool.directory"
        ]
    );
    let same = format!("[agent]\nlisten = \"127.0.0.1:7171\"\n{SINK}");
    assert!(changes(&same).is_empty(), "set explicitly, and the same");
}

#[test]
fn check_verifies_files_and_shows_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let more = format!(
        "bearer_token_file = {:?}\nheaders.X-Key = \"hunter2\"\nheader_files.X-Other = {:?}\n",
        path("token"),
        path("other")
    );
    std::fs::write(path("everytick.toml"), with_sink(&more)).unwrap();
    std::fs::write(path("token"), "hunter2").unwrap();
    let flags = Flags { config: Some(path("everytick.toml").into()), ..Flags::default() };

    let load = || Config::load(&flags, []).unwrap();
    let error = config::check(&load()).unwrap_err();
    let parent = directory.path().to_str().unwrap();
    expect!["DIR/everytick.toml:6:1: cannot read DIR/other, the file of `sinks.main.header_files`: No such file or directory (os error 2); put it there and make it readable"]
        .assert_eq(&error.to_string().replace(parent, "DIR"));

    std::fs::write(path("other"), "hunter2").unwrap();
    config::check(&load()).unwrap();
    let shown = load().report();
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains(&format!("bearer_token_file = {:?}", path("token"))), "{shown}");
    assert!(!format!("{:?}", Config::load(&flags, []).unwrap()).contains("hunter2"));
}

#[test]
fn files_that_others_can_change_are_reported() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let chmod = |name: &str, mode: u32| {
        std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let more = format!("bearer_token_file = {:?}\n", path("token"));
    std::fs::write(path("everytick.toml"), with_sink(&more)).unwrap();
    std::fs::write(path("token"), "hunter2").unwrap();
    let flags = Flags { config: Some(path("everytick.toml").into()), ..Flags::default() };
    chmod("everytick.toml", 0o644);
    chmod("token", 0o644);
    let config = Config::load(&flags, []).unwrap();
    config::check(&config).unwrap();
    config.check_machine().unwrap();
    assert_eq!(config.warnings(), Vec::<String>::new());

    let shown = |text: String| text.replace(directory.path().to_str().unwrap(), "DIR");
    chmod("everytick.toml", 0o666);
    let config = Config::load(&flags, []).unwrap();
    let warnings: Vec<String> = config.warnings().into_iter().map(shown).collect();
    assert_eq!(
        warnings,
        ["DIR/everytick.toml: other users can change it: all users may write to it (mode 666); \
          run `chmod go-w DIR/everytick.toml`"]
    );
    chmod("token", 0o620);
    let error = config.check_machine().unwrap_err();
    assert_eq!(config::check(&config), Err(error.clone()));
    expect!["DIR/everytick.toml:4:1: other users can change DIR/token, the file of `sinks.main.bearer_token_file`: its group may write to it (mode 620); run `chmod go-w DIR/token`"]
        .assert_eq(&shown(error.to_string()));
}

#[test]
fn certificates_that_are_none_are_errors_of_the_check() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let config = |text: &str| {
        std::fs::write(path("everytick.toml"), text).unwrap();
        let flags = Flags { config: Some(path("everytick.toml").into()), ..Flags::default() };
        Config::load(&flags, []).unwrap()
    };
    std::fs::write(path("ca"), "no certificate").unwrap();
    for sink in ["parca", "otlp", "pyroscope"] {
        let text = format!(
            "[sinks.main]\ntype = {sink:?}\nurl = \"https://a:1\"\ntls.ca_file = {:?}\n",
            path("ca")
        );
        let error = config::check(&config(&text)).unwrap_err().to_string();
        let expected = format!(
            "{}:2:1: [sinks.main]: {} has no certificate in PEM form; give one that has",
            path("everytick.toml"),
            path("ca")
        );
        assert_eq!(error, expected);
    }
}

/// `UPDATE_EXPECT=1 ./dev test config` rewrites it.
#[test]
fn the_manual_matches_the_declarations() {
    expect_file!["../docs/configuration.md"].assert_eq(&config::manual());
}

#[test]
fn examples_in_the_manual_are_valid() {
    let page = config::manual();
    let examples: Vec<&str> = page.split("```toml\n").skip(1).collect();
    assert!(!examples.is_empty());
    for example in examples {
        valid(example.split("```").next().unwrap());
    }
}

#[test]
fn hostile_files_fail_within_bounds() {
    let many_keys: String = (0..90_000).map(|n| format!("k{n}=1\n")).collect();
    let one_line: String = (0..90_000).map(|n| format!("k{n}=1,")).collect();
    for text in [
        "[".repeat(1 << 20),
        format!("agent = {}", "[".repeat(1 << 19)),
        format!("[agent]\n{many_keys}"),
        format!("agent = {{{}}}", one_line.trim_end_matches(',')),
        format!("[sinks.a]\n{many_keys}"),
        format!("[agent.labels]\n{many_keys}"),
        many_keys,
        (0..50_000).map(|n| format!("[sinks.s{n}]\n")).collect(),
        format!("[agent]\nnode = \"{}\"\n", "x".repeat(1 << 19)),
        format!("[{}]\n", "x".repeat(1 << 19)),
    ] {
        let error = load(&text, &[], &Flags::default()).unwrap_err();
        assert!(error.problems().len() <= 21, "{}", error.problems().len());
        assert!(error.to_string().len() < 10_000, "{}", error.to_string().len());
    }
}

#[test]
fn corrupted_files_never_panic() {
    let whole = format!("{ALL}{}", with_sink("headers.X-Team = \"core\"\ntls.ca_file = \"/ca\"\n"));
    let mut random = 1_u64;
    for _ in 0..5_000 {
        let mut bytes = whole.clone().into_bytes();
        for _ in 0..3 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (random >> 33) as usize % bytes.len();
            bytes[at] = b"[]{}\"'=.,#\n0x-_\\ \xc3"[(random >> 20) as usize % 18];
        }
        let text = String::from_utf8_lossy(&bytes);
        let _ = load(&text, &[], &Flags::default());
    }
}

#[test]
fn check_config_prints_the_report_or_all_errors() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("everytick.toml");
    let check = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_everytick"));
        command.args(["agent", "--check-config", "-F", "99", "--config"]).arg(&path);
        let output = command.env_clear().env("EVERYTICK_AGENT_MAX_CPU", "0.5").output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, shown) = check("[agent]\nwindow = \"1m\"\n");
    assert_eq!(code, Some(0), "{shown}");
    for (line, origin) in [
        ("frequency = 99", "--frequency"),
        ("max_cpu = 0.5", "EVERYTICK_AGENT_MAX_CPU"),
        ("window = \"1m\"", "everytick.toml:2:1"),
    ] {
        let found = shown.lines().find(|shown| shown.starts_with(line));
        assert!(found.is_some_and(|found| found.ends_with(origin)), "{line}: {shown}");
    }
    let (code, errors) = check("[agent]\nwindow = 0\nnod = \"x\"\n");
    assert_eq!(code, Some(1), "{errors}");
    let sentences: Vec<&str> = errors.lines().collect();
    assert_eq!(sentences.len(), 2, "{errors}");
    assert!(sentences[0].ends_with("everytick.toml:2:1: `agent.window` is 0; give 1s to 1h"));
    assert!(sentences[1].ends_with(":3:1: unknown key `nod` in [agent]; did you mean `node`?"));
}
