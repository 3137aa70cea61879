//! Guests: systems built by the shared cache of packages and booted in QEMU
//! under emulation, a few at a time.
//!
//! Without QEMU, protoc (for the init) or a Debian archive in the host's apt
//! configuration [`turn`] says so, and there is nothing to boot.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{builds_packages, have, package_cache};

/// How long a guest may take for anything: CI machines emulate slowly, and
/// slower yet beside other work. One that ends is noticed at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(900);
/// Between two looks at what nobody reports.
const PAUSE: Duration = Duration::from_millis(200);

/// How many guests run side by side: each keeps one core busy.
pub(crate) const SIDE_BY_SIDE: usize = 2;

/// How many run now, and the news of an end.
static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

/// Returns `moby` with the cache of packages, in this process's environment.
pub(crate) fn packaged() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_moby"));
    command.arg("--cache").arg(package_cache());
    command
}

/// The right to run a guest.
#[derive(Debug)]
pub(crate) struct Turn(());

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ENDED.notify_one();
    }
}

/// Waits until this test may run a guest; `None` where it cannot run any.
pub(crate) fn turn() -> Option<Turn> {
    if !have("qemu-system-x86_64") || !builds_packages() {
        return None;
    }
    let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut running = ENDED
        .wait_while(running, |running| *running >= SIDE_BY_SIDE)
        .unwrap_or_else(PoisonError::into_inner);
    *running += 1;
    Some(Turn(()))
}

/// Builds an example in `folder`, which is also the working folder, and returns its path.
pub(crate) fn build(name: &str, folder: &Path) -> PathBuf {
    build_as(&example(name), folder, &[]);
    folder.join(name)
}

/// Returns the path of an example.
pub(crate) fn example(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples").join(format!("{name}.yml"))
}

/// Builds a manifest in `folder`, which is also the working folder, with further options.
pub(crate) fn build_as(manifest: &Path, folder: &Path, options: &[&str]) {
    let output: Output = packaged()
        .args(["build", "--dir", "."])
        .args(options)
        .arg(manifest)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {told}", manifest.display());
}

/// A guest that `moby run` runs, with its console in a file.
#[derive(Debug)]
pub(crate) struct Guest {
    child: Child,
    console: PathBuf,
    ends: Instant,
}

impl Guest {
    /// Starts an image, with further options of `moby run`.
    pub(crate) fn start(image: &Path, options: &[&str]) -> Self {
        Self::start_by(Command::new("env"), image, options)
    }

    /// Starts an image by a program that runs the command behind its own words.
    pub(crate) fn start_by(mut program: Command, image: &Path, options: &[&str]) -> Self {
        let console = image.with_extension("console");
        let file = File::create(&console).unwrap();
        let moby = packaged();
        let child = program
            .arg(moby.get_program())
            .args(moby.get_args())
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

    /// The file that takes what the console shows.
    pub(crate) fn console(&self) -> &Path {
        &self.console
    }

    /// Returns all that the console has shown.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.console).unwrap()).into_owned()
    }

    /// Asks `what` until it answers, and fails with the console once the time is over
    /// or the guest has ended.
    pub(crate) fn until<T>(
        &mut self,
        name: &str,
        mut what: impl FnMut(&mut Self) -> Option<T>,
    ) -> T {
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

    /// Waits until the console shows `text`.
    pub(crate) fn shows(&mut self, text: &str) {
        self.until(text, |guest| guest.said().contains(text).then_some(()));
    }

    /// Types a line at the console.
    pub(crate) fn types(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        input.write_all(line.as_bytes()).and_then(|()| input.write_all(b"\n")).unwrap();
    }

    /// Waits for the guest's end and returns its exit code and console.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
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
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Fetches `/`; `None` while nobody answers.
pub(crate) fn page(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1").then_some(answer)
}

/// Checks that each of `texts` comes behind the one before it.
pub(crate) fn in_order(said: &str, texts: &[&str]) {
    let mut rest = said;
    for text in texts {
        let at =
            rest.find(text).unwrap_or_else(|| panic!("expected `{text}` in its place\n{said}"));
        rest = &rest[at + text.len()..];
    }
}
