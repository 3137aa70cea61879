//! Built twice, the same bytes: in another folder, with another cache, umask,
//! time zone, language and thread count, by another user.

#![allow(clippy::print_stderr, reason = "what was skipped is told")]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use support::layout;

/// Any user but root, in whose shoes the second build runs.
const NOBODY: u32 = 65534;

/// A place to build in: a home, and a program that somebody else may run.
struct Place {
    folder: tempfile::TempDir,
    /// What stands before the program.
    before: Vec<String>,
    settings: [(&'static str, &'static str); 4],
}

impl Place {
    fn first() -> Self {
        Self::new(
            "umask 022",
            None,
            [
                ("TZ", "UTC"),
                ("LANG", "C.UTF-8"),
                ("RAYON_NUM_THREADS", "1"),
                ("SOURCE_DATE_EPOCH", ""),
            ],
        )
    }

    fn second() -> Self {
        let root = rustix::process::geteuid().is_root() && support::have("setpriv");
        if !root {
            eprintln!("skipped: only root can build as somebody else");
        }
        Self::new(
            "umask 077",
            root.then_some(NOBODY),
            [
                ("TZ", "Asia/Kathmandu"),
                ("LANG", "tr_TR.UTF-8"),
                ("RAYON_NUM_THREADS", "4"),
                ("USER", "somebody"),
            ],
        )
    }

    fn new(umask: &str, user: Option<u32>, settings: [(&'static str, &'static str); 4]) -> Self {
        let folder =
            tempfile::Builder::new().prefix("another folder ").tempdir().expect("a folder");
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("a mode");
        let mut before = Vec::new();
        if let Some(user) = user {
            chown(folder.path(), Some(user), Some(user)).expect("an owner");
            let id = user.to_string();
            let words = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"];
            before.extend(words.map(str::to_owned));
        }
        let script = format!("{umask}; exec \"$@\"");
        before.extend(["sh", "-c", &script, "sh"].map(str::to_owned));
        Self { folder, before, settings }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `moby` in this place.
    fn moby(&self, program: &Path) -> Command {
        let mut command = Command::new(&self.before[0]);
        command.args(&self.before[1..]).arg(program).current_dir(self.folder.path());
        command.env_clear().env("HOME", self.folder.path()).envs(self.settings);
        command.envs(std::env::vars_os().filter(|(name, _)| name == "PATH"));
        command.stdin(std::process::Stdio::null());
        command.arg("--cache").arg(self.path("cache"));
        command
    }
}

/// A copy of the program that any user may run, wherever the build put it.
fn program() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("a mode");
    let copy = folder.path().join("moby");
    fs::copy(env!("CARGO_BIN_EXE_moby"), &copy).expect("a copy of moby");
    fs::set_permissions(&copy, PermissionsExt::from_mode(0o755)).expect("a mode");
    (folder, copy)
}

/// The digests of all files of a folder, by name.
fn digests(folder: &Path) -> Vec<(String, String)> {
    let digest = |name: String| {
        let bytes = fs::read(folder.join(&name)).expect("a file that was written");
        (name, layout::digest(&bytes))
    };
    support::names(folder).into_iter().map(digest).collect()
}

#[test]
fn every_format_comes_out_the_same_anywhere() {
    let images = tempfile::tempdir().expect("a folder");
    fs::set_permissions(images.path(), PermissionsExt::from_mode(0o755)).expect("a mode");
    let manifest = layout::system(&images.path().join("layout"), 300_000);
    let (_kept, program) = program();
    let built: Vec<Vec<(String, String)>> = [Place::first(), Place::second()]
        .iter()
        .map(|place| {
            let import = place
                .moby(&program)
                .args(["cache", "import"])
                .arg(images.path().join("layout"))
                .output();
            let import = import.expect("moby");
            assert!(import.status.success(), "{}", support::stderr(&import));
            fs::write(place.path("made.yml"), &manifest).expect("the manifest");
            let mut found = Vec::new();
            // Boot loaders come from Debian's archive, which may be out of reach.
            let alone = |format: &&moby::format::Format| format.loaders.is_empty();
            for format in moby::format::FORMATS.iter().filter(alone) {
                let mut build = place.moby(&program);
                build.args(["build", "--format", format.name, "--dir"]);
                support::succeed(build.arg(place.path("out")).arg("made.yml"));
                let files = digests(&place.path("out"));
                found.extend(
                    files
                        .into_iter()
                        .map(|(name, digest)| (format!("{}: {name}", format.name), digest)),
                );
                fs::remove_dir_all(place.path("out")).expect("the folder that was written");
            }
            found
        })
        .collect();
    assert_eq!(built[0], built[1]);
}

#[test]
fn a_second_build_gives_the_bytes_of_the_first_with_a_warm_cache() {
    let images = tempfile::tempdir().expect("a folder");
    let manifest = layout::system(&images.path().join("layout"), 300_000);
    let place = Place::first();
    let moby = || place.moby(Path::new(env!("CARGO_BIN_EXE_moby")));
    support::succeed(moby().args(["cache", "import"]).arg(images.path().join("layout")));
    fs::write(place.path("made.yml"), &manifest).expect("the manifest");
    let all: Vec<_> =
        moby::format::FORMATS.iter().filter(|f| !f.single && f.loaders.is_empty()).collect();
    let names: Vec<_> = all.iter().map(|format| format.name).collect();
    for out in ["cold", "warm"] {
        let mut build = moby();
        build.args(["build", "--format", &names.join(","), "--dir", out, "made.yml"]);
        support::succeed(&mut build);
    }
    assert_eq!(digests(&place.path("cold")), digests(&place.path("warm")));
}
