//! The image of `deploy/` is complete and reproducible, and the manifest's configuration is valid.
#![allow(clippy::unwrap_used)]

mod common;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{directory, succeed};

/// Builds an image of the program under test.
fn image(directory: &Path, name: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/image.sh");
    let out = directory.join(name);
    let mut command = Command::new(script);
    command.arg("-o").arg(&out).args(["-t", "localhost/everytick:test"]);
    let output = succeed(command.arg(env!("CARGO_BIN_EXE_everytick")));
    assert!(output.contains("localhost/everytick:test"), "{output}");
    out
}

fn unpack(archive: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    succeed(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(to));
}

#[test]
fn image_is_reproducible_and_complete() {
    let directory = directory();
    let first = image(directory.path(), "first.tar");
    assert!(fs::read(&first).unwrap() == fs::read(image(directory.path(), "second.tar")).unwrap());

    let parts = directory.path().join("parts");
    unpack(&first, &parts);
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(parts.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest[0]["RepoTags"][0], "localhost/everytick:test");
    let part = |value: &serde_json::Value| parts.join(value.as_str().unwrap());
    let config = fs::read(part(&manifest[0]["Config"])).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    let layer = part(&manifest[0]["Layers"][0]);
    let sum = succeed(Command::new("sha256sum").arg(&layer));
    let expected = format!("sha256:{}", sum.split(' ').next().unwrap());
    assert_eq!(config["rootfs"]["diff_ids"][0], *expected);

    let root = directory.path().join("root");
    unpack(&layer, &root);
    let entry = config["config"]["Entrypoint"][0].as_str().unwrap();
    let version = succeed(Command::new("chroot").arg(&root).args([entry, "--version"]));
    let expected = format!("everytick {} (", env!("CARGO_PKG_VERSION"));
    assert!(version.starts_with(&expected), "{version}");
}

/// Returns a block of text in the manifest, without its indentation.
fn block(manifest: &str, key: &str) -> String {
    let (_, rest) = manifest.split_once(&format!("{key}: |\n")).unwrap();
    let is_inside = |line: &&str| line.is_empty() || line.starts_with("    ");
    rest.lines().take_while(is_inside).map(|line| format!("{}\n", line.trim_start())).collect()
}

#[test]
fn configuration_is_valid_with_and_without_the_example_sink() {
    let directory = directory();
    let manifest =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/daemonset.yaml"))
            .unwrap();
    let text = block(&manifest, "everytick.toml");
    assert!(text.contains("listen = \"0.0.0.0:7171\"") && manifest.contains("containerPort: 7171"));
    for text in [text.clone(), text.replace("\n# ", "\n")] {
        let file = directory.path().join("everytick.toml");
        fs::write(&file, text).unwrap();
        let mut agent = Command::new(env!("CARGO_BIN_EXE_everytick"));
        succeed(agent.args(["agent", "--check-config", "--config"]).arg(&file));
    }
}
