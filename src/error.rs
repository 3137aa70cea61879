//! The errors that some code matches on, and the hint that each one earns.
//!
//! Everything else is an [`anyhow::Error`] with context. A context is a
//! lower-case gerund and its object (`reading {path}`); a leaf says what was
//! expected and what was found. Nothing here repeats its source.

use std::fmt;

use crate::oci::Digest;

/// Content that nobody has.
#[derive(Debug, thiserror::Error)]
#[error("{what} was not found in {place}")]
pub struct NotFound {
    /// What was asked for, such as an image by its full name.
    pub what: String,
    /// Where it was looked for.
    pub place: String,
}

/// Content whose bytes are not those that its name promises.
#[derive(Debug, thiserror::Error)]
#[error("{what}: expected {expected}, got {found}")]
pub struct DigestMismatch {
    /// What was read, such as a path or an address.
    pub what: String,
    /// The digest promised.
    pub expected: Digest,
    /// The digest of what came.
    pub found: Digest,
}

/// An image that exists, but not for the platform asked for.
#[derive(Debug, thiserror::Error)]
#[error("{what} has no image for {wanted}, only for {}", .offered.join(", "))]
pub struct WrongPlatform {
    /// The image by its full name.
    pub what: String,
    /// The platform asked for.
    pub wanted: String,
    /// The platforms that there are.
    pub offered: Vec<String>,
}

/// An image that is not the one that the lock says.
#[derive(Debug, thiserror::Error)]
#[error("{what} is locked to {expected}, got {found}")]
pub struct StaleLock {
    /// The image by its full name.
    pub what: String,
    /// The digest in the lock.
    pub expected: Digest,
    /// The digest of what there is now.
    pub found: Digest,
}

/// What went wrong in several things that were done beside each other.
#[derive(Debug, thiserror::Error)]
#[error("{} things went wrong", .0.len())]
pub struct Several(pub Vec<anyhow::Error>);

/// Returns what all came to, or all that went wrong: one error by itself, more
/// as [`Several`].
pub fn every<T>(results: impl IntoIterator<Item = anyhow::Result<T>>) -> anyhow::Result<Vec<T>> {
    let (mut done, mut errors) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => done.push(value),
            Err(error) => errors.push(error),
        }
    }
    match errors.pop() {
        None => Ok(done),
        Some(only) if errors.is_empty() => Err(only),
        Some(last) => {
            errors.push(last);
            Err(Several(errors).into())
        }
    }
}

/// Use of the command line that cannot be meant: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// A way out, told after the error and its causes.
#[derive(Debug)]
pub struct Hint {
    text: String,
    source: anyhow::Error,
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The hint itself is printed apart; in the chain stands its error.
        self.source.fmt(f)
    }
}

impl std::error::Error for Hint {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.source()
    }
}

/// Adds a hint to an error: what the reader can do next.
pub trait WithHint<T> {
    /// Adds what to do next, made only when there is an error.
    fn hint(self, text: impl FnOnce() -> String) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> WithHint<T> for Result<T, E> {
    fn hint(self, text: impl FnOnce() -> String) -> anyhow::Result<T> {
        self.map_err(|error| anyhow::Error::new(Hint { text: text(), source: error.into() }))
    }
}

/// Returns what the reader of `error` can do next, the hint nearest the top.
pub fn hint(error: &anyhow::Error) -> Option<String> {
    if let Some(hint) = error.downcast_ref::<Hint>() {
        return Some(hint.text.clone());
    }
    error.chain().find_map(|cause| {
        if let Some(hint) = cause.downcast_ref::<Hint>() {
            return Some(hint.text.clone());
        }
        let known = cause.downcast_ref::<std::io::Error>()?;
        match known.kind() {
            std::io::ErrorKind::StorageFull => {
                Some("free some space, or point --cache or --dir to another disk".into())
            }
            std::io::ErrorKind::PermissionDenied => {
                Some("choose a folder that you may write to, with --cache or --dir".into())
            }
            _ => None,
        }
    })
}

/// Finds an error of a type among an error and its causes, be it a context of
/// another one or wrapped in a hint, where the chain alone does not show it.
pub fn find<T: std::error::Error + Send + Sync + 'static>(error: &anyhow::Error) -> Option<&T> {
    if let Some(found) = error.downcast_ref::<T>() {
        return Some(found);
    }
    error.chain().find_map(|cause| {
        let hinted = || find(&cause.downcast_ref::<Hint>()?.source);
        cause.downcast_ref::<T>().or_else(hinted)
    })
}

/// Says whether an error means that nobody has the content.
pub fn is_not_found(error: &anyhow::Error) -> bool {
    find::<NotFound>(error).is_some()
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn finds_a_hint_below_contexts() {
        let error = Err::<(), _>(anyhow::anyhow!("leaf"))
            .context("inner")
            .hint(|| "go on".into())
            .context("outer")
            .unwrap_err();
        assert_eq!(hint(&error).as_deref(), Some("go on"));
        let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
        assert_eq!(chain, ["outer", "inner", "leaf"]);
    }

    #[test]
    fn tells_all_that_went_wrong() {
        let results = |bad: &[&'static str]| {
            let bad: Vec<_> = bad.iter().map(|text| Err(anyhow::anyhow!(*text))).collect();
            every([Ok(1), Ok(2)].into_iter().chain(bad))
        };
        assert_eq!(results(&[]).unwrap(), [1, 2]);
        assert_eq!(results(&["one"]).unwrap_err().to_string(), "one");
        let error = results(&["one", "two"]).unwrap_err();
        let told: Vec<_> =
            find::<Several>(&error).unwrap().0.iter().map(|e| e.to_string()).collect();
        assert_eq!(told, ["one", "two"]);
    }

    #[test]
    fn finds_a_type_below_hints_and_as_a_context() {
        let missing = || NotFound { what: "it".into(), place: "there".into() };
        let hinted = || Err::<(), _>(missing()).hint(|| "go on".into()).context("outer");
        let twice = hinted().hint(|| "go on".into()).unwrap_err();
        let context = anyhow::anyhow!("leaf").context(missing()).context("outer");
        for error in [missing().into(), hinted().unwrap_err(), twice, context] {
            assert!(is_not_found(&error), "{error:#}");
        }
        assert!(!is_not_found(&anyhow::anyhow!("leaf").context("outer")));
    }
}
