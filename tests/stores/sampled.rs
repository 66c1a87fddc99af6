//! What the agent itself samples, in the answers of real servers: a program with a known split of its time.

use std::collections::BTreeMap;

use profile::pprof::proto as pb;

use crate::common::agent::{Agent, labels};
use crate::common::{Running, alone};
use crate::servers::Server;
use crate::split::{assert_split, count, split};
use crate::{collector, compile, parca, text};

/// Windows of a second. The split of twelve times 997 samples is within half a point of the truth, two times in three.
const WINDOWS: usize = 12;

#[test]
fn a_programs_split_arrives_in_parca_and_the_collector_named_here_or_there() {
    let _alone = alone();
    let (named, unnamed) = (Server::parca(), Server::parca());
    let (collector, _) = Server::collector();
    let mut agent = Agent::start(&format!(
        "frequency = 997\nmax_cpu = 100\nnode = \"n1\"\n\
         [sinks.named]\ntype = \"parca\"\nurl = \"http://{}\"\n\
         [sinks.unnamed]\ntype = \"parca\"\nurl = \"http://{}\"\nsymbolize = \"server\"\n\
         [sinks.collector]\ntype = \"otlp\"\nprotocol = \"grpc\"\nurl = \"http://{}\"\n",
        named.address, unnamed.address, collector.address
    ));
    let program = compile("split", agent.place.path());
    let running = Running::start(&program);
    agent.wait_for_windows(WINDOWS);
    // The uploads look at the program's file while it is sampled, and have ended when the server can name it.
    let has_hot = |profile: &pb::Profile| parca::functions(profile).contains(&"hot");
    parca::merged_when(&unnamed, r#"{comm="split"}"#, has_hot);
    let held = "everytick_debuginfo_files_total{sink=\"unnamed\",result=\"stored\"} ";
    let (_, metrics) = agent.page("/metrics");
    let files = metrics.lines().find_map(|line| line.strip_prefix(held)).unwrap();
    assert_ne!(files, "0", "what was uploaded is counted");
    drop(running);
    let [_, accepted, lost] = agent.stop();
    let kept = agent.profiles();
    assert_eq!((lost, accepted), (0, kept.len() as u64), "{}", agent.log());

    let expected: i64 = kept.iter().map(|profile| of_program(profile, 1)).sum();
    for server in [&named, &unnamed] {
        let all = |profile: &pb::Profile| parca::total(profile) == expected && has_hot(profile);
        let profile = parca::merged_when(server, r#"{comm="split"}"#, all);
        assert_split(&split(&profile));
        let unit = profile.sample_type[0];
        assert_eq!(
            (text(&profile, unit.r#type), text(&profile, unit.unit)),
            ("cpu", "nanoseconds")
        );
        let series = parca::series(server, r#"{comm="split"}"#, &["node", "executable"]);
        let found: Vec<_> = series.iter().map(|(labels, _)| labels).collect();
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(found, [&BTreeMap::from([label("node", "n1"), label("executable", "split")])]);
    }

    let everything: i64 = kept.iter().flat_map(|p| &p.sample).map(|s| s.value[0]).sum();
    let received = collector::received(&collector, everything);
    assert_eq!(received.iter().map(|sample| sample.value).sum::<i64>(), everything);
    let ours = || received.iter().filter(|sample| sample.attributes["process.title"] == "split");
    let total: i64 = ours().map(|sample| sample.value).sum();
    assert_eq!(total, kept.iter().map(|profile| of_program(profile, 0)).sum::<i64>());
    let mut shares = BTreeMap::new();
    for sample in ours() {
        let attribute = |key: &str| sample.attributes[key].as_str();
        assert_eq!(["service.name", "host.name"].map(attribute), ["split", "n1"]);
        assert_eq!(sample.sample_type, ("samples".into(), "count".into()));
        let stack = sample.stack.iter().map(String::as_str);
        count(&mut shares, stack, sample.value, total);
    }
    assert_split(&shares);
}

/// The samples of the program in a window of the local store: the first value counts them, the second their time.
fn of_program(profile: &pb::Profile, value: usize) -> i64 {
    let is_ours = |at: &usize| labels(profile, *at)["comm"] == "split";
    (0..profile.sample.len()).filter(is_ours).map(|at| profile.sample[at].value[value]).sum()
}
