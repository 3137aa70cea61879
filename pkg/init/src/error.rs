//! The one error type: what was done, to what, and why it failed.

use std::fmt;
use std::io;

use rustix::io::Errno;

/// A result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// A failed doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// A gerund: `mounting`, `reading`.
    pub doing: &'static str,
    /// Its object, mostly a path.
    pub path: String,
    /// Why.
    pub cause: Cause,
}

/// Why something failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The kernel refused.
    Errno(Errno),
    /// A statement of what was expected and found.
    Text(String),
}

impl Error {
    /// Makes an error out of the kernel's answer.
    pub fn new(doing: &'static str, path: impl fmt::Display, errno: Errno) -> Self {
        Self { doing, path: path.to_string(), cause: Cause::Errno(errno) }
    }

    /// Makes an error out of the standard library's.
    pub fn io(doing: &'static str, path: impl fmt::Display, error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(errno) => Self::new(doing, path, errno),
            None => Self::text(doing, path, error),
        }
    }

    /// Makes an error out of a statement.
    pub fn text(doing: &'static str, path: impl fmt::Display, cause: impl fmt::Display) -> Self {
        Self { doing, path: path.to_string(), cause: Cause::Text(cause.to_string()) }
    }

    /// Gives the kernel's answer, where it was one.
    pub fn errno(&self) -> Option<Errno> {
        match self.cause {
            Cause::Errno(errno) => Some(errno),
            Cause::Text(_) => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.doing, self.path)?;
        match &self.cause {
            Cause::Errno(errno) => write!(f, "{errno}"),
            Cause::Text(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}
