//! The lock: which digest each reference was pinned to, for each platform.
//!
//! A JSON file beside the build, `NAME.lock`, sorted, one line an image. With
//! `--locked` nothing else is accepted: a missing entry is an error and so is
//! another digest.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::error::{NotFound, StaleLock, WithHint};
use crate::oci::{Digest, Platform, Reference};

/// The version of the file's format.
const VERSION: u32 = 1;
/// The largest lock that is read, in bytes.
const LOCK_MAX: u64 = 16 << 20;
/// The platform's place for an image of all its platforms.
const ALL: &str = "all";

/// Digests by reference and platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    version: u32,
    images: BTreeMap<String, BTreeMap<String, Digest>>,
    /// The folder that paths in it are relative to.
    #[serde(skip)]
    base: PathBuf,
}

impl Lock {
    /// Starts a lock. Packages and layouts on disk stand in it by their path
    /// from `base`, the manifest's folder, lest it tell of this machine.
    pub fn new(base: &Path) -> Self {
        Self { version: VERSION, images: BTreeMap::new(), base: plain(base) }
    }

    /// Reads a lock file, for manifests of the folder `base`.
    pub fn read(path: &Path, base: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()));
        let file = file.hint(|| "build once without --locked to write the lock".into())?;
        let mut text = String::new();
        file.take(LOCK_MAX)
            .read_to_string(&mut text)
            .with_context(|| format!("reading {}", path.display()))?;
        let lock: Self = text.parse().with_context(|| format!("reading {}", path.display()))?;
        Ok(Self { base: plain(base), ..lock })
    }

    /// Returns what a reference is called in the lock.
    fn name(&self, reference: &Reference) -> String {
        let relative = |path: &str| relative(&self.base, &plain(Path::new(path)));
        match reference {
            Reference::Package(path) => Reference::Package(relative(path)).to_string(),
            Reference::Layout(path) => Reference::Layout(relative(path)).to_string(),
            Reference::Archive(path) => Reference::Archive(relative(path)).to_string(),
            Reference::Image(_) | Reference::Debian(_) => reference.to_string(),
        }
    }

    /// Adds what a reference is, for one platform or, with `None`, as a whole.
    pub fn insert(&mut self, reference: &Reference, platform: Option<&Platform>, digest: Digest) {
        let name = self.name(reference);
        self.images.entry(name).or_default().insert(key(platform), digest);
    }

    /// Returns the text of the file.
    pub fn to_text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("strings can be written as JSON");
        text.push('\n');
        text
    }

    /// Returns the digest that a reference is pinned to, and the reference
    /// that asks for just that where its kind can.
    pub(super) fn pin(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
    ) -> Result<(Digest, Reference)> {
        let name = self.name(reference);
        let found = self.images.get(&name).and_then(|digests| digests.get(&key(platform)));
        let missing =
            || NotFound { what: format!("{name} for {}", key(platform)), place: "the lock".into() };
        let digest = *found.ok_or_else(missing).hint(way_out)?;
        let pinned = match reference {
            Reference::Image(image) => {
                let mut image = image.clone();
                image.digest = Some(digest);
                Reference::Image(image)
            }
            other => other.clone(),
        };
        Ok((digest, pinned))
    }
}

impl std::str::FromStr for Lock {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let lock: Self = serde_json::from_str(text)?;
        ensure!(
            lock.version == VERSION,
            "expected a lock of version {VERSION}, got {}",
            lock.version
        );
        Ok(lock)
    }
}

/// Makes a path absolute and takes `.` and `..` out of it, by its names alone.
fn plain(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

/// Returns the path from a folder to another path, both being plain.
fn relative(base: &Path, path: &Path) -> String {
    let shared = base.components().zip(path.components()).take_while(|(a, b)| a == b).count();
    let up = base.components().skip(shared).map(|_| Component::ParentDir);
    let steps: PathBuf = up.chain(path.components().skip(shared)).collect();
    steps.to_string_lossy().into_owned()
}

/// Refuses what is not what the lock says.
pub(super) fn check(reference: &Reference, locked: &Digest, found: &Digest) -> Result<()> {
    if locked == found {
        return Ok(());
    }
    let what = reference.to_string();
    Err(StaleLock { what, expected: *locked, found: *found }).hint(way_out)
}

fn way_out() -> String {
    "build without --locked to write the lock anew, and look at what changed".into()
}

fn key(platform: Option<&Platform>) -> String {
    platform.map_or_else(|| ALL.to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_and_fails_closed() {
        let (reference, arm): (Reference, _) = ("a/b:1".parse().unwrap(), Platform::linux("arm64"));
        let digest = Digest::of(b"x");
        let mut lock = Lock::new(Path::new("/"));
        lock.insert(&reference, Some(&arm), digest);
        let text = lock.to_text();
        assert!(text.contains(r#""linux/arm64": "sha256:"#), "{text}");
        let read: Lock = text.parse().unwrap();
        assert_eq!(read.images, lock.images);
        let (found, pinned) = read.pin(&reference, Some(&arm)).unwrap();
        assert_eq!(pinned.to_string(), format!("docker.io/a/b:1@{found}"));
        for (name, platform) in [("a/b:1", None), ("a/b:2", Some(&arm)), ("deb:x", Some(&arm))] {
            let error = read.pin(&name.parse().unwrap(), platform).unwrap_err();
            assert!(error.to_string().contains("the lock"), "{error}");
        }
        let error = check(&reference, &digest, &Digest::of(b"y")).unwrap_err();
        assert!(error.to_string().contains("docker.io/a/b:1"), "{error}");
        for bad in ["", "{}", r#"{"version":2,"images":{}}"#, r#"{"version":1,"images":{},"x":1}"#]
        {
            assert!(bad.parse::<Lock>().is_err(), "{bad}");
        }
    }
    #[test]
    fn names_paths_from_the_manifest() {
        let lock = Lock::new(Path::new("/home/x/examples"));
        for (reference, name) in [
            ("@pkg:/home/x/examples/../pkg/init", "@pkg:../pkg/init"),
            ("@pkg:/home/x/examples/./own", "@pkg:own"),
            ("oci:/srv/layout:tag", "oci:../../../srv/layout:tag"),
            ("deb:busybox", "deb:busybox"),
        ] {
            assert_eq!(lock.name(&reference.parse().unwrap()), name);
        }
    }
}
