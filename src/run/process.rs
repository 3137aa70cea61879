//! Starting programs: finding them, and errors that show the whole command line.
//!
//! The only place of `run/` that starts anything. The search path is passed
//! in, for nothing here reads the environment.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, anyhow};

use crate::error::WithHint;

/// A program and its arguments, ready to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The program's file.
    pub path: PathBuf,
    /// Its arguments, without its name.
    pub args: Vec<String>,
}

/// Where a program's three streams lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    /// Through pipes to us.
    Piped,
    /// Standard input and output through pipes; errors to ours.
    ErrorsShown,
}

impl Program {
    /// Names a program by its file.
    pub fn new(path: impl Into<PathBuf>, args: Vec<String>) -> Self {
        Self { path: path.into(), args }
    }

    /// Starts it.
    pub fn spawn(&self, streams: Streams) -> Result<Child> {
        let errors = match streams {
            Streams::Piped => Stdio::piped(),
            Streams::ErrorsShown => Stdio::inherit(),
        };
        Command::new(&self.path)
            .args(&self.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .with_context(|| format!("starting {self}"))
    }

    /// Runs it to its end without input; a failure tells its exit status, what
    /// it said and the command line.
    pub fn output(&self) -> Result<Output> {
        self.output_with(&[])
    }

    /// Runs it as [`Program::output`] does, with these in its environment.
    pub fn output_with(&self, settings: &[(&str, &str)]) -> Result<Output> {
        let output = Command::new(&self.path)
            .args(&self.args)
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("starting {self}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(anyhow!("{}: {}", output.status, said.trim()))
                .with_context(|| format!("running {self}"));
        }
        Ok(output)
    }
}

impl fmt::Display for Program {
    /// Writes the command line as a shell would take it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}", quoted(&self.path.to_string_lossy()))?;
        for argument in &self.args {
            write!(f, " {}", quoted(argument))?;
        }
        f.write_str("`")
    }
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:=+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Looks a program up in `search`, the value of `$PATH`.
pub fn find(name: &str, search: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| is_program(path));
    }
    std::env::split_paths(OsStr::new(search))
        .map(|folder| folder.join(name))
        .find(|path| is_program(path))
}

/// Looks a program up as [`find`] does; a failure names the Debian `package`.
pub fn need(name: &str, search: &str, package: &str) -> Result<PathBuf> {
    find(name, search)
        .ok_or_else(|| anyhow!("the program `{name}` is not installed"))
        .hint(|| format!("install the Debian package {package}"))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_command_line_in_errors() {
        let args = vec!["-c".to_owned(), "echo it\\'s bad >&2; exit 3".to_owned()];
        let error = Program::new("/bin/sh", args).output().unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "running `/bin/sh -c 'echo it\\'\\''s bad >&2; exit 3'`: exit status: 3: it's bad"
        );
        let error = Program::new("/no/such", vec![]).output().unwrap_err();
        assert!(format!("{error:#}").starts_with("starting `/no/such`: "), "{error:#}");
    }

    #[test]
    fn names_the_package_of_what_is_missing() {
        assert!(find("sh", "/nowhere:/bin").is_some());
        let error = need("qemu-system-none", "/nowhere", "qemu-system-x86").unwrap_err();
        assert_eq!(error.to_string(), "the program `qemu-system-none` is not installed");
        assert!(crate::error::hint(&error).unwrap().contains("qemu-system-x86"));
    }
}
