//! `deploy/daemonset.yaml` on a real Kubernetes node: the agent profiles another pod, and leaves
//! nothing in the kernel when it is deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{alone, pause};
use crate::node::{Node, OUTSIDE};
use crate::servers::Server;
use crate::{compile, parca};

/// A pod that runs only the program with the known split.
const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: split}, spec: {
automountServiceAccountToken: false, terminationGracePeriodSeconds: 0,
containers: [{name: split, image: 'localhost/split:1', imagePullPolicy: Never}]}}";

/// Timeout for the kernel to free unreferenced BPF programs.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(10);

#[test]
fn the_daemonset_profiles_another_pod_and_cleans_up() {
    let _alone = alone();
    let node = Node::start();
    let server = Server::parca_at(OUTSIDE);
    node.load("localhost/everytick:test", Path::new(env!("CARGO_BIN_EXE_everytick")));
    node.load("localhost/split:1", &compile("split", &node.path("")));
    let before = samplers();
    let pod = write(&node, "pod.yaml", POD);
    node.kubectl(&["apply", "-f", &pod]);
    let agent = write(&node, "daemonset.yaml", &manifest(&node, &server));

    let applied = Instant::now();
    node.kubectl(&["apply", "-f", &agent]);
    let status =
        ["rollout", "status", "daemonset/everytick", "--namespace=everytick", "--timeout=60s"];
    node.kubectl(&status);
    eprintln!("the pod is ready {:.2} s after kubectl apply", applied.elapsed().as_secs_f64());
    assert!(samplers().len() > before.len(), "no perf_event program was loaded");

    let expected = labels_of_split(&node);
    let is_complete = |profile: &_| parca::total(profile) > 5_000_000_000;
    let profile = parca::merged_when(&server, r#"{comm="split"}"#, is_complete);
    let functions = parca::functions(&profile);
    for name in ["main", "hot", "warm", "cold", "spin"] {
        assert!(functions.contains(&name), "{functions:?}");
    }
    let labels: Vec<&str> = expected.keys().map(String::as_str).collect();
    let series = parca::series(&server, r#"{comm="split"}"#, &labels);
    let actual: Vec<_> = series.iter().map(|(labels, _)| labels).collect();
    assert_eq!(actual, [&expected]);

    let follow = ["logs", "--follow", "--namespace=everytick", "daemonset/everytick"];
    let mut kubectl = node.start_kubectl(&follow);
    let mut lines = BufReader::new(kubectl.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut log = lines.next().unwrap(); // kubectl follows the log from here on
    node.kubectl(&["delete", "-f", &agent, "--timeout=60s"]);
    log.extend(lines.flat_map(|line| ["\n".into(), line]));
    kubectl.wait().unwrap();
    let last: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["fields"]["message"], &last["fields"]["lost"]),
        (&"stopped".into(), &0.into()),
        "{log}"
    );
    let deleted = Instant::now();
    while !samplers().is_subset(&before) {
        assert!(deleted.elapsed() < RELEASE_TIMEOUT, "perf_event programs remain in the kernel");
        pause(100);
    }
}

/// Returns the expected labels of the other pod, as reported by Kubernetes.
fn labels_of_split(node: &Node) -> BTreeMap<String, String> {
    node.kubectl(&["wait", "--for=condition=Ready", "pod/split", "--timeout=60s"]);
    let pod = node.kubectl(&["get", "pod", "split", "--output=json"]);
    let pod: Value = serde_json::from_str(&pod).unwrap();
    let container = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap();
    let labels = [
        ("node", "node1"),
        ("executable", "split"),
        ("pod_uid", pod["metadata"]["uid"].as_str().unwrap()),
        ("container_id", container.strip_prefix("containerd://").unwrap()),
    ];
    labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// Returns the shipped manifest with three changes: the image under test, its example sink enabled,
/// and the state directory of the node.
fn manifest(node: &Node, server: &Server) -> String {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/daemonset.yaml");
    let mut text = fs::read_to_string(shipped).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    for (old, new) in [
        (format!("image: localhost/everytick:{version}"), "image: localhost/everytick:test".into()),
        ("\n    # [sinks".into(), "\n    [sinks".into()),
        ("\n    # type".into(), "\n    type".into()),
        (
            "\n    # url = \"http://parca.parca:7070\"".into(),
            format!("\n    url = \"http://{}\"", server.address),
        ),
        (
            "            path: /var/lib/everytick\n".into(),
            format!("            path: {}\n", node.path("state").display()),
        ),
    ] {
        assert_eq!(text.matches(&old).count(), 1, "{old}");
        text = text.replace(&old, &new);
    }
    text
}

fn write(node: &Node, name: &str, text: &str) -> String {
    let path = node.path(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Returns the IDs of the perf_event programs in the kernel.
fn samplers() -> BTreeSet<u64> {
    let output = Command::new("bpftool").args(["--json", "prog", "list"]).output().unwrap();
    let programs: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let samplers = programs.iter().filter(|program| program["type"] == "perf_event");
    samplers.map(|program| program["id"].as_u64().unwrap()).collect()
}
