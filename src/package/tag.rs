//! The tag of a package: a hash of everything that it is made from.
//!
//! Names, contents and whether a file may be run count; owners, times, umask
//! and the folder's own place do not, and no version control is asked. What
//! cannot be read from the folder, such as the versions of Debian packages,
//! is a lock's business.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::recipe::Recipe;
use crate::error::WithHint;
use crate::oci::Hasher;

/// Changes when the same recipe comes to another image.
const VERSION: &str = "moby-package-1";
/// How many hex digits of the hash a tag has: as many as git's.
const DIGITS: usize = 40;
/// The most files of one package.
const FILES_MAX: usize = 100_000;

/// Returns the tag of a package.
pub fn tag(dir: &Path, recipe: &Recipe) -> Result<String> {
    if let Some(tag) = &recipe.tag {
        return Ok(tag.value.clone());
    }
    let mut hasher = Hasher::new(io::sink());
    hasher.write_all(VERSION.as_bytes())?;
    add(&mut hasher, "", dir)?;
    for extra in recipe.extra_sources.iter().flatten() {
        let (source, name) = extra.value.split_once(':').unwrap_or((&extra.value, &extra.value));
        add(&mut hasher, name, &dir.join(source))?;
    }
    if recipe.builder.as_ref().is_some_and(|builder| builder.cargo.is_some()) {
        let root = workspace(dir)?;
        for name in ["Cargo.toml", "Cargo.lock"] {
            add(&mut hasher, name, &root.join(name))?;
        }
    }
    let mut hex = hasher.finish().1.hex();
    hex.truncate(DIGITS);
    Ok(hex)
}

/// Finds the Cargo workspace that a folder lies in: the nearest one above
/// with a lock file.
pub(super) fn workspace(dir: &Path) -> Result<PathBuf> {
    let dir = dir.canonicalize().with_context(|| format!("finding {}", dir.display()))?;
    let mut above = dir.ancestors();
    let found = above.find(|dir| dir.join("Cargo.lock").exists());
    found.map(Path::to_owned).with_context(|| {
        format!("expected a Cargo.lock in {} or above it, found none", dir.display())
    })
}

/// Adds a file, or a folder with all in it, under a name.
fn add(hasher: &mut Hasher<io::Sink>, name: &str, path: &Path) -> Result<()> {
    let mut found = BTreeMap::new();
    gather(path, name.as_bytes().to_vec(), &mut found)?;
    for (name, path) in found {
        add_one(hasher, &name, &path).with_context(|| format!("reading {}", path.display()))?;
    }
    Ok(())
}

fn gather(path: &Path, name: Vec<u8>, found: &mut BTreeMap<Vec<u8>, PathBuf>) -> Result<()> {
    let meta = fs::symlink_metadata(path)
        .with_context(|| format!("reading {}", path.display()))
        .hint(|| "`extra-sources` and `files` are relative to the package's folder".to_owned())?;
    if !meta.is_dir() {
        ensure!(found.len() < FILES_MAX, "expected at most {FILES_MAX} files, got more");
        found.insert(name, path.to_owned());
        return Ok(());
    }
    let entries = fs::read_dir(path).with_context(|| format!("reading {}", path.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("reading {}", path.display()))?;
        let file_name = entry.file_name();
        // What version control, builds and editors leave is not the package.
        if file_name == ".git" || file_name == "target" || file_name.as_bytes().ends_with(b"~") {
            continue;
        }
        gather(&entry.path(), crate::tree::join(&name, file_name.as_bytes()), found)?;
    }
    Ok(())
}

fn add_one(hasher: &mut Hasher<io::Sink>, name: &[u8], path: &Path) -> Result<()> {
    let meta = fs::symlink_metadata(path)?;
    let mut content = Hasher::new(io::sink());
    let kind = if meta.is_symlink() {
        content.write_all(fs::read_link(path)?.as_os_str().as_bytes())?;
        "link"
    } else {
        ensure!(meta.is_file(), "expected a file, a folder or a link, found something else");
        io::copy(&mut File::open(path)?, &mut content)?;
        if meta.permissions().mode() & 0o100 != 0 { "program" } else { "file" }
    };
    // Lengths before texts: no two lists of files are written alike.
    write!(hasher, "\n{kind} {} ", name.len())?;
    hasher.write_all(name)?;
    write!(hasher, " {}", content.finish().1.hex())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn package(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn tag_of(dir: &Path) -> String {
        tag(dir, &Recipe::read(dir).unwrap()).unwrap()
    }

    #[test]
    fn depends_on_content_alone() {
        let files = [("build.yml", "image: x\n"), ("etc/a", "1"), ("run", "#!/bin/sh\n")];
        let (one, two) = (package(&files), package(&files));
        let path = two.path().join("run");
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        File::open(&path).unwrap().set_modified(time).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::create_dir(two.path().join(".git")).unwrap();
        fs::write(two.path().join(".git/x"), "").unwrap();
        fs::write(two.path().join("run~"), "").unwrap();
        let tag = tag_of(one.path());
        assert_eq!((tag.len(), &tag), (40, &tag_of(two.path())));
        assert_eq!(tag_of(&one.path().join("../").join(one.path().file_name().unwrap())), tag);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        assert_ne!(tag_of(two.path()), tag);
        for change in [("etc/a", "2"), ("etc/b", "1"), ("etcb", "")] {
            let other = package(&[&files[..], &[change]].concat());
            assert_ne!(tag_of(other.path()), tag, "{change:?}");
        }
    }

    #[test]
    fn takes_in_other_sources() {
        let files =
            [("p/build.yml", "image: x\nextra-sources: [\"../other:other\"]\n"), ("other/a", "1")];
        let (one, two) = (package(&files), package(&files));
        assert_eq!(tag_of(&one.path().join("p")), tag_of(&two.path().join("p")));
        fs::write(two.path().join("other/a"), "2").unwrap();
        assert_ne!(tag_of(&one.path().join("p")), tag_of(&two.path().join("p")));
        fs::remove_dir_all(two.path().join("other")).unwrap();
        let dir = two.path().join("p");
        assert!(tag(&dir, &Recipe::read(&dir).unwrap()).is_err());
        let named = package(&[("build.yml", "image: x\ntag: v1\n")]);
        assert_eq!(tag_of(named.path()), "v1");
    }
}
