//! What the integration tests share: the built `moby` in a clean environment,
//! the recorded LinuxKit, and initial roots taken apart.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test says what it skips, and looks for programs where the host has them"
)]

pub(crate) mod cloud;
pub(crate) mod guest;
pub(crate) mod initrd;
pub(crate) mod layout;
pub(crate) mod proxy;
pub(crate) mod registry;
pub(crate) mod system;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Returns the built `moby`, with none of this process's environment but the
/// path of programs, and `home` as the user's home.
pub(crate) fn moby(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_moby"));
    command.env_clear().env("HOME", home).env("LC_ALL", "C.UTF-8");
    command.envs(std::env::vars_os().filter(|(name, _)| name == "PATH"));
    command.stdin(std::process::Stdio::null());
    command
}

/// Runs a command to its end.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Runs a command that must succeed.
#[track_caller]
pub(crate) fn succeed(command: &mut Command) -> Output {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, stderr(&output));
    output
}

/// What a command told people.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns a file or folder that lies beside the repository, in `shared/`. A
/// test that needs one it has not says so and ends.
pub(crate) fn shared(part: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(part);
    if !path.exists() {
        eprintln!("skipped: ../shared/{part} is not there");
        return None;
    }
    Some(path.canonicalize().expect("a path that exists"))
}

/// Tells whether a program is installed. A test that needs one it has not says
/// so and ends.
pub(crate) fn have(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

/// Tells whether all is to be tested that takes long, as `tools/test --soak` asks.
pub(crate) fn is_soak() -> bool {
    std::env::var("MOBY_SOAK").is_ok_and(|value| value == "true")
}

/// Tells the same, and says so where it skips what only a soak has time for.
pub(crate) fn soaks() -> bool {
    let soak = is_soak();
    if !soak {
        eprintln!("skipped: MOBY_SOAK is not true");
    }
    soak
}

/// The names in a folder, in order.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.expect("an entry").file_name().into_string().expect("a name of UTF-8")
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

/// Tells whether packages can be built here: the host's apt names an archive,
/// and there is what the init is compiled with.
pub(crate) fn builds_packages() -> bool {
    let lists = ["/etc/apt/sources.list", "/etc/apt/sources.list.d"];
    if !lists.iter().any(|path| Path::new(path).exists()) {
        eprintln!("skipped: no Debian archive is in apt's configuration");
        return false;
    }
    have("protoc")
}

/// The cache of the tests that build packages: what one fetched and compiled
/// is there for the next.
pub(crate) fn package_cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("package-cache")
}
