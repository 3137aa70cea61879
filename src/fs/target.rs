//! Targets of symbolic links, as far as Linux follows them.

use anyhow::{Result, ensure};

/// The longest target, in bytes: PATH_MAX without the NUL.
const TARGET_MAX: usize = 4095;

/// Checks that a link to a target could be followed, wherever it is kept.
pub(crate) fn checked(target: &[u8]) -> Result<&[u8]> {
    ensure!(
        target.len() <= TARGET_MAX,
        "expected a link's target of at most {TARGET_MAX} bytes, got {}",
        target.len()
    );
    Ok(target)
}
