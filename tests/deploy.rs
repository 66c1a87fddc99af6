//! What `deploy/` promises: an image that holds all it needs and is the same each time; a configuration that is right.
#![allow(clippy::unwrap_used)]

mod common;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{directory, succeed};

/// Makes an image of the program under test.
fn image(place: &Path, name: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/image.sh");
    let out = place.join(name);
    let mut command = Command::new(script);
    command.arg("-o").arg(&out).args(["-t", "localhost/everytick:test"]);
    let said = succeed(command.arg(env!("CARGO_BIN_EXE_everytick")));
    assert!(said.contains("localhost/everytick:test"), "{said}");
    out
}

fn unpack(archive: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    succeed(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(to));
}

#[test]
fn the_image_is_the_same_each_time_and_holds_all_that_the_program_needs() {
    let place = directory();
    let first = image(place.path(), "first.tar");
    assert!(fs::read(&first).unwrap() == fs::read(image(place.path(), "second.tar")).unwrap());

    let parts = place.path().join("parts");
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

    let root = place.path().join("root");
    unpack(&layer, &root);
    let entry = config["config"]["Entrypoint"][0].as_str().unwrap();
    let version = succeed(Command::new("chroot").arg(&root).args([entry, "--version"]));
    assert_eq!(version, format!("everytick {}\n", env!("CARGO_PKG_VERSION")));
}

/// A block of text in the manifest, without its indentation.
fn block(manifest: &str, key: &str) -> String {
    let (_, rest) = manifest.split_once(&format!("{key}: |\n")).unwrap();
    let is_inside = |line: &&str| line.is_empty() || line.starts_with("    ");
    rest.lines().take_while(is_inside).map(|line| format!("{}\n", line.trim_start())).collect()
}

#[test]
fn the_manifests_configuration_is_right_also_with_its_example_of_a_sink() {
    let place = directory();
    let manifest =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/daemonset.yaml"))
            .unwrap();
    let text = block(&manifest, "everytick.toml");
    assert!(text.contains("listen = \"0.0.0.0:7171\"") && manifest.contains("containerPort: 7171"));
    for text in [text.clone(), text.replace("\n# ", "\n")] {
        let file = place.path().join("everytick.toml");
        fs::write(&file, text).unwrap();
        let mut agent = Command::new(env!("CARGO_BIN_EXE_everytick"));
        succeed(agent.args(["agent", "--check-config", "--config"]).arg(&file));
    }
}
