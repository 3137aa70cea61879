//! All the ambient state of a run: the only reader of environment variables
//! and of the clock.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// The time that LinuxKit gives to what it generates itself, in seconds since
/// 1970: 2017-04-18, the day of its first release. A fixed time keeps builds
/// reproducible.
pub const EPOCH: i64 = 1_492_533_000;

/// Reads an environment variable; empty or not UTF-8 counts as absent.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns the time since 1970. For progress, caches and locks only: nothing
/// that is written into an image may depend on it.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Returns the file of this program and the words behind its name.
pub fn own_command() -> std::io::Result<(PathBuf, Vec<String>)> {
    let words = std::env::args_os().skip(1);
    Ok((std::env::current_exe()?, words.map(|word| word.to_string_lossy().into_owned()).collect()))
}

/// Returns the user's home folder.
pub fn home() -> Option<PathBuf> {
    var("HOME").map(PathBuf::from)
}

/// Returns Docker's configuration: below `$DOCKER_CONFIG` or the home folder.
pub fn docker_config() -> Option<PathBuf> {
    let dir = var("DOCKER_CONFIG").map(PathBuf::from);
    Some(dir.or_else(|| home().map(|home| home.join(".docker")))?.join("config.json"))
}

/// Returns the default cache folder: `$MOBY_CACHE`, or below
/// `$XDG_CACHE_HOME`, or below the home folder.
pub fn cache_dir() -> PathBuf {
    if let Some(dir) = var("MOBY_CACHE") {
        return dir.into();
    }
    let base = var("XDG_CACHE_HOME").map(PathBuf::from);
    base.or_else(|| home().map(|home| home.join(".cache")))
        .unwrap_or_else(|| PathBuf::from("/var/cache"))
        .join("moby")
}
