//! Builds the examples and boots them in QEMU under emulation.
//!
//! All share one cache, so that packages are fetched and the init is compiled
//! once, and one guest runs at a time. Without QEMU, protoc (for the init) or
//! a Debian archive in the host's apt configuration everything is skipped.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use support::{builds_packages, have, package_cache};

/// How long a guest may take for anything: CI machines emulate slowly.
const PATIENCE: Duration = Duration::from_secs(240);
/// Between two looks at what nobody reports.
const PAUSE: Duration = Duration::from_millis(200);

/// The guest that may run.
static TURN: Mutex<()> = Mutex::new(());

fn moby() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_moby"));
    command.arg("--cache").arg(package_cache());
    command
}

/// Waits until this test may have the machine; `None` where it cannot run at all.
fn turn() -> Option<MutexGuard<'static, ()>> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    (have("qemu-system-x86_64") && builds_packages()).then_some(turn)
}

/// Builds an example in `folder`, which is also the working folder, and returns its path.
fn build(name: &str, folder: &Path) -> PathBuf {
    let manifest =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples").join(format!("{name}.yml"));
    let output: Output = moby()
        .args(["build", "--dir", "."])
        .arg(manifest)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    folder.join(name)
}

/// A guest that `moby run` runs, with its console in a file.
struct Guest {
    child: Child,
    console: PathBuf,
    ends: Instant,
}

impl Guest {
    fn start(image: &Path, options: &[&str]) -> Self {
        let console = image.with_extension("console");
        let file = File::create(&console).unwrap();
        let child = moby()
            .args(["run", "--accel", "tcg", "--cmdline", "mitigations=off"])
            .args(options)
            .arg(image)
            .stdin(Stdio::piped())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { child, console, ends: Instant::now() + PATIENCE }
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.console).unwrap()).into_owned()
    }

    /// Asks `what` until it answers, and fails with the console once the time is over
    /// or the guest has ended.
    fn until<T>(&mut self, name: &str, mut what: impl FnMut(&mut Self) -> Option<T>) -> T {
        loop {
            // Looked at first: what an ended guest said has all been written.
            let ended = self.child.try_wait().unwrap().is_some();
            if let Some(answer) = what(self) {
                return answer;
            }
            assert!(!ended, "the guest ended before: {name}\n{}", self.said());
            assert!(Instant::now() < self.ends, "not in time: {name}\n{}", self.said());
            thread::sleep(PAUSE);
        }
    }

    fn shows(&mut self, text: &str) {
        self.until(text, |guest| guest.said().contains(text).then_some(()));
    }

    fn types(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        input.write_all(line.as_bytes()).and_then(|()| input.write_all(b"\n")).unwrap();
    }

    /// Waits for the guest's end and returns its exit code and console.
    fn end(mut self) -> (Option<i32>, String) {
        let status = self.until("the end", |guest| guest.child.try_wait().unwrap());
        (status.code(), self.said())
    }
}

impl Drop for Guest {
    /// Ends QEMU too, which a killed `moby run` could not.
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let pid = self.child.id().to_string();
            // Nobody is left to be told of a failure.
            let _ = Command::new("kill").arg(pid).status();
            let _ = self.child.wait();
        }
    }
}

/// A port of this host that nobody listens on.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Fetches `/`; `None` while nobody answers.
fn page(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1").then_some(answer)
}

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

/// Checks that each of `texts` comes behind the one before it.
fn in_order(said: &str, texts: &[&str]) {
    let mut rest = said;
    for text in texts {
        let at =
            rest.find(text).unwrap_or_else(|| panic!("expected `{text}` in its place\n{said}"));
        rest = &rest[at + text.len()..];
    }
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
