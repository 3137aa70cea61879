//! Artefacts that were dear to make, under a key that names their inputs: a
//! compressed segment of an initrd, a root file system, a digest of a large
//! output.
//!
//! Whoever makes one holds its lock meanwhile. A thread of rayon's that waits
//! for anything is lent to other jobs, and one of these may want the very
//! artefact that is being made beneath it on the same stack: it would wait for
//! ever. So that this cannot be, who holds a lock is never lent: a maker that
//! works by itself does not wait for rayon ([`Store::derived`]), and one that
//! works on all processors does so in threads of its own
//! ([`Store::derived_in_parallel`]). Who only waits for a lock, and holds
//! none, works off other jobs meanwhile.

use std::cell::Cell;
use std::fs::{self, File, FileTimes};
use std::io::{self, BufWriter, Seek, Write};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::{Store, keep, lock};
use crate::env;
use crate::oci::Digest;

/// How many jobs may lie above each other on the stack of one waiting thread.
const DEPTH_MAX: u32 = 16;
/// How long a thread without work waits before it looks again.
const PAUSE: Duration = Duration::from_millis(1);

thread_local! {
    /// How many locks this thread holds while it makes something.
    static HELD: Cell<u32> = const { Cell::new(0) };
    /// How many times this thread waits for a lock.
    static WAITING: Cell<u32> = const { Cell::new(0) };
}

/// Where an artefact is written: in order, or by seeking back to what was
/// left open. Seeking forward leaves a hole of zeros.
pub trait Out: Write + Seek {}

impl<T: Write + Seek> Out for T {}

/// An artefact, or the right to make it.
enum Claim {
    Made(File),
    Held(File),
}

/// Counts up for as long as it lives.
struct Counted(&'static thread::LocalKey<Cell<u32>>);

impl Counted {
    fn new(counter: &'static thread::LocalKey<Cell<u32>>) -> Self {
        counter.set(counter.get() + 1);
        Self(counter)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Says whether this thread may wait for jobs of rayon's: not while it makes an
/// artefact by [`Store::derived`].
pub(crate) fn may_be_lent() -> bool {
    HELD.get() == 0
}

impl Store {
    /// Returns the artefact of a key, made by `make` where it is missing.
    /// `kind` names what made it, with a version: `cpio-zstd-1`. Processes
    /// that want the same one wait for the first. `make` works on this thread
    /// and must not wait for rayon.
    pub fn derived(
        &self,
        kind: &str,
        key: &Digest,
        make: impl FnOnce(&mut dyn Out) -> Result<()>,
    ) -> Result<File> {
        self.derived_by(kind, key, |out| {
            let _held = Counted::new(&HELD);
            make(out)
        })
    }

    /// Returns an artefact as [`Store::derived`] does; `make` works on all
    /// processors, in threads of its own.
    pub fn derived_in_parallel(
        &self,
        kind: &str,
        key: &Digest,
        make: impl FnOnce(&mut dyn Out) -> Result<()> + Send,
    ) -> Result<File> {
        self.derived_by(kind, key, |out| {
            let threads = rayon::current_num_threads();
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let pool = pool.context("starting threads")?;
            // A thread of rayon's that waits for another pool would be lent.
            thread::scope(|scope| scope.spawn(|| pool.install(|| make(out))).join())
                .unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Returns the artefact of a key, if it was made before.
    pub fn known(&self, kind: &str, key: &Digest) -> Option<File> {
        open(&self.derived_path(kind, key)).ok()
    }

    /// Keeps a small artefact that was made already.
    pub fn keep_derived(&self, kind: &str, key: &Digest, bytes: &[u8]) -> Result<()> {
        let path = self.derived_path(kind, key);
        let dir = path.parent().expect("a derived path has a parent");
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        self.write_atomically(&path, bytes)
    }

    fn derived_by(
        &self,
        kind: &str,
        key: &Digest,
        make: impl FnOnce(&mut BufWriter<tempfile::NamedTempFile>) -> Result<()>,
    ) -> Result<File> {
        let path = self.derived_path(kind, key);
        let lock = self.root.join("locks").join(format!("{kind}-{}", key.hex()));
        let _held = match claim(&path, &lock)? {
            Claim::Made(file) => return Ok(file),
            Claim::Held(lock) => lock,
        };
        let mut writer = BufWriter::with_capacity(1 << 20, self.temporary()?);
        make(&mut writer)?;
        let file = writer
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
            .with_context(|| format!("writing {}", path.display()))?;
        let dir = path.parent().expect("a derived path has a parent");
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        keep(file, &path)?;
        File::open(&path).with_context(|| format!("opening {}", path.display()))
    }

    fn derived_path(&self, kind: &str, key: &Digest) -> PathBuf {
        self.root.join("derived").join(kind).join(key.hex())
    }
}

/// Opens an artefact and marks it as used, for the search for those that
/// nobody uses: not every file system notes what is read.
fn open(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    // A cache that is somebody else's cannot be marked, nor is it cleaned.
    let _ = file.set_times(FileTimes::new().set_accessed(UNIX_EPOCH + env::now()));
    Ok(file)
}

/// Opens an artefact, or takes its lock once nobody else has it.
fn claim(path: &Path, lock: &Path) -> Result<Claim> {
    let made = || open(path).ok().map(Claim::Made);
    if let Some(made) = made() {
        return Ok(made);
    }
    let held = loop {
        let lent = rayon::current_thread_index().is_some() && may_be_lent();
        if !lent || WAITING.get() >= DEPTH_MAX {
            break lock::exclusive(lock)?;
        }
        if let Some(held) = lock::try_exclusive(lock)? {
            break held;
        }
        let _waiting = Counted::new(&WAITING);
        if rayon::yield_now() != Some(rayon::Yield::Executed) {
            thread::sleep(PAUSE);
        }
    };
    Ok(made().unwrap_or(Claim::Held(held)))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Make = fn(&Store, &Digest) -> Result<File>;

    fn alone(out: &mut dyn Out) -> Result<()> {
        Ok(out.write_all(b"made")?)
    }

    fn lent(out: &mut dyn Out) -> Result<()> {
        while rayon::yield_now() == Some(rayon::Yield::Executed) {}
        alone(out)
    }

    /// Many jobs of one pool want one artefact, and rayon lends its threads
    /// whenever it can.
    #[test]
    fn makes_once_what_many_jobs_want() {
        let makers: [Make; 3] = [
            |store, key| store.derived_in_parallel("test-1", key, lent),
            |store, key| store.derived("test-1", key, alone),
            |store, key| {
                let outer = Digest::of(b"outer");
                store.derived_in_parallel("test-2", &outer, |out| {
                    std::io::copy(&mut store.derived_in_parallel("test-1", key, lent)?, out)?;
                    Ok(())
                })
            },
        ];
        for threads in [1, 2, 4] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for make in makers {
                let dir = tempfile::tempdir().unwrap();
                let store = Store::open(dir.path()).unwrap();
                let key = Digest::of(b"key");
                pool.scope(|scope| {
                    for _ in 0..40 {
                        scope.spawn(|_| {
                            let mut text = String::new();
                            let mut file = make(&store, &key).unwrap();
                            std::io::Read::read_to_string(&mut file, &mut text).unwrap();
                            assert_eq!(text, "made");
                        });
                    }
                });
            }
        }
    }
}
