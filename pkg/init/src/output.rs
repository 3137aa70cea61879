//! The output of one program: into its log, onto the console with its name, and the last
//! lines kept for the tale of its failure.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use moby_bundle::report::LINES;
use rustix::io::Errno;

use crate::console;
use crate::error::{Error, Result};

/// Longer lines are cut into pieces of this many bytes.
const LONGEST: usize = 4096;

/// Where a program's output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The console, untouched.
    Console,
    /// A log file, through init's hands; with a name also the console, each line prefixed.
    Log {
        /// The file.
        path: PathBuf,
        /// The name before each line on the console.
        prefix: Option<String>,
    },
    /// A log file alone, without init's hands.
    File(PathBuf),
    /// Standard output is a row of JSON [`crate::record::Event`]s, the rest goes to the console.
    Events,
}

/// Reads what a program writes.
#[derive(Debug)]
pub struct Stream {
    pipe: OwnedFd,
    sink: Sink,
    partial: Vec<u8>,
    tail: VecDeque<String>,
}

/// What is done with each line.
#[derive(Debug)]
pub enum Sink {
    /// Written to a log and perhaps the console.
    Log {
        /// The open log; `None` when it could not be opened or is full.
        file: Option<File>,
        /// The name before each line on the console.
        prefix: Option<String>,
    },
    /// Given to the caller of [`Stream::read`].
    Lines,
}

impl Stream {
    /// Takes the non-blocking read end of a pipe.
    pub fn new(pipe: OwnedFd, sink: Sink) -> Self {
        Self { pipe, sink, partial: Vec::new(), tail: VecDeque::new() }
    }

    /// Gives the descriptor to poll.
    pub fn pipe(&self) -> &OwnedFd {
        &self.pipe
    }

    /// Gives the last lines.
    pub fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }

    /// Reads what is there. Gives the lines for [`Sink::Lines`], and whether the end is reached.
    pub fn read(&mut self) -> (Vec<String>, bool) {
        let mut lines = Vec::new();
        let mut buffer = [0; 8192];
        let ended = loop {
            match rustix::io::read(&self.pipe, &mut buffer) {
                Ok(0) => break true,
                Ok(length) => self.take(&buffer[..length], &mut lines),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break false,
                Err(_) => break true,
            }
        };
        if ended && !self.partial.is_empty() {
            self.line(&mut lines);
        }
        (lines, ended)
    }

    fn take(&mut self, bytes: &[u8], lines: &mut Vec<String>) {
        if let Sink::Log { file, .. } = &mut self.sink
            && let Some(open) = file
            && open.write_all(bytes).is_err()
        {
            // A full disk must not stop the program; the console still has its lines.
            *file = None;
        }
        for byte in bytes {
            if *byte == b'\n' {
                self.line(lines);
            } else {
                self.partial.push(*byte);
                if self.partial.len() >= LONGEST && matches!(self.sink, Sink::Log { .. }) {
                    self.line(lines);
                }
            }
        }
    }

    fn line(&mut self, lines: &mut Vec<String>) {
        let bytes = std::mem::take(&mut self.partial);
        let line = String::from_utf8_lossy(&bytes).trim_end_matches('\r').to_owned();
        match &self.sink {
            Sink::Lines => lines.push(line),
            Sink::Log { prefix, .. } => {
                if let Some(prefix) = prefix {
                    console::line(&format!("{prefix}: {line}"));
                }
                if self.tail.len() == LINES {
                    self.tail.pop_front();
                }
                self.tail.push_back(line);
            }
        }
    }
}

/// Opens a log for appending, making its folder.
pub fn open(path: &Path) -> Result<File> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)
            .map_err(|error| Error::io("making the folder", dir.display(), &error))?;
    }
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.map_err(|error| Error::io("opening the log", path.display(), &error))
}

/// Gives the last lines of a log file from byte `from` on; none where it cannot be read.
pub fn tail(path: &Path, from: u64) -> Vec<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(from.max(length.saturating_sub(4096)).min(length)))?;
        let mut bytes = Vec::new();
        file.take(4096).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = read().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};

    #[test]
    fn cuts_lines_and_keeps_the_last() {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        let mut stream = Stream::new(read, Sink::Log { file: None, prefix: None });
        for number in 0..20 {
            rustix::io::write(&write, format!("line {number}\r\n").as_bytes()).unwrap();
        }
        rustix::io::write(&write, b"end \xff").unwrap();
        assert!(!stream.read().1);
        drop(write);
        assert!(stream.read().1);
        let tail = stream.tail();
        assert_eq!(tail.len(), LINES);
        assert_eq!(tail[LINES - 2..], ["line 19".to_owned(), "end \u{fffd}".to_owned()]);
    }

    #[test]
    fn lines_are_given() {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        let mut stream = Stream::new(read, Sink::Lines);
        rustix::io::write(&write, b"a\nb").unwrap();
        assert_eq!(stream.read(), (vec!["a".to_owned()], false));
        drop(write);
        assert_eq!(stream.read(), (vec!["b".to_owned()], true));
    }
}
