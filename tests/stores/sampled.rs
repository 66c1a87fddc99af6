//! Profiles of a program with a known split of its time: sampled by the agent, and read back from
//! real servers.

use std::collections::BTreeMap;

use profile::pprof::proto as pb;

use crate::common::agent::{Agent, labels};
use crate::common::{Running, alone};
use crate::servers::Server;
use crate::split::{assert_split, count, split};
use crate::{collector, compile, parca, text};

/// Number of windows of one second. With 12 x 997 samples, the measured split is within half a
/// percentage point of the true one two times in three.
const WINDOWS: usize = 12;

#[test]
fn servers_return_the_split_with_agent_and_server_symbols() {
    let _alone = alone();
    let (symbolized, unsymbolized) = (Server::parca(), Server::parca());
    let (collector, _) = Server::collector();
    let mut agent = Agent::start(&format!(
        "frequency = 997\nmax_cpu = 100\nnode = \"n1\"\n\
         [sinks.symbolized]\ntype = \"parca\"\nurl = \"http://{}\"\n\
         [sinks.unsymbolized]\ntype = \"parca\"\nurl = \"http://{}\"\nsymbolize = \"server\"\n\
         [sinks.collector]\ntype = \"otlp\"\nprotocol = \"grpc\"\nurl = \"http://{}\"\n",
        symbolized.address, unsymbolized.address, collector.address
    ));
    let program = compile("split", agent.place.path());
    let running = Running::start(&program);
    agent.wait_for_windows(WINDOWS);
    // Uploads read the program's file while it runs, and are complete once the server has symbols.
    let has_hot = |profile: &pb::Profile| parca::functions(profile).contains(&"hot");
    parca::merged_when(&unsymbolized, r#"{comm="split"}"#, has_hot);
    let stored = "everytick_debuginfo_files_total{sink=\"unsymbolized\",result=\"stored\"} ";
    let (_, metrics) = agent.page("/metrics");
    let files = metrics.lines().find_map(|line| line.strip_prefix(stored)).unwrap();
    assert_ne!(files, "0", "uploaded files are counted");
    drop(running);
    let [_, accepted, lost] = agent.stop();
    let profiles = agent.profiles();
    assert_eq!((lost, accepted), (0, profiles.len() as u64), "{}", agent.log());

    let expected: i64 = profiles.iter().map(|profile| samples_of_split(profile, 1)).sum();
    for server in [&symbolized, &unsymbolized] {
        let is_complete =
            |profile: &pb::Profile| parca::total(profile) == expected && has_hot(profile);
        let profile = parca::merged_when(server, r#"{comm="split"}"#, is_complete);
        assert_split(&split(&profile));
        let unit = profile.sample_type[0];
        assert_eq!(
            (text(&profile, unit.r#type), text(&profile, unit.unit)),
            ("cpu", "nanoseconds")
        );
        let series = parca::series(server, r#"{comm="split"}"#, &["node", "executable"]);
        let actual: Vec<_> = series.iter().map(|(labels, _)| labels).collect();
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(actual, [&BTreeMap::from([label("node", "n1"), label("executable", "split")])]);
    }

    let everything: i64 = profiles.iter().flat_map(|p| &p.sample).map(|s| s.value[0]).sum();
    let received = collector::received(&collector, everything);
    assert_eq!(received.iter().map(|sample| sample.value).sum::<i64>(), everything);
    let split_samples =
        || received.iter().filter(|sample| sample.attributes["process.title"] == "split");
    let total: i64 = split_samples().map(|sample| sample.value).sum();
    assert_eq!(total, profiles.iter().map(|profile| samples_of_split(profile, 0)).sum::<i64>());
    let mut shares = BTreeMap::new();
    for sample in split_samples() {
        let attribute = |key: &str| sample.attributes[key].as_str();
        assert_eq!(["service.name", "host.name"].map(attribute), ["split", "n1"]);
        assert_eq!(sample.sample_type, ("samples".into(), "count".into()));
        let stack = sample.stack.iter().map(String::as_str);
        count(&mut shares, stack, sample.value, total);
    }
    assert_split(&shares);
}

/// Sums a value of the samples of `split` in a local profile: value 0 is their count, value 1 their
/// CPU time.
fn samples_of_split(profile: &pb::Profile, value: usize) -> i64 {
    let is_split = |index: &usize| labels(profile, *index)["comm"] == "split";
    (0..profile.sample.len()).filter(is_split).map(|index| profile.sample[index].value[value]).sum()
}
