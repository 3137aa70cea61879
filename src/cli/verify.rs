//! `moby build --verify`: built once more under other conditions, and
//! compared byte by byte.
//!
//! The second build is this very command in a process of its own: in another
//! folder, with another cache that has the blobs of the first one and nothing
//! that was derived from them, another umask, clock, time zone, language,
//! temporary folder and number of threads. It fetches nothing: the first
//! build's lock says what it takes, and of manifests that are no files, such as
//! standard input, it reads what the first build was given. Packages are not
//! built again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::table;
use super::ui::Ui;
use crate::env;
use crate::format::Written;
use crate::inspect::compare::{compare, first_difference};
use crate::inspect::{inspect, place};
use crate::oci::Digest;
use crate::run::process::Program;
use crate::store::Store;

/// The option by which the second build knows where it is.
pub(super) const OPTION: &str = "--verify-in";
/// How many of the files that differ within an image are told.
const TOLD: usize = 10;

/// Manifests that are no files, by name.
pub(super) type Given = BTreeMap<String, Vec<u8>>;

/// What the second build takes over from the first one.
#[derive(Debug)]
pub(super) struct First<'a> {
    /// The build's name.
    pub(super) name: &'a str,
    /// The text of its lock.
    pub(super) lock: &'a str,
    /// What it was given.
    pub(super) given: &'a Given,
}

/// Where the second build is at work.
#[derive(Debug)]
pub(super) struct Again<'a> {
    /// The folder of all that it has and makes.
    pub(super) folder: &'a Path,
}

impl Again<'_> {
    /// Returns the folder that it writes to.
    pub(super) fn out(&self) -> PathBuf {
        self.folder.join("out")
    }

    /// Returns its cache.
    pub(super) fn cache(&self) -> PathBuf {
        self.folder.join("cache")
    }

    /// Returns a manifest that the first build was given.
    pub(super) fn given(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.given_path(name);
        fs::read(&path).with_context(|| format!("reading {}", path.display()))
    }

    fn given_path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("given-{}", Digest::of(name.as_bytes()).hex()))
    }

    fn temporary(&self) -> PathBuf {
        self.folder.join("temporary")
    }

    /// Makes its folders, a cache that has the blobs of another one, and what it
    /// takes over.
    fn prepare(&self, first: &First<'_>, store: &Store) -> Result<()> {
        for folder in [self.out(), self.cache(), self.temporary()] {
            fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        }
        let (from, to) = (store.root(), self.cache());
        symlink(from.join("blobs"), to.join("blobs")).context("lending the blobs of the cache")?;
        let index = from.join("index.json");
        if index.exists() {
            fs::copy(&index, to.join("index.json")).context("copying the names of the cache")?;
        }
        let lock = self.out().join(format!("{}.lock", first.name));
        fs::write(lock, first.lock).context("writing the lock")?;
        for (name, bytes) in first.given {
            fs::write(self.given_path(name), bytes).context("writing what was given")?;
        }
        Ok(())
    }

    /// Runs this command once more.
    fn build(&self) -> Result<()> {
        let (program, mut words) = env::own_command().context("finding this program")?;
        let build = words.iter().position(|word| word == "build");
        let build = build.context("expected the command `build` in the command line")?;
        let folder = self.folder.to_string_lossy().into_owned();
        words.splice(build + 1..=build, [OPTION.to_owned(), folder]);
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = if cores == 1 { "3" } else { "1" };
        let temporary = self.temporary().to_string_lossy().into_owned();
        let settings = [
            ("RAYON_NUM_THREADS", threads),
            ("TZ", "Asia/Kathmandu"),
            ("LANG", "tr_TR.UTF-8"),
            ("LC_ALL", "tr_TR.UTF-8"),
            ("TMPDIR", &temporary),
            ("SOURCE_DATE_EPOCH", "1"),
        ];
        Program::new(program, words).output_with(&settings).map(drop)
    }
}

/// Builds once more and compares; what differs is an error, and told.
pub(super) fn verify(first: &First<'_>, written: &[Written], store: &Store, ui: &Ui) -> Result<()> {
    let temporary = store.root().join("tmp");
    let folder = tempfile::Builder::new().prefix("built again ").tempdir_in(&temporary);
    let folder = folder.with_context(|| format!("making a folder in {}", temporary.display()))?;
    let again = Again { folder: folder.path() };
    again.prepare(first, store)?;
    ui.note("building once more, to compare");
    again.build().context("building once more")?;
    // Formats share files: each is compared once.
    let written: BTreeMap<&Path, &Written> =
        written.iter().map(|file| (file.path.as_path(), file)).collect();
    let mut differ = 0;
    for file in written.values() {
        let name = file.path.file_name().context("expected a file")?;
        if let Some(text) = difference(&file.path, &again.out().join(name))? {
            differ += 1;
            ui.event(&json!({ "differs": text, "format": file.format, "file": file.path }));
            ui.note(&format!("format {}, {}: {text}", file.format, file.path.display()));
        }
    }
    let all = table::count(written.len(), "file");
    if differ > 0 {
        bail!("{differ} of {all} came out different when built again");
    }
    ui.note(&format!("verified: {all} came out the same when built again"));
    Ok(())
}

/// Tells where two files differ and what lies there; `None` where they do not.
fn difference(one: &Path, other: &Path) -> Result<Option<String>> {
    let open =
        |path: &Path| File::open(path).with_context(|| format!("opening {}", path.display()));
    let Some(offset) = first_difference(&mut open(one)?, &mut open(other)?)? else {
        return Ok(None);
    };
    let mut text = format!("differs from byte {offset} on");
    // What is there helps; that it cannot be told is no error of its own.
    if let Ok(places) = place::at(one, offset)
        && !places.is_empty()
    {
        text.push_str(&format!(" ({})", places.join(", ")));
    }
    if let (Ok(one), Ok(other)) = (inspect(one), inspect(other))
        && let Ok(found) = compare(&one, &other)
    {
        for file in found.files.iter().take(TOLD) {
            text.push_str(&format!("\n  /{}: {}", file.path, file.what.join(", ")));
        }
        for part in &found.parts {
            text.push_str(&format!("\n  {}: {} / {}", part.part, part.before, part.after));
        }
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::cpio::{Item, Writer};
    use crate::tree::{Inode, Kind, Metadata, Tree};

    /// An initrd of two archives, the second with a file of these contents.
    fn initrd(path: &Path, contents: &[u8]) {
        let mut bytes = Vec::new();
        for (name, contents) in [("first", &b"the same"[..]), ("second", contents)] {
            let mut tree = Tree::new();
            let meta = Metadata::root(0o644, 0);
            let inode = Inode { meta, kind: Kind::bytes(contents), part: 0 };
            let id = tree.insert(name.as_bytes(), inode).expect("a path");
            let mut writer = Writer::new(&mut bytes);
            let paths = vec![name.as_bytes().to_vec()];
            writer.append(&tree, &Item { id, paths }).expect("a write to memory");
            writer.finish().expect("a write to memory");
        }
        fs::write(path, bytes).expect("a file");
    }

    #[test]
    fn tells_offset_and_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        initrd(&path("one"), b"contents");
        initrd(&path("same"), b"contents");
        initrd(&path("other"), b"contentS");
        fs::write(path("short"), b"0707").expect("a file");
        assert_eq!(difference(&path("one"), &path("same")).expect("files"), None);
        let told = difference(&path("one"), &path("other")).expect("files").expect("a difference");
        let bytes = fs::read(path("one")).expect("a file");
        let at = bytes.windows(8).position(|window| window == b"contents").expect("contents") + 7;
        let wanted =
            format!("differs from byte {at} on (segment 2 of 2 (none))\n  /second: contents");
        assert_eq!(told, wanted);
        let told = difference(&path("one"), &path("short")).expect("files").expect("a difference");
        assert!(told.starts_with("differs from byte 4 on"), "{told}");
    }
}
