//! A real Kubernetes node, started for one test and removed on drop: etcd, containerd, the API
//! server, the controller manager, the scheduler and the kubelet.
//!
//! The servers run in their own network and mount namespaces, and pods in their own cgroup, so that
//! nothing stays on the machine. Pods can see the processes of the machine if they request it, as
//! on any node. A veth pair connects the test to the node: pods can reach servers on [`OUTSIDE`].

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::common::succeed;
use crate::compile;
use crate::servers::build;

/// Address of the machine in the network of the node, from the range reserved for benchmarks
/// (RFC 2544).
pub const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 77, 1));

/// Address of the node.
const INSIDE: &str = "198.18.77.2";

/// Address range of the pods.
const PODS: &str = "198.18.78.0/24";

/// Paths that the servers write outside the directory of the node. A tmpfs covers each of them in
/// the mount namespace, so that nothing stays on the machine.
const TMPFS_PATHS: [&str; 6] = [
    "/run/netns",
    "/run/containerd",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log",
    "/usr/libexec",
];

/// Kernel settings that the kubelet changes.
const KERNEL_SETTINGS: [&str; 5] = [
    "vm/overcommit_memory",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// Cgroup of all pods, in each hierarchy.
const CGROUP: &str = "everytick-node";

/// Timeout for each part of the node. On an idle machine, all are ready after ten seconds.
const READY_TIMEOUT: Duration = Duration::from_secs(120);

/// A running node and its directory.
pub struct Node {
    directory: TempDir,
    /// Directory of the Kubernetes programs.
    programs: PathBuf,
    /// The process that holds the namespaces, then the servers in start order.
    children: Vec<Child>,
    /// Mount namespace of the servers.
    mount_namespace: PathBuf,
    /// Kernel settings to restore: files and previous values.
    previous_settings: Vec<(PathBuf, String)>,
}

impl Node {
    /// Starts a node and waits until it accepts pods.
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &&str| Path::new("/proc/sys").join(name);
        let setting = |path: PathBuf| Some((path.clone(), fs::read_to_string(path).ok()?));
        let mut node = Self {
            directory,
            programs: build("kubernetes"),
            children: Vec::new(),
            mount_namespace: PathBuf::new(),
            previous_settings: KERNEL_SETTINGS.iter().map(file).filter_map(setting).collect(),
        };
        node.create_namespaces();
        node.write_configuration();
        node.serve(
            "etcd",
            &[
                "--data-dir={directory}/etcd",
                "--listen-client-urls=http://127.0.0.1:2379",
                "--advertise-client-urls=http://127.0.0.1:2379",
                "--listen-peer-urls=http://127.0.0.1:2380",
            ],
        );
        node.serve("containerd", &["--config={directory}/containerd.toml"]);
        node.serve(
            "kube-apiserver",
            &[
                "--etcd-servers=http://127.0.0.1:2379",
                "--advertise-address={inside}",
                "--endpoint-reconciler-type=none",
                "--cert-dir={directory}/certificates",
                "--token-auth-file={directory}/tokens.csv",
                "--authorization-mode=AlwaysAllow",
                "--service-account-key-file={directory}/accounts.pem",
                "--service-account-signing-key-file={directory}/accounts.pem",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--service-cluster-ip-range=198.18.79.0/24",
                "--kubelet-preferred-address-types=InternalIP",
            ],
        );
        node.wait("the API server", &["get", "--raw", "/readyz"]);
        let kubeconfig = "--kubeconfig={directory}/kubeconfig";
        node.serve(
            "kube-controller-manager",
            &[
                kubeconfig,
                "--service-account-private-key-file={directory}/accounts.pem",
                "--leader-elect=false",
            ],
        );
        node.serve("kube-scheduler", &[kubeconfig, "--leader-elect=false"]);
        node.serve(
            "kubelet",
            &[
                kubeconfig,
                "--config={directory}/kubelet.yaml",
                "--root-dir={directory}/kubelet",
                "--hostname-override=node1",
                "--node-ip={inside}",
            ],
        );
        node.load("localhost/pause:1", &compile("pause", node.directory.path()));
        node.wait("the account of pods", &["get", "serviceaccount", "default"]);
        node.wait("the node", &["wait", "--for=condition=Ready", "node/node1", "--timeout=1s"]);
        node
    }

    /// Creates the namespaces, and the network between them and the machine.
    fn create_namespaces(&mut self) {
        // A killed test leaves its pods and its device behind.
        self.processes().into_iter().for_each(kill);
        let _ = Command::new("ip").args(["link", "del", "everytick0"]).output();
        for path in TMPFS_PATHS {
            fs::create_dir_all(path).unwrap();
        }
        let inside = format!(
            "for path in {}; do mount -t tmpfs none $path; done
             ip link set lo up; echo ready; exec sleep infinity",
            TMPFS_PATHS.join(" ")
        );
        let ready = self.directory.path().join("ready");
        let mut holder = bound_to_test("unshare");
        holder.args(["--mount", "--net", "--propagation=private", "sh", "-e", "-c", &inside]);
        self.children.push(holder.stdout(fs::File::create(&ready).unwrap()).spawn().unwrap());
        let start = Instant::now();
        while fs::read_to_string(&ready).unwrap().is_empty() {
            assert!(start.elapsed() < READY_TIMEOUT, "timeout creating the namespaces");
            std::thread::sleep(Duration::from_millis(20));
        }
        let holder = self.children[0].id();
        self.mount_namespace = fs::read_link(format!("/proc/{holder}/ns/mnt")).unwrap();
        succeed(&mut shell(&format!(
            "ip link add everytick0 type veth peer name outside netns {holder}
             ip addr add {OUTSIDE}/30 dev everytick0
             ip link set everytick0 up
             ip route add {PODS} via {INSIDE}"
        )));
        let inside = format!(
            "ip addr add {INSIDE}/30 dev outside
             ip link set outside up
             ip route add default via {OUTSIDE}"
        );
        succeed(self.inside("sh").args(["-e", "-c", &inside]));
    }

    /// Creates the cgroups, keys and configuration files of the servers.
    fn write_configuration(&self) {
        for hierarchy in hierarchies() {
            fs::create_dir_all(hierarchy.join(CGROUP)).unwrap();
        }
        succeed(
            Command::new("openssl")
                .args(["ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out"])
                .arg(self.path("accounts.pem")),
        );
        fs::create_dir(self.path("networks")).unwrap();
        self.write("tokens.csv", "token,admin,admin,system:masters\n");
        self.write("kubeconfig", include_str!("node/kubeconfig"));
        self.write("kubelet.yaml", include_str!("node/kubelet.yaml"));
        self.write("containerd.toml", include_str!("node/containerd.toml"));
        self.write("networks/pods.conflist", include_str!("node/pods.conflist"));
    }

    /// Returns the path of a file in the directory of the node.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), self.substitute(text)).unwrap();
    }

    /// Substitutes `{name}` placeholders with paths and addresses.
    fn substitute(&self, text: &str) -> String {
        let values = [
            ("{directory}", self.directory.path().to_str().unwrap()),
            ("{programs}", self.programs.to_str().unwrap()),
            ("{inside}", INSIDE),
            ("{pods}", PODS),
            ("{cgroup}", CGROUP),
        ];
        values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    }

    /// Returns a command that runs in the namespaces of the node, with its programs in `PATH`.
    fn inside(&self, program: &str) -> Command {
        let mut command = bound_to_test("nsenter");
        command.arg(format!("--target={}", self.children[0].id())).args(["--mount", "--net"]);
        let path = format!("{}:{}", self.programs.display(), std::env::var("PATH").unwrap());
        command.arg(program).env("PATH", path).stdin(Stdio::null());
        command
    }

    /// Starts a server with its own log file.
    fn serve(&mut self, program: &str, arguments: &[&str]) {
        let log = fs::File::create(self.log(program)).unwrap();
        let mut command = self.inside(program);
        command.args(arguments.iter().map(|argument| self.substitute(argument)));
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.children.push(command.spawn().unwrap());
    }

    fn log(&self, program: &str) -> PathBuf {
        self.path(&format!("{program}.log"))
    }

    /// Builds a container image of a program with `deploy/image.sh` and imports it into the node.
    pub fn load(&self, tag: &str, program: &Path) {
        let image = self.path("image.tar");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/image.sh");
        succeed(Command::new(script).arg("-o").arg(&image).args(["-t", tag]).arg(program));
        let mut load = self.inside("ctr");
        load.arg("--address").arg(self.path("containerd.sock"));
        succeed(load.args(["--namespace=k8s.io", "images", "import"]).arg(image));
    }

    /// Starts kubectl for the node.
    pub fn start_kubectl(&self, arguments: &[&str]) -> Child {
        let mut kubectl = Command::new(self.programs.join("kubectl"));
        kubectl.arg("--kubeconfig").arg(self.path("kubeconfig")).args(arguments);
        kubectl.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs kubectl; returns its output, or its error output if it fails.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.start_kubectl(arguments).wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        }
    }

    /// Runs kubectl; panics if it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments).unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
    }

    /// Retries kubectl until it succeeds.
    fn wait(&self, what: &str, arguments: &[&str]) {
        let start = Instant::now();
        while let Err(error) = self.try_kubectl(arguments) {
            assert!(start.elapsed() < READY_TIMEOUT, "timeout waiting for {what}: {error}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Returns the processes of the node: servers in its mount namespace and pods in its cgroup.
    fn processes(&self) -> Vec<u32> {
        let is_server = |pid: u32| {
            let namespace = fs::read_link(format!("/proc/{pid}/ns/mnt"));
            namespace.is_ok_and(|namespace| namespace == self.mount_namespace)
        };
        let is_pod = |pid: u32| {
            let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            cgroups.contains(&format!(":/{CGROUP}/"))
        };
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| is_server(*pid) || is_pod(*pid)).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for program in ["kubelet", "containerd", "kube-apiserver"] {
                let log = fs::read_to_string(self.log(program)).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                eprintln!("{program}:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
            }
        }
        // The kernel removes namespaces, mounts and devices with the last process in them.
        let start = Instant::now();
        loop {
            let processes = self.processes();
            if processes.is_empty() || start.elapsed() > READY_TIMEOUT {
                break;
            }
            processes.into_iter().for_each(kill);
            self.children.iter_mut().for_each(|child| drop(child.try_wait()));
            std::thread::sleep(Duration::from_millis(50));
        }
        self.children.iter_mut().for_each(|child| drop(child.kill()));
        self.children.iter_mut().for_each(|child| drop(child.wait()));
        self.previous_settings.iter().for_each(|(path, setting)| drop(fs::write(path, setting)));
        hierarchies().iter().for_each(|hierarchy| remove_cgroup(&hierarchy.join(CGROUP)));
    }
}

/// Returns the mount points of all cgroup hierarchies, v1 and v2.
fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let cgroups = fields.filter(|fields| ["cgroup", "cgroup2"].contains(&fields[2]));
    cgroups.map(|fields| fields[1].into()).collect()
}

/// Removes an empty cgroup and its descendants.
fn remove_cgroup(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(cgroup);
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// Returns a command that is killed when the test ends. It has its own process group and does not
/// receive Ctrl-C.
fn bound_to_test(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig=KILL", program]).process_group(0);
    command
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-e", "-c", script]);
    command
}
