//! A real node of Kubernetes with all that it takes: etcd, containerd, the API server, the controllers, the scheduler
//! and the kubelet, for one story and gone with it.
//!
//! All of them are in a network and a mount namespace of their own, and pods in a cgroup of their own, so that nothing stays on
//! the machine. Pods see the machine's processes if they ask to, as on any node. The story reaches the node by a pair of
//! virtual Ethernet devices: what listens on [`OUTSIDE`] is what pods can send to.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::common::succeed;
use crate::compile;
use crate::servers::built;

/// The machine's address at the node's network. It is one of those that are set aside for benchmarks (RFC 2544).
pub const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 77, 1));

/// The node's address, and those of its pods.
const INSIDE: &str = "198.18.77.2";
const PODS: &str = "198.18.78.0/24";

/// Where its servers keep what they do not keep in the node's directory: nothing of it is to stay.
const COVERED: [&str; 6] = [
    "/run/netns",
    "/run/containerd",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log",
    "/usr/libexec",
];

/// Settings of the kernel that the kubelet changes.
const CHANGED: [&str; 5] = [
    "vm/overcommit_memory",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// The cgroup of all pods, in each hierarchy.
const CGROUP: &str = "everytick-node";

/// Longest wait for a part of the node. On an idle machine all of them are there after ten seconds.
const READY: Duration = Duration::from_secs(120);

/// The node, and the directory of everything that it writes.
pub struct Node {
    place: TempDir,
    /// Where the programs are.
    programs: PathBuf,
    /// Who holds the namespaces, and then the servers in the order in which they were started.
    children: Vec<Child>,
    /// Its mount namespace.
    namespace: PathBuf,
    /// What the kernel's settings were, by their files.
    before: Vec<(PathBuf, String)>,
}

impl Node {
    /// Starts a node and waits until it takes pods.
    pub fn start() -> Self {
        let place = tempfile::tempdir().unwrap();
        let file = |name: &&str| Path::new("/proc/sys").join(name);
        let setting = |path: PathBuf| Some((path.clone(), fs::read_to_string(path).ok()?));
        let mut node = Self {
            place,
            programs: built("kubernetes"),
            children: Vec::new(),
            namespace: PathBuf::new(),
            before: CHANGED.iter().map(file).filter_map(setting).collect(),
        };
        node.enclose();
        node.configure();
        node.serve(
            "etcd",
            &[
                "--data-dir={place}/etcd",
                "--listen-client-urls=http://127.0.0.1:2379",
                "--advertise-client-urls=http://127.0.0.1:2379",
                "--listen-peer-urls=http://127.0.0.1:2380",
            ],
        );
        node.serve("containerd", &["--config={place}/containerd.toml"]);
        node.serve(
            "kube-apiserver",
            &[
                "--etcd-servers=http://127.0.0.1:2379",
                "--advertise-address={inside}",
                "--endpoint-reconciler-type=none",
                "--cert-dir={place}/certificates",
                "--token-auth-file={place}/tokens.csv",
                "--authorization-mode=AlwaysAllow",
                "--service-account-key-file={place}/accounts.pem",
                "--service-account-signing-key-file={place}/accounts.pem",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--service-cluster-ip-range=198.18.79.0/24",
                "--kubelet-preferred-address-types=InternalIP",
            ],
        );
        node.wait("the API server", &["get", "--raw", "/readyz"]);
        let kubeconfig = "--kubeconfig={place}/kubeconfig";
        node.serve(
            "kube-controller-manager",
            &[
                kubeconfig,
                "--service-account-private-key-file={place}/accounts.pem",
                "--leader-elect=false",
            ],
        );
        node.serve("kube-scheduler", &[kubeconfig, "--leader-elect=false"]);
        node.serve(
            "kubelet",
            &[
                kubeconfig,
                "--config={place}/kubelet.yaml",
                "--root-dir={place}/kubelet",
                "--hostname-override=node1",
                "--node-ip={inside}",
            ],
        );
        node.load("localhost/pause:1", &compile("pause", node.place.path()));
        node.wait("the account of pods", &["get", "serviceaccount", "default"]);
        node.wait("the node", &["wait", "--for=condition=Ready", "node/node1", "--timeout=1s"]);
        node
    }

    /// Makes the namespaces, and the network between them and the machine.
    fn enclose(&mut self) {
        // A test that was killed has left its pods and its device.
        self.processes().into_iter().for_each(kill);
        let _ = Command::new("ip").args(["link", "del", "everytick0"]).output();
        for covered in COVERED {
            fs::create_dir_all(covered).unwrap();
        }
        let inside = format!(
            "for covered in {}; do mount -t tmpfs none $covered; done
             ip link set lo up; echo ready; exec sleep infinity",
            COVERED.join(" ")
        );
        let ready = self.place.path().join("ready");
        let mut holder = mortal("unshare");
        holder.args(["--mount", "--net", "--propagation=private", "sh", "-e", "-c", &inside]);
        self.children.push(holder.stdout(fs::File::create(&ready).unwrap()).spawn().unwrap());
        let start = Instant::now();
        while fs::read_to_string(&ready).unwrap().is_empty() {
            assert!(start.elapsed() < READY, "no namespaces");
            std::thread::sleep(Duration::from_millis(20));
        }
        let holder = self.children[0].id();
        self.namespace = fs::read_link(format!("/proc/{holder}/ns/mnt")).unwrap();
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

    /// Writes what the servers are started with.
    fn configure(&self) {
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

    /// A file in the node's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), self.fill(text)).unwrap();
    }

    /// Puts paths and addresses where a text names them.
    fn fill(&self, text: &str) -> String {
        let known = [
            ("{place}", self.place.path().to_str().unwrap()),
            ("{programs}", self.programs.to_str().unwrap()),
            ("{inside}", INSIDE),
            ("{pods}", PODS),
            ("{cgroup}", CGROUP),
        ];
        known.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    }

    /// A program that runs in the node's namespaces, and finds the node's programs.
    fn inside(&self, program: &str) -> Command {
        let mut command = mortal("nsenter");
        command.arg(format!("--target={}", self.children[0].id())).args(["--mount", "--net"]);
        let path = format!("{}:{}", self.programs.display(), std::env::var("PATH").unwrap());
        command.arg(program).env("PATH", path).stdin(Stdio::null());
        command
    }

    /// Starts a server that writes to a log of its own.
    fn serve(&mut self, program: &str, arguments: &[&str]) {
        let log = fs::File::create(self.log(program)).unwrap();
        let mut command = self.inside(program);
        command.args(arguments.iter().map(|argument| self.fill(argument)));
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.children.push(command.spawn().unwrap());
    }

    fn log(&self, program: &str) -> PathBuf {
        self.path(&format!("{program}.log"))
    }

    /// Makes a container image of a program, as `deploy/image.sh` makes ours, and gives it to the node.
    pub fn load(&self, tag: &str, program: &Path) {
        let image = self.path("image.tar");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/image.sh");
        succeed(Command::new(script).arg("-o").arg(&image).args(["-t", tag]).arg(program));
        let mut load = self.inside("ctr");
        load.arg("--address").arg(self.path("containerd.sock"));
        succeed(load.args(["--namespace=k8s.io", "images", "import"]).arg(image));
    }

    /// Begins to ask the node's API server.
    pub fn start_kubectl(&self, arguments: &[&str]) -> Child {
        let mut kubectl = Command::new(self.programs.join("kubectl"));
        kubectl.arg("--kubeconfig").arg(self.path("kubeconfig")).args(arguments);
        kubectl.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Asks; gives what kubectl prints, or what it complains about.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.start_kubectl(arguments).wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        }
    }

    /// As [`Self::try_kubectl`], of what has to be right.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments).unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
    }

    /// Waits until kubectl succeeds with this.
    fn wait(&self, what: &str, arguments: &[&str]) {
        let start = Instant::now();
        while let Err(error) = self.try_kubectl(arguments) {
            assert!(start.elapsed() < READY, "{what} did not come: {error}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// All processes of the node: servers are in its mount namespace, and pods in its cgroup.
    fn processes(&self) -> Vec<u32> {
        let is_server = |pid: u32| {
            let namespace = fs::read_link(format!("/proc/{pid}/ns/mnt"));
            namespace.is_ok_and(|namespace| namespace == self.namespace)
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
        // Namespaces, mounts and devices go with the last process that is in them.
        let start = Instant::now();
        loop {
            let processes = self.processes();
            if processes.is_empty() || start.elapsed() > READY {
                break;
            }
            processes.into_iter().for_each(kill);
            self.children.iter_mut().for_each(|child| drop(child.try_wait()));
            std::thread::sleep(Duration::from_millis(50));
        }
        self.children.iter_mut().for_each(|child| drop(child.kill()));
        self.children.iter_mut().for_each(|child| drop(child.wait()));
        self.before.iter().for_each(|(path, setting)| drop(fs::write(path, setting)));
        hierarchies().iter().for_each(|hierarchy| remove_cgroup(&hierarchy.join(CGROUP)));
    }
}

/// Where the hierarchies of cgroups are mounted, of both versions.
fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let cgroups = fields.filter(|fields| ["cgroup", "cgroup2"].contains(&fields[2]));
    cgroups.map(|fields| fields[1].into()).collect()
}

/// Removes an empty cgroup with those below it.
fn remove_cgroup(cgroup: &Path) {
    for below in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if below.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&below.path());
        }
    }
    let _ = fs::remove_dir(cgroup);
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// A program that ends with the test, and of which Ctrl-C is none of its business.
fn mortal(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig=KILL", program]).process_group(0);
    command
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-e", "-c", script]);
    command
}
