//! A file that is being written and has no name yet, so that whatever ends
//! the program, nothing half-written is left.
//!
//! `O_TMPFILE` where the file system has it, see open(2): such a file is linked
//! when it is whole, and a killed program leaves at most a whole one under a
//! hidden name, where it was to replace another. Elsewhere a hidden name beside
//! the target from the start, which [`abandon`] removes on the way out.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat};
use rustix::io::Errno;
use tempfile::{Builder, TempPath};

/// The hidden names that are in use.
static HIDDEN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A file on its way to `target`.
#[derive(Debug)]
pub(super) struct Pending {
    target: PathBuf,
    file: File,
    hidden: Option<TempPath>,
}

impl Pending {
    /// Starts a file in the folder of its target, which is made if missing.
    pub(super) fn start(target: PathBuf) -> Result<Self> {
        let dir = folder(&target);
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        // Less the umask: who may read an image is the user's to choose.
        if let Ok(file) = openat(CWD, dir, flags, Mode::from_raw_mode(0o666)) {
            return Ok(Self { target, file: file.into(), hidden: None });
        }
        let name = hidden(&target)?;
        let file = Builder::new()
            .prefix(&name)
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(dir)
            .with_context(|| format!("making a file in {}", dir.display()))?;
        let (file, hidden) = file.into_parts();
        names().insert(hidden.to_path_buf());
        Ok(Self { target, file, hidden: Some(hidden) })
    }

    /// Returns the file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its name, in place of what had it, and returns that.
    pub(super) fn commit(mut self) -> Result<PathBuf> {
        let renaming = || format!("giving {} its name", self.target.display());
        let hidden = match self.hidden.take() {
            Some(hidden) => Some(hidden),
            None => link(&self.file, &self.target).with_context(renaming)?,
        };
        if let Some(hidden) = hidden {
            let name = hidden.to_path_buf();
            let kept = hidden.persist(&self.target).map_err(|error| error.error);
            names().remove(&name);
            kept.with_context(renaming)?;
        }
        Ok(std::mem::take(&mut self.target))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(hidden) = &self.hidden {
            names().remove(&hidden.to_path_buf());
        }
    }
}

/// Removes every hidden file, for a program that ends at once.
pub fn abandon() {
    for path in std::mem::take(&mut *names()) {
        // The program ends: there is nobody left to tell.
        let _ = fs::remove_file(path);
    }
}

fn names() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    HIDDEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Links a file that has no name to its target, or, for a link replaces
/// nothing, to the hidden name that it returns.
fn link(file: &File, target: &Path) -> Result<Option<TempPath>> {
    use std::os::fd::AsRawFd;
    let source = format!("/proc/self/fd/{}", file.as_raw_fd());
    let link = |path: &Path| linkat(CWD, &source, CWD, path, AtFlags::SYMLINK_FOLLOW);
    match link(target) {
        Ok(()) => return Ok(None),
        Err(Errno::EXIST) => {}
        Err(error) => return Err(error).context("linking it"),
    }
    let hidden = Builder::new()
        .prefix(&hidden(target)?)
        .make_in(folder(target), |path| Ok(link(path)?))
        .context("linking it to a hidden name")?;
    Ok(Some(hidden.into_temp_path()))
}

/// Returns what a hidden name beside `target` begins with.
fn hidden(target: &Path) -> Result<String> {
    let name = target.file_name().context("expected a file name")?;
    Ok(format!(".{}.", name.to_string_lossy()))
}

fn folder(target: &Path) -> &Path {
    let dir = target.parent().filter(|dir| !dir.as_os_str().is_empty());
    dir.unwrap_or_else(|| Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn leaves_nothing_unless_committed() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        fs::write(&target, "former").unwrap();
        let pending = Pending::start(target.clone()).unwrap();
        pending.file().write_all(b"new").unwrap();
        drop(pending);
        assert_eq!(fs::read_to_string(&target).unwrap(), "former");
        let pending = Pending::start(target.clone()).unwrap();
        pending.file().write_all(b"new").unwrap();
        pending.commit().unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
