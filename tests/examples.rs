//! Every example, and the smallest one in every format, built twice: by this
//! user and by one without any rights, in other folders, umasks, time zones
//! and numbers of threads, the second time with nothing compressed before.
//! The same bytes must come out.
//!
//! Shares the cache of `tests/boot.rs`, in which packages are there already.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use moby::format::{DEFAULT, FORMATS};
use moby::oci::{Digest, Platform};
use support::{builds_packages, have, package_cache};

/// The user and group without rights.
const NOBODY: &str = "65534";

/// Formats that can be written side by side: no two of a list share a name.
fn batches() -> Vec<Vec<&'static str>> {
    let mut batches: Vec<(Vec<&str>, BTreeSet<&str>)> = Vec::new();
    for format in FORMATS.iter().filter(|format| !format.single && format.is_for(&Platform::host()))
    {
        let fits = |(_, names): &&mut (Vec<&str>, BTreeSet<&str>)| {
            format.files.iter().all(|file| !names.contains(file))
        };
        let at = match batches.iter_mut().find(fits) {
            Some(batch) => batch,
            None => {
                batches.push(Default::default());
                batches.last_mut().expect("one was pushed")
            }
        };
        at.0.push(format.name);
        at.1.extend(format.files);
    }
    let single = FORMATS.iter().filter(|format| format.single).map(|format| vec![format.name]);
    batches.into_iter().map(|(names, _)| names).chain(single).collect()
}

fn run(mut command: Command, what: &str) {
    let output = command.stdin(Stdio::null()).output().expect("a command that runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {told}");
}

fn build(words: &[String], cache: &Path, folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_moby"));
    command.arg("--cache").arg(cache).args(["build", "--dir"]).arg(folder).args(words);
    command.current_dir(folder);
    command
}

/// The same by nobody: with a cache of its own that has what was fetched, and
/// nothing that was derived from it.
fn build_as_nobody(words: &[String], cache: &Path, folder: &Path) -> Command {
    let mut shell = Command::new("sh");
    let moby = env!("CARGO_BIN_EXE_moby");
    shell.args(["-c", "umask 077; exec \"$@\"", "sh"]);
    if rustix::process::geteuid().is_root() {
        shell.args(["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
    }
    shell.arg(moby).arg("--cache").arg(cache).args(["build", "--offline", "--dir"]).arg(folder);
    shell.args(words).current_dir(folder);
    shell.env("TZ", "Asia/Kathmandu").env("LANG", "tr_TR.UTF-8").env("HOME", folder);
    shell.env("RAYON_NUM_THREADS", "3");
    shell
}

fn digests(folder: &Path) -> BTreeMap<String, Digest> {
    let entries = fs::read_dir(folder).expect("a folder that can be read");
    let files = entries.map(|entry| entry.expect("an entry").path());
    let digest = |path: PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        (name, Digest::of(&fs::read(&path).expect("a file that can be read")))
    };
    files.filter(|path| path.is_file()).map(digest).collect()
}

fn other_cache(place: &Path) -> PathBuf {
    let other = place.join("cache");
    let mut copy = Command::new("cp");
    copy.arg("-al").arg(package_cache()).arg(&other);
    run(copy, "linking the cache");
    fs::remove_dir_all(other.join("derived")).expect("a folder that can be removed");
    other
}

fn hand_over(place: &Path) {
    if rustix::process::geteuid().is_root() {
        let mut chown = Command::new("chown");
        chown.arg("-R").arg(format!("{NOBODY}:{NOBODY}")).arg(place);
        run(chown, "handing a folder over");
    }
}

#[test]
fn come_out_the_same_for_anybody() {
    if !(have("setpriv") && builds_packages()) {
        return;
    }
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let minimal = examples.join("minimal.yml").display().to_string();
    let mut builds: Vec<Vec<String>> = batches()
        .iter()
        .map(|formats| vec!["--format".to_owned(), formats.join(","), minimal.clone()])
        .collect();
    let entries = fs::read_dir(&examples).expect("examples");
    let mut all: Vec<_> = entries.map(|entry| entry.expect("an example").path()).collect();
    all.sort();
    builds.extend(all.iter().map(|path| {
        // Data needs a disk.
        let format = if path.ends_with("disk.yml") { "raw" } else { DEFAULT };
        vec!["--format".to_owned(), format.to_owned(), path.display().to_string()]
    }));

    let folder = |who: &str, at: usize| {
        let folder = place.path().join(format!("{who}-{at}"));
        fs::create_dir(&folder).expect("a folder");
        folder
    };
    let ours: Vec<PathBuf> = builds
        .iter()
        .enumerate()
        .map(|(at, words)| {
            let folder = folder("ours", at);
            run(build(words, &package_cache(), &folder), &words.join(" "));
            folder
        })
        .collect();
    let theirs = other_cache(place.path());
    let others: Vec<PathBuf> = (0..builds.len()).map(|at| folder("theirs", at)).collect();
    hand_over(place.path());
    for ((words, ours), others) in builds.iter().zip(&ours).zip(&others) {
        run(build_as_nobody(words, &theirs, others), &words.join(" "));
        let (ours, others) = (digests(ours), digests(others));
        assert!(ours.len() > 1, "{words:?} wrote {ours:?}");
        assert_eq!(ours, others, "{words:?}");
    }
}
