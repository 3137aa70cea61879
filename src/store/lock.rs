//! File locks that die with their holder (`flock(2)`).

use std::fs::{File, OpenOptions};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .with_context(|| format!("opening the lock {}", path.display()))
}

fn lock(path: &Path, operation: FlockOperation) -> Result<File> {
    let file = open(path)?;
    loop {
        match flock(&file, operation) {
            Ok(()) => return Ok(file),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error).with_context(|| format!("locking {}", path.display())),
        }
    }
}

/// Waits until nobody else holds the lock, and holds it until dropped.
pub(super) fn exclusive(path: &Path) -> Result<File> {
    lock(path, FlockOperation::LockExclusive)
}

/// Waits until nobody holds the lock exclusively.
pub(super) fn shared(path: &Path) -> Result<File> {
    lock(path, FlockOperation::LockShared)
}

/// Takes the lock if nobody holds it.
pub(super) fn try_exclusive(path: &Path) -> Result<Option<File>> {
    let file = open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("locking {}", path.display())),
    }
}
