//! Real servers, each started for one test and killed on drop.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Listen address that only this machine can reach.
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Timeout for a server to become ready, which takes two seconds on an idle machine.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// A running server and its directory.
pub struct Server {
    child: Child,
    directory: TempDir,
    /// `IP:PORT` of its API.
    pub address: String,
}

impl Server {
    /// Starts Parca with an empty store on disk and without upstream debug info servers.
    pub fn parca() -> Self {
        Self::parca_at(LOCAL)
    }

    /// Starts Parca on a given address of the machine.
    pub fn parca_at(ip: IpAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bucket = directory.path().join("bucket");
        let config = directory.path().join("parca.yaml");
        let text = format!(
            "object_storage:\n  bucket:\n    type: FILESYSTEM\n    config:\n      directory: {}\n",
            bucket.display()
        );
        fs::write(&config, text).unwrap();
        let address = free_address(ip);
        let mut command = Command::new(build("parca").join("parca"));
        command
            .arg(format!("--config-path={}", config.display()))
            .arg(format!("--http-address={address}"))
            .arg(format!("--debuginfo-cache-dir={}", directory.path().display()))
            .arg("--debuginfod-upstream-servers=http://127.0.0.1:1")
            .arg("--log-level=warn");
        let server = Self::start(command, directory, address);
        server.wait(|server| server.get("/api/agents").is_ok());
        server
    }

    /// Starts a Collector that receives over gRPC and HTTP and writes to a file; returns it with
    /// its HTTP address.
    pub fn collector() -> (Self, String) {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("collector.yaml");
        let (grpc, http) = (free_address(LOCAL), free_address(LOCAL));
        let text = format!(
            "receivers:\n  otlp:\n    protocols:\n      grpc: {{endpoint: '{grpc}'}}\n\
             \x20     http: {{endpoint: '{http}'}}\n\
             exporters:\n  file: {{path: '{}', format: json, flush_interval: 100ms}}\n\
             service:\n  telemetry: {{metrics: {{level: none}}}}\n\
             \x20 pipelines:\n    profiles: {{receivers: [otlp], exporters: [file]}}\n",
            directory.path().join("received.json").display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new(build("collector").join("collector"));
        command
            .arg(format!("--config=file:{}", config.display()))
            .arg("--feature-gates=service.profilesSupport");
        let server = Self::start(command, directory, grpc);
        let is_open = |address: &str| TcpStream::connect(address).is_ok();
        server.wait(|server| is_open(&server.address) && is_open(&http));
        (server, http)
    }

    fn start(mut command: Command, directory: TempDir, address: String) -> Self {
        let log = fs::File::create(directory.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.current_dir(directory.path()).spawn().unwrap();
        Self { child, directory, address }
    }

    fn wait(&self, is_ready: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !is_ready(self) {
            assert!(start.elapsed() < READY_TIMEOUT, "the server is not ready:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Returns the output of the server.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Returns the path of a file in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns the body of a GET request; the error is the response if its status is not 200.
    pub fn get(&self, path: &str) -> Result<Vec<u8>, String> {
        let mut stream = TcpStream::connect(&self.address).map_err(|error| error.to_string())?;
        // With HTTP 1.0, the body is not chunked and ends with the connection.
        let request = format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        let mut response = Vec::new();
        stream.read_to_end(&mut response).map_err(|error| error.to_string())?;
        let end = response.windows(4).position(|four| four == b"\r\n\r\n").ok_or("no response")?;
        let head = String::from_utf8_lossy(&response[..end]).into_owned();
        let body = response.split_off(end + 4);
        match head.split(' ').nth(1) {
            Some("200") => Ok(body),
            _ => Err(format!("{head}\n{}", String::from_utf8_lossy(&body))),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("output of the server:\n{}", self.log());
        }
    }
}

/// Builds the programs of a server if necessary; returns their directory.
pub fn build(name: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stores/build.sh");
    let output = Command::new(script).arg(name).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "tests/stores/build.sh {name} failed");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// Returns an address with a port that was free a moment ago.
fn free_address(ip: IpAddr) -> String {
    TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap().to_string()
}
