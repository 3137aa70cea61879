//! Where a value of a manifest stands, and what is wrong with it.
//!
//! Every value that can turn out wrong later keeps its [`Place`], so that the
//! stage that finds out can name file, line, column and key path.

use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

/// A text that was parsed, with its name.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// What errors call it: a path, `-`, an address, or an image's label.
    pub(crate) name: String,
    /// The folder that relative paths start from; `None` for what is no file.
    pub(crate) folder: Option<PathBuf>,
    /// The whole text, from which errors quote a line.
    pub(crate) text: String,
}

/// A place in a manifest: file, line, column and key path.
///
/// Places never tell two values apart: all of them are equal.
#[derive(Clone, Default)]
pub struct Place {
    pub(crate) source: Arc<Source>,
    line: u32,
    column: u32,
    path: Arc<str>,
}

impl Place {
    pub(crate) fn new(source: &Arc<Source>, mark: Mark, path: &str) -> Self {
        let (source, path) = (Arc::clone(source), Arc::from(path));
        Self { source, line: mark.line, column: mark.column, path }
    }

    /// Returns the name of the file.
    pub fn file(&self) -> &str {
        &self.source.name
    }

    /// Returns the line, counted from 1; 0 where there is none.
    pub fn line(&self) -> u32 {
        self.line
    }

    /// Returns the column in characters, counted from 1.
    pub fn column(&self) -> u32 {
        self.column
    }

    /// Returns the key path, such as `services[0].binds[1]`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Makes an error of what is wrong here.
    pub fn invalid(&self, message: impl Into<String>) -> Invalid {
        Invalid { at: self.clone(), message: message.into(), suggestion: None }
    }

    /// Quotes the line with a caret below the column, or nothing.
    fn snippet(&self) -> Option<String> {
        let line = self.source.text.lines().nth(self.line.checked_sub(1)? as usize)?;
        let before = self.column.saturating_sub(1) as usize;
        // A long line is cut on both sides, so that the caret stays in sight.
        let skipped = before.saturating_sub(QUOTED / 2);
        let shown: String = line.chars().skip(skipped).take(QUOTED).map(printable).collect();
        let margin = self.line.to_string();
        let gap = " ".repeat(margin.len());
        let indent = " ".repeat(before - skipped);
        Some(format!(" {margin} | {}\n {gap} | {indent}^", shown.trim_end()))
    }
}

/// How many characters of a line are quoted.
const QUOTED: usize = 100;

fn printable(c: char) -> char {
    if c.is_control() { ' ' } else { c }
}

impl PartialEq for Place {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Place {}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source.name)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        match &*self.path {
            "" => Ok(()),
            path => write!(f, ": {path}"),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A line and a column, both counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// A value with its place and the text that it was written as.
///
/// Two of them are equal when their values are.
#[derive(Clone)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub at: Place,
    /// The text that it was written as, without quotes.
    pub written: String,
}

impl<T> Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Spanned<T> {}

impl<T: fmt::Debug> fmt::Debug for Spanned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T> fmt::Display for Spanned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

/// One thing that is wrong in a manifest, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Where.
    pub at: Place,
    /// What was expected and what was found.
    pub message: String,
    /// The nearest name that is known.
    pub suggestion: Option<String>,
}

impl Invalid {
    /// Adds the nearest known name.
    #[must_use]
    pub fn suggest(self, suggestion: Option<String>) -> Self {
        Self { suggestion, ..self }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.message)?;
        match &self.suggestion {
            Some(name) => write!(f, ", did you mean `{name}`?"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Invalid {}

/// How many problems are told; the checks stop looking once there are more.
pub(crate) const MAX_PROBLEMS: usize = 50;

/// Everything that is wrong in the manifests of one build, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidManifest {
    /// What is wrong; at least one.
    pub problems: Vec<Invalid>,
}

impl fmt::Display for InvalidManifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().take(MAX_PROBLEMS).enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
            if let Some(snippet) = problem.at.snippet() {
                write!(f, "\n{snippet}")?;
            }
        }
        match self.problems.len() {
            ..=MAX_PROBLEMS => Ok(()),
            _ => write!(f, "\nand more of the kind"),
        }
    }
}

impl std::error::Error for InvalidManifest {}

/// Returns the value, or the error that all the problems make together.
pub(crate) fn finish<T>(value: Option<T>, problems: Vec<Invalid>) -> Result<T, InvalidManifest> {
    match value {
        Some(value) if problems.is_empty() => Ok(value),
        _ => Err(InvalidManifest { problems }),
    }
}
