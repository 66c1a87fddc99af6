//! Configurations: what is wrong is told in one sentence with its place and the next step, what is right is in force.
#![allow(clippy::unwrap_used)]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Duration;

use everytick::config::{self, Config, ConfigError, Flags, LogFormat};
use expect_test::{Expect, expect};
use tracing::level_filters::LevelFilter;

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn environment(variables: Pairs<'_>) -> Vec<(OsString, OsString)> {
    variables.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn load(text: &str, variables: Pairs<'_>, flags: &Flags) -> Result<Config, ConfigError> {
    let path = Path::new("everytick.toml");
    Config::from_text(path, text, flags, environment(variables), "web-1")
}

fn good(text: &str) -> Config {
    load(text, &[], &Flags::default()).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

/// Checks that a file is refused with exactly this.
fn bad(text: &str, expected: Expect) {
    refused(load(text, &[], &Flags::default()), &expected);
}

/// Checks that variables are refused, beside a file with one sink.
fn bad_variables(variables: Pairs<'_>, expected: Expect) {
    refused(load(SINK, variables, &Flags::default()), &expected);
}

fn refused(config: Result<Config, ConfigError>, expected: &Expect) {
    let error = config.unwrap_err();
    for problem in error.problems() {
        let sentence = problem.to_string();
        assert_eq!(sentence.lines().count(), 1, "{sentence}");
        assert!(sentence.contains([';', '?']), "no next step: {sentence}");
    }
    expected.assert_eq(&error.to_string());
}

const SINK: &str = "[sinks.main]\ntype = \"parca\"\nurl = \"https://parca:7070\"\n";

fn with_sink(more: &str) -> String {
    format!("{SINK}{more}")
}

#[test]
fn text_that_is_not_toml() {
    bad("[agent]\nnode = web-1\n", expect![[]]);
    bad("[agent\nfrequency = 19\n", expect![[]]);
    bad("[agent]\nfrequency 19\n", expect![[]]);
    bad("[agent]\nfrequency =\n", expect![[]]);
    bad("[agent]\nnode = \"web\n", expect![[]]);
    bad("[agent]\nfrequency = 19\nfrequency = 99\n", expect![[]]);
    bad("[store]\n[agent]\n[store]\n", expect![[]]);
    bad("agent:\n  frequency: 19\n", expect![[]]);
}

#[test]
fn names_that_are_not_known() {
    bad("[agnet]\nfrequency = 19\n", expect![[]]);
    bad("[profiler]\n", expect![[]]);
    bad("[parca]\nurl = \"http://parca:7070\"\n", expect![[]]);
    bad("frequency = 19\n", expect![[]]);
    bad("[agent]\nfrequenzy = 19\n", expect![[]]);
    bad("[agent]\nsample_rate = 19\n", expect![[]]);
    bad("[agent]\nwindow_seconds = 10\n", expect![[]]);
    bad("[agent]\nmax-cpu = 1\n", expect![[]]);
    bad("[agent]\nmax_age = \"7d\"\n", expect![[]]);
    bad("[store]\nretention = \"7d\"\n", expect![[]]);
    bad("[spool]\ncolour = \"red\"\n", expect![[]]);
    bad("[log]\nverbosity = \"debug\"\n", expect![[]]);
}

#[test]
fn values_that_keys_do_not_take() {
    bad("[agent]\nfrequency = 0\n", expect![[]]);
    bad("[agent]\nfrequency = 1001\n", expect![[]]);
    bad("[agent]\nfrequency = \"19\"\n", expect![[]]);
    bad("[agent]\nfrequency = 19.5\n", expect![[]]);
    bad("[agent]\nfrequency = [19]\n", expect![[]]);
    bad("[agent]\nwindow = 10\n", expect![[]]);
    bad("[agent]\nwindow = \"10sec\"\n", expect![[]]);
    bad("[agent]\nwindow = \"2h\"\n", expect![[]]);
    bad("[agent]\nwindow = 10:00:00\n", expect![[]]);
    bad("[agent]\nmax_cpu = \"1%\"\n", expect![[]]);
    bad("[agent]\nmax_cpu = 0\n", expect![[]]);
    bad("[agent]\nmax_cpu = nan\n", expect![[]]);
    bad("[agent]\nmax_memory = 268435456\n", expect![[]]);
    bad("[agent]\nmax_memory = \"256MB\"\n", expect![[]]);
    bad("[agent]\nmax_memory = \"1MiB\"\n", expect![[]]);
    bad("[agent]\nkernel_stacks = \"yes\"\n", expect![[]]);
    bad("[agent]\nuser_stacks = \"true\"\n", expect![[]]);
    bad("[agent]\nnode = \"\"\n", expect![[]]);
    bad("[agent]\nnode = \"two\\nlines\"\n", expect![[]]);
    bad("[agent]\nlisten = \"localhost:7171\"\n", expect![[]]);
    bad("[agent]\nlisten = 7171\n", expect![[]]);
    bad("[agent]\ncache_dir = \"cache\"\n", expect![[]]);
    bad("[agent]\ncache_dir = false\n", expect![[]]);
    bad("[log]\nlevel = \"warning\"\n", expect![[]]);
    bad("[log]\nformat = \"xml\"\n", expect![[]]);
    bad("[store]\nmax_bytes = \"99999999TiB\"\n", expect![[]]);
    bad("[store]\nmax_age = \"1s\"\n", expect![[]]);
    bad("agent = 19\n", expect![[]]);
    bad("[[agent]]\nfrequency = 19\n", expect![[]]);
}

#[test]
fn labels_that_cannot_be() {
    bad("[agent]\nlabels = \"team=core\"\n", expect![[]]);
    bad("[agent.labels]\nteam = 3\n", expect![[]]);
    bad("[agent.labels]\nteam = \"\"\n", expect![[]]);
    bad("[agent.labels]\nteam-name = \"core\"\n", expect![[]]);
    bad("[agent.labels]\nzone = \"a\"\nnode = \"web-1\"\n", expect![[]]);
    bad("[agent.labels]\n__name__ = \"cpu\"\n", expect![[]]);
    let many: String = (0..17).map(|number| format!("l{number} = \"x\"\n")).collect();
    bad(&format!("[agent.labels]\n{many}"), expect![[]]);
}

#[test]
fn settings_that_do_not_fit_together() {
    bad("[agent]\nkernel_stacks = false\nuser_stacks = false\n", expect![[]]);
    bad("[store]\ndirectory = \"/var/lib/everytick/spool/\"\n", expect![[]]);
}

#[test]
fn sinks_that_cannot_be() {
    bad("[sinks.main]\nurl = \"http://parca:7070\"\n", expect![[]]);
    bad("[sinks.parca]\nurl = \"http://parca:7070\"\n", expect![[]]);
    bad("[sinks.main]\ntype = \"parka\"\n", expect![[]]);
    bad("[sinks.main]\ntype = \"kafka\"\n", expect![[]]);
    bad("[sinks.main]\ntype = \"parca\"\n", expect![[]]);
    bad("[sinks.Main]\ntype = \"parca\"\nurl = \"http://parca:7070\"\n", expect![[]]);
    bad("[sinks.\"../x\"]\ntype = \"parca\"\nurl = \"http://parca:7070\"\n", expect![[]]);
    bad("[sinks]\ntype = \"parca\"\nurl = \"http://parca:7070\"\n", expect![[]]);
    bad("[[sinks]]\ntype = \"parca\"\n", expect![[]]);
    bad("sinks = \"parca\"\n", expect![[]]);
    bad("[sinks.main]\ntype = \"parca\"\nurl = \"parca:7070\"\n", expect![[]]);
    bad("[sinks.main]\ntype = \"parca\"\nurl = \"grpc://parca:7070\"\n", expect![[]]);
    bad("[sinks.main]\ntype = \"parca\"\nurl = \"https://me:hunter2@parca\"\n", expect![[]]);
    bad(&with_sink("endpoint = \"x\"\n"), expect![[]]);
    bad(&with_sink("tls = true\n"), expect![[]]);
    bad(&with_sink("tls.ca = \"/ca.pem\"\n"), expect![[]]);
    bad(&with_sink("ca_file = \"/ca.pem\"\n"), expect![[]]);
    bad(&with_sink("directory = \"/profiles\"\n"), expect![[]]);
    bad(&with_sink("compression = \"zstd\"\n"), expect![[]]);
    let many: String = (0..17).map(|n| SINK.replace("main", &format!("s{n}"))).collect();
    bad(&many, expect![[]]);
}

#[test]
fn secrets_are_refused_and_never_shown() {
    let check = |more: &str, expected: Expect| {
        let text = with_sink(more);
        let error = load(&text, &[], &Flags::default()).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        bad(&text, expected);
    };
    check("bearer_token = \"hunter2\"\n", expect![[]]);
    check("bearer_token_file = \"hunter2\"\n", expect![[]]);
    check("basic_auth.password = \"hunter2\"\n", expect![[]]);
    check("basic_auth.username = \"me\"\n", expect![[]]);
    check("headers.Authorization = \"Bearer hunter2\"\n", expect![[]]);
    check("headers.X-Team = [\"hunter2\"]\n", expect![[]]);
    check("headers = \"hunter2\"\n", expect![[]]);
    check("headers = { \"X Team\" = \"hunter2\" }\n", expect![[]]);
    check("header_files = { X-Key = \"hunter2\" }\n", expect![[]]);
    check("proxy = \"http://me:hunter2@proxy:3128\"\n", expect![[]]);
    check("tls.cert_file = \"/cert.pem\"\n", expect![[]]);
    let over_http = with_sink("bearer_token_file = \"/token\"\n").replace("https", "http");
    bad(&over_http, expect![[]]);
    let over_http = with_sink("tls.ca_file = \"/ca.pem\"\n").replace("https", "http");
    bad(&over_http, expect![[]]);
}

#[test]
fn variables_that_cannot_be() {
    bad_variables(&[("EVERYTICK_AGENT_FREQUENZY", "19")], expect![[]]);
    bad_variables(&[("EVERYTICK_FREQUENCY", "19")], expect![[]]);
    bad_variables(&[("EVERYTICK_CONFIG", "/etc/x.toml")], expect![[]]);
    bad_variables(&[("EVERYTICK_AGENT_FREQUENCY", "often")], expect![[]]);
    bad_variables(&[("EVERYTICK_AGENT_WINDOW", "10")], expect![[]]);
    bad_variables(&[("EVERYTICK_AGENT_LABELS", "team")], expect![[]]);
    bad_variables(&[("EVERYTICK_AGENT_LABELS", "team=core,node=x")], expect![[]]);
    bad_variables(&[("EVERYTICK_SINKS_MAIN_TOKEN", "hunter2")], expect![[]]);
    bad_variables(&[("EVERYTICK_SINKS_MAIN_URL", "parca")], expect![[]]);
    bad_variables(&[("EVERYTICK_SINKS_MAIN_DIRECTORY", "/x")], expect![[]]);
    bad_variables(&[("EVERYTICK_SINKS_OTHER_URL", "http://parca:7070")], expect![[]]);
    let not_text = [("EVERYTICK_AGENT_NODE".into(), OsString::from_vec(vec![b'a', 0xff]))];
    let path = Path::new("everytick.toml");
    refused(Config::from_text(path, "", &Flags::default(), not_text, "web-1"), &expect![[]]);
}

#[test]
fn all_mistakes_are_told_at_once_from_the_top() {
    let text = "[spool]\nmax_bytes = 1\n\n[agent]\nfrequency = 0\nnod = \"x\"\n\n[sinks.a]\ntype = \"x\"\n";
    let variables = [("EVERYTICK_X", "1")];
    refused(load(text, &variables, &Flags::default()), &expect![[]]);
}

/// Checks what is said of a file that cannot be read.
fn bad_file(path: &Path, expected: Expect) {
    let flags = Flags { config: Some(path.to_owned()), ..Flags::default() };
    let error = Config::load(&flags, []).unwrap_err().to_string();
    let parent = path.parent().unwrap().to_str().unwrap();
    expected.assert_eq(&error.replace(parent, "DIR"));
}

#[test]
fn files_that_cannot_be_read() {
    let place = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = place.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    bad_file(&place.path().join("none.toml"), expect![[]]);
    bad_file(&place.path().join("."), expect![[]]);
    bad_file(Path::new("/dev/zero"), expect![[]]);
    bad_file(&file("large.toml", &vec![b'\n'; (1 << 20) + 1]), expect![[]]);
    bad_file(&file("latin1.toml", b"[agent]\nnode = \"k\xf6ln\"\n"), expect![[]]);
    bad_file(&file("utf16.toml", b"\xff\xfe[\0a\0"), expect![[]]);
    bad_file(Path::new("/proc/self/mem"), expect![[]]); // a file, and reading it is an error
    good(&"\n".repeat(1 << 20));
}

#[test]
fn without_any_setting_the_defaults_are_in_force() {
    let config = good("");
    expect![[]].assert_eq(&config.in_force());
    assert!(config.store.enabled && config.sinks.is_empty());
    assert_eq!(config.agent.window, Duration::from_secs(10));
    assert_eq!(config.agent.max_memory, 256 << 20);
    assert_eq!(config.agent.listen, Some(([127, 0, 0, 1], 7171).into()));
    assert_eq!(config.log.level, LevelFilter::INFO);
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
fn every_key_of_a_file_is_in_force() {
    let config = good(ALL);
    let agent = &config.agent;
    assert_eq!((agent.frequency, agent.window.as_secs()), (99, 60));
    assert_eq!((agent.node.as_str(), agent.labels["team"].as_str()), ("köln-1", "core"));
    assert_eq!((agent.series_max, agent.max_cpu, agent.max_memory), (1000, 2.0, 64 << 20));
    assert_eq!((agent.kernel_stacks, agent.user_stacks), (false, true));
    assert_eq!((agent.listen, &agent.cache_dir), (None, &None));
    assert_eq!((config.log.level, config.log.format), (LevelFilter::WARN, LogFormat::Json));
    assert_eq!(config.store.max_age, Duration::from_secs(30 * 86_400));
    assert_eq!((config.store.max_bytes, config.spool.max_bytes), (10 << 30, 1 << 30));
    assert_eq!(config.spool.directory, Path::new("/data/spool"));
}

#[test]
fn what_is_shown_as_in_force_is_a_file_that_says_the_same() {
    for text in ["", ALL, SINK] {
        let values = |text: String| -> Vec<String> {
            text.lines().map(|line| line.split(" #").next().unwrap().trim_end().into()).collect()
        };
        let shown = good(text).in_force();
        assert_eq!(values(shown.clone()), values(good(&shown).in_force()));
    }
}

#[test]
fn flags_are_stronger_than_variables_and_these_than_the_file() {
    let file = "[agent]\nfrequency = 1\nwindow = \"1s\"\nmax_cpu = 0.1\n";
    let variables =
        [("EVERYTICK_AGENT_FREQUENCY", "2"), ("EVERYTICK_AGENT_WINDOW", "2s"), ("HOME", "/")];
    let flags = Flags { frequency: Some("3".into()), ..Flags::default() };
    let config = load(file, &variables, &flags).unwrap();
    assert_eq!(config.agent.frequency, 3);
    assert_eq!(config.agent.window, Duration::from_secs(2));
    assert_eq!(config.agent.max_cpu, 0.1);
    let shown = config.in_force();
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
fn a_mistake_is_told_even_where_something_stronger_is_set() {
    let flags = Flags { frequency: Some("19".into()), ..Flags::default() };
    refused(load("[agent]\nfrequency = 0\n", &[], &flags), &expect![[]]);
}

#[test]
fn every_flag_counts() {
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
        log_level: some("debug"),
    };
    let config = load(SINK, &[], &flags).unwrap();
    assert_eq!((config.agent.frequency, config.agent.window.as_secs()), (99, 20));
    assert_eq!((config.agent.max_cpu, config.agent.max_memory), (0.5, 128 << 20));
    assert_eq!(config.agent.node, "here");
    assert_eq!(config.agent.listen, Some(([0, 0, 0, 0], 80).into()));
    assert!(config.store.enabled, "asked for beside a sink");
    assert_eq!(config.store.directory, Path::new("/s"));
    assert_eq!(config.log.level, LevelFilter::DEBUG);
    let off = load("", &[], &Flags { store: some("off"), ..Flags::default() }).unwrap();
    assert!(!off.store.enabled);
}

#[test]
fn the_node_is_what_kubernetes_says_else_the_host() {
    let node = |variables: Pairs<'_>| load("", variables, &Flags::default()).unwrap().agent.node;
    assert_eq!(node(&[]), "web-1");
    assert_eq!(node(&[("NODE_NAME", "")]), "web-1");
    assert_eq!(node(&[("NODE_NAME", "node-7")]), "node-7");
    assert_eq!(node(&[("NODE_NAME", "node-7"), ("EVERYTICK_AGENT_NODE", "x")]), "x");
}

#[test]
fn a_sink_switches_the_store_off_unless_it_is_asked_for() {
    assert!(good("").store.enabled);
    assert!(!good(SINK).store.enabled);
    assert!(good(&format!("store.enabled = true\n{SINK}")).store.enabled);
    assert!(!good("store.enabled = false\n").store.enabled);
}

#[test]
fn variables_set_keys_of_sinks_and_make_new_ones() {
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
    let shown = config.in_force();
    assert!(shown.contains("url = \"http://other:7070\""), "{shown}");
}

#[test]
fn what_cannot_change_while_it_runs_is_named() {
    let old = good(SINK);
    let changes = |text: &str| old.changes_needing_restart(&good(text));
    assert!(changes(SINK).is_empty());
    let live = "[agent]\nfrequency = 99\nwindow = \"1m\"\nmax_cpu = 0.5\nlabels = { a = \"b\" }\n\
                [store]\nenabled = true\nmax_age = \"1d\"\n[log]\nlevel = \"debug\"\n";
    assert!(changes(live).is_empty(), "{:?}", changes(live));
    let fixed = "[agent]\nlisten = \"off\"\ncache_dir = \"off\"\nkernel_stacks = false\n\
                 [store]\ndirectory = \"/s\"\n[spool]\ndirectory = \"/p\"\n[log]\nformat = \"json\"\n";
    assert_eq!(
        changes(fixed),
        [
            "agent.kernel_stacks",
            "agent.listen",
            "agent.cache_dir",
            "log.format",
            "store.directory",
            "spool.directory"
        ]
    );
    let same = format!("[agent]\nlisten = \"127.0.0.1:7171\"\n{SINK}");
    assert!(changes(&same).is_empty(), "said, and the same");
}

#[test]
fn checking_looks_whether_files_can_be_read_and_shows_no_secret() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let more = format!(
        "bearer_token_file = {:?}\nheaders.X-Key = \"hunter2\"\nheader_files.X-Other = {:?}\n",
        path("token"),
        path("other")
    );
    std::fs::write(path("everytick.toml"), with_sink(&more)).unwrap();
    std::fs::write(path("token"), "hunter2").unwrap();
    let flags = Flags { config: Some(path("everytick.toml").into()), ..Flags::default() };

    let error = config::check(&flags, []).unwrap_err();
    let parent = place.path().to_str().unwrap();
    expect![[]].assert_eq(&error.to_string().replace(parent, "DIR"));

    std::fs::write(path("other"), "hunter2").unwrap();
    let shown = config::check(&flags, []).unwrap();
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains(&format!("bearer_token_file = {:?}", path("token"))), "{shown}");
    assert!(!format!("{:?}", Config::load(&flags, []).unwrap()).contains("hunter2"));
}

#[test]
fn what_the_page_shows_is_a_configuration() {
    let page = include_str!("../docs/configuration.md");
    let examples: Vec<&str> = page.split("```toml\n").skip(1).collect();
    assert!(!examples.is_empty());
    for example in examples {
        good(example.split("```").next().unwrap());
    }
}

#[test]
fn files_of_a_stranger_are_refused_in_bounds() {
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
fn a_file_with_bytes_changed_is_taken_or_refused() {
    let whole = format!("{ALL}{}", with_sink("headers.X-Team = \"core\"\ntls.ca_file = \"/ca\"\n"));
    let mut random = 1_u64;
    for _ in 0..20_000 {
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
