//! The holes of contents, as far as the file system below knows of them:
//! nothing is read.

use std::os::fd::AsFd;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::tree::Content;

/// Files shorter than this are not asked for their holes, in bytes.
const LARGE: u64 = 1 << 20;

/// Returns where data goes on from `at`, rounded down to a unit of the file;
/// `None` where all the rest is a hole or nothing.
pub(crate) fn next_data(content: &Content, at: u64, unit: usize) -> Option<u64> {
    if at >= content.len() {
        return None;
    }
    let Some((file, offset)) = content.place() else {
        return Some(at);
    };
    let len = content.len();
    if len < LARGE {
        return Some(at);
    }
    // Moves the file's own position, which nobody relies on: contents are
    // read by offset.
    match rustix::fs::seek(file.as_fd(), SeekFrom::Data(offset + at)) {
        Ok(found) if found >= offset + len => None,
        Ok(found) => {
            let found = found.saturating_sub(offset).max(at);
            Some(found - (found - at) % unit as u64)
        }
        Err(Errno::NXIO) => None,
        // A file system that does not tell.
        Err(_) => Some(at),
    }
}
