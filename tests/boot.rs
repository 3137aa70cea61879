//! Builds the examples and boots them in QEMU under emulation.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::fs::{self, OpenOptions};
use std::process::{Command, Stdio};

use support::guest::{Guest, build, build_as, example, free_port, in_order, page, turn};
use support::have;

/// Boots an example whose web page holds `text`.
fn serves(name: &str, text: &str) {
    let Some(_turn) = turn() else { return };
    let folder = tempfile::tempdir().unwrap();
    let image = build(name, folder.path());
    let port = free_port();
    let mut guest = Guest::start(&image, &["--publish", &format!("127.0.0.1:{port}:80")]);
    let answer = guest.until("the page", |_| page(port));
    assert!(answer.contains("200 OK"), "{answer}");
    assert!(answer.contains(text), "{answer}");
}

#[test]
fn minimal_serves_a_page() {
    serves("minimal", "Served by a system that moby assembled");
}

#[test]
fn volumes_show_what_another_container_wrote() {
    serves("volumes", "written by another container");
}

#[test]
fn a_static_address_is_reached() {
    serves("static-ip", "Served by a system that moby assembled");
}

#[test]
fn services_fail_restart_wait_and_stop() {
    let Some(_turn) = turn() else { return };
    let folder = tempfile::tempdir().unwrap();
    let image = build("services", folder.path());
    let report = folder.path().join("boot.json");
    let option = format!("--boot-report={}", report.display());
    let (code, said) = Guest::start(&image, &[&option]).end();
    // The exit code of an onboot container that failed.
    assert_eq!(code, Some(1), "{said}");
    in_order(&said, &["000-broken: failed with exit code 3", "| I cannot find my disk"]);
    in_order(&said, &["restless: ended with exit code 0, starting it again in 500ms"]);
    in_order(&said, &["restless: ended", "again in 500ms", "restless: ended", "again in 1s"]);
    in_order(&said, &["stopping services", "the last words of this system", "Power down"]);
    let report: serde_json::Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    assert!(report.to_string().contains("application"), "{report}");
    // The table is in the order of the starts.
    in_order(&said, &["service    database", "service    application", "booted in"]);
}

#[test]
fn a_disk_outlives_its_boots() {
    let Some(_turn) = turn() else { return };
    let folder = tempfile::tempdir().unwrap();
    let image = build("swap", folder.path());
    for boot in ["boot 1 of this disk", "boot 2 of this disk"] {
        let mut guest = Guest::start(&image, &["--disk", "size=512M"]);
        guest.shows("swap: /var/external/swap, 64 MiB");
        guest.shows(boot);
        guest.shows("root@");
        guest.types("wc -l < /proc/swaps; poweroff");
        let (code, said) = guest.end();
        assert_eq!(code, Some(0), "{said}");
        // A heading and the file.
        in_order(&said, &["wc -l", "\n2\r"]);
    }
}

#[test]
fn data_grows_with_the_disk_and_stays() {
    let Some(_turn) = turn() else { return };
    let folder = tempfile::tempdir().unwrap();
    build_as(&example("disk"), folder.path(), &["--format", "raw"]);
    let image = folder.path().join("disk.img");
    OpenOptions::new().write(true).open(&image).unwrap().set_len(1 << 30).unwrap();
    for boot in ["boot 1 of this disk", "boot 2 of this disk"] {
        let port = free_port();
        let mut guest = Guest::start(&image, &["--publish", &format!("127.0.0.1:{port}:80")]);
        let answer = guest.until("the page", |_| page(port));
        assert!(answer.contains("Written when the image was built"), "{answer}");
        assert!(answer.contains(boot), "{answer}");
        // The file system, not only the partition.
        let said = guest.said();
        let size = said.split("/var has ").nth(1).and_then(|rest| rest.split(' ').next());
        assert!(
            size.and_then(|size| size.parse().ok()).is_some_and(|mib: u32| mib > 700),
            "{said}"
        );
        // Like a power failure: the guest is not told.
    }
    if have("sgdisk") {
        let told = Command::new("sgdisk").arg("-v").arg(&image).output().unwrap();
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        assert!(told.contains("No problems found"), "{told}");
    }
}

#[test]
fn the_console_has_a_shell() {
    let Some(_turn) = turn() else { return };
    let folder = tempfile::tempdir().unwrap();
    let image = build("getty", folder.path());
    let mut guest = Guest::start(&image, &[]);
    guest.shows("root@getty:~#");
    guest.types("echo answer=$((6*7))");
    guest.shows("answer=42");
    guest.types("poweroff");
    let (code, said) = guest.end();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn ssh_runs_a_command() {
    let Some(_turn) = turn() else { return };
    if !have("ssh") || !have("ssh-keygen") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key)
        .status()
        .unwrap();
    assert!(made.success());
    // The example takes `sshd.pub` of the working folder.
    fs::rename(key.with_extension("pub"), folder.path().join("sshd.pub")).unwrap();
    let image = build("sshd", folder.path());
    let port = free_port().to_string();
    let mut guest = Guest::start(&image, &["--publish", &format!("127.0.0.1:{port}:22")]);
    guest.shows("moby: booted in");
    let ssh = || {
        let options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes"];
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-p", &port]).arg("-i").arg(&key);
        for option in options {
            command.args(["-o", option]);
        }
        command.args(["-o", "ConnectTimeout=30", "root@127.0.0.1", "echo $((6*7))"]);
        command.stdin(Stdio::null()).output().unwrap()
    };
    let answer = ssh();
    let errors = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert!(answer.status.success(), "{errors}\n{}", guest.said());
    assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "42");
}
