//! The lock: which digest each reference was pinned to, for each platform.
//!
//! A JSON file beside the build, `NAME.lock`, sorted, one line an image. With
//! `--locked` nothing else is accepted: a missing entry is an error and so is
//! another digest.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

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
}

impl Default for Lock {
    fn default() -> Self {
        Self { version: VERSION, images: BTreeMap::new() }
    }
}

impl Lock {
    /// Reads a lock file.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()));
        let file = file.hint(|| "build once without --locked to write the lock".into())?;
        let mut text = String::new();
        file.take(LOCK_MAX)
            .read_to_string(&mut text)
            .with_context(|| format!("reading {}", path.display()))?;
        text.parse().with_context(|| format!("reading {}", path.display()))
    }

    /// Adds what a reference is, for one platform or, with `None`, as a whole.
    pub fn insert(&mut self, reference: &Reference, platform: Option<&Platform>, digest: Digest) {
        self.images.entry(reference.to_string()).or_default().insert(key(platform), digest);
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
        let name = reference.to_string();
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
        let mut lock = Lock::default();
        lock.insert(&reference, Some(&arm), digest);
        let text = lock.to_text();
        assert!(text.contains(r#""linux/arm64": "sha256:"#), "{text}");
        let read: Lock = text.parse().unwrap();
        assert_eq!(read, lock);
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
}
