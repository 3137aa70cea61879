//! One place to wait: signals, ended processes, output, the kernel's device events.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitOptions, wait};

use crate::error::{Error, Result};
use crate::output::{self, Output, Sink, Stream};
use crate::record::Event;
use crate::sys;

/// Signals that init listens to.
const SIGNALS: &[i32] =
    &[libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGPWR];

/// The search path of what init starts.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What came to pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// A process ended with this exit code, 128 + N for signal N.
    Ended(u32, i32),
    /// A signal other than SIGCHLD.
    Signal(i32),
    /// The service manager tells something.
    Event(Event),
    /// A device came, with this modalias.
    Device(String),
}

/// A started program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Child {
    /// Its process.
    pub pid: u32,
    /// Its output, for [`Reactor::close`].
    pub stream: Option<u64>,
}

/// The things waited for.
#[derive(Debug)]
pub struct Reactor {
    signals: OwnedFd,
    devices: Option<OwnedFd>,
    streams: BTreeMap<u64, Held>,
    next: u64,
}

/// A stream and who is done with it.
#[derive(Debug)]
struct Held {
    stream: Stream,
    /// The end was read: polling it would only say so again.
    ended: bool,
    /// Nobody will ask for its last lines any more.
    closed: bool,
}

impl Reactor {
    /// Begins to catch signals.
    pub fn new() -> Result<Self> {
        let signals =
            sys::catch(SIGNALS).map_err(|error| Error::io("catching", "signals", &error))?;
        Ok(Self { signals, devices: None, streams: BTreeMap::new(), next: 0 })
    }

    /// Listens to a socket of device events as well.
    pub fn listen(&mut self, devices: OwnedFd) {
        self.devices = Some(devices);
    }

    /// Starts a program with its output where `output` says and no input.
    pub fn spawn(&mut self, command: &mut Command, output: &Output) -> Result<Child> {
        let program = command.get_program().to_string_lossy().into_owned();
        command.env_clear().env("PATH", PATH).env("HOME", "/").stdin(Stdio::null());
        let stream = self.connect(command, output)?;
        let child = command.spawn().map_err(|error| Error::io("starting", program, &error));
        // The command holds the write ends of the pipe; the end of output would never come.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        match child {
            Ok(child) => Ok(Child { pid: child.id(), stream }),
            Err(error) => {
                if let Some(stream) = stream {
                    self.streams.remove(&stream);
                }
                Err(error)
            }
        }
    }

    /// Starts a program that has the console to itself, input and all.
    pub fn spawn_interactive(&mut self, command: &mut Command) -> Result<Child> {
        let program = command.get_program().to_string_lossy().into_owned();
        command.env_clear().env("PATH", PATH).env("HOME", "/");
        let child = command.spawn().map_err(|error| Error::io("starting", program, &error))?;
        Ok(Child { pid: child.id(), stream: None })
    }

    fn connect(&mut self, command: &mut Command, output: &Output) -> Result<Option<u64>> {
        let (sink, both) = match output {
            Output::Console => {
                command.stdout(console()?).stderr(console()?);
                return Ok(None);
            }
            Output::File(path) => {
                let file = output::open(path)?;
                let other = file.try_clone();
                let other = other.map_err(|error| Error::io("opening", path.display(), &error))?;
                command.stdout(file).stderr(other);
                return Ok(None);
            }
            Output::Log { path, prefix } => {
                (Sink::Log { file: Some(output::open(path)?), prefix: prefix.clone() }, true)
            }
            Output::Events => (Sink::Lines, false),
        };
        let fail = |errno| Error::new("making", "a pipe", errno);
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(fail)?;
        rustix::io::ioctl_fionbio(&read, true).map_err(fail)?;
        if both {
            let other = write.try_clone();
            command.stderr(other.map_err(|error| Error::io("making", "a pipe", &error))?);
        } else {
            command.stderr(console()?);
        }
        command.stdout(write);
        self.next += 1;
        // Of events nobody wants the last lines.
        let closed = matches!(output, Output::Events);
        let held = Held { stream: Stream::new(read, sink), ended: false, closed };
        self.streams.insert(self.next, held);
        Ok(Some(self.next))
    }

    /// Reads the rest of a program's output and gives its last lines. Where others still hold
    /// the other end (a daemon left behind), it is read on as long as they do.
    pub fn close(&mut self, child: Child) -> Vec<String> {
        let Some(id) = child.stream else { return Vec::new() };
        let Some(held) = self.streams.get_mut(&id) else { return Vec::new() };
        held.closed = true;
        if !held.ended {
            held.ended = held.stream.read().1;
        }
        let tail = held.stream.tail();
        if held.ended {
            self.streams.remove(&id);
        }
        tail
    }

    /// Waits until something happens, at most `patience` milliseconds.
    pub fn wait(&mut self, patience: Option<u64>) -> Vec<Happening> {
        let (signals, devices, streams) = self.poll(patience);
        let mut happenings = Vec::new();
        if devices {
            self.read_devices(&mut happenings);
        }
        for id in streams {
            self.read_stream(id, &mut happenings);
        }
        if signals {
            self.read_signals(&mut happenings);
            reap(&mut happenings);
        }
        happenings
    }

    fn poll(&self, patience: Option<u64>) -> (bool, bool, Vec<u64>) {
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        let open: Vec<_> = self.streams.iter().filter(|(_, held)| !held.ended).collect();
        fds.extend(open.iter().map(|(_, held)| PollFd::new(held.stream.pipe(), PollFlags::IN)));
        if let Some(devices) = &self.devices {
            fds.push(PollFd::new(devices, PollFlags::IN));
        }
        let patience = patience.map(|ms| Timespec {
            tv_sec: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(ms % 1000).unwrap_or(0) * 1_000_000,
        });
        if poll(&mut fds, patience.as_ref()).is_err() {
            // Interrupted by a signal, whose byte waits in the pipe now.
            return (true, false, Vec::new());
        }
        let hit = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let streams = open.iter().zip(&fds[1..]).filter(|(_, fd)| hit(fd)).map(|((id, _), _)| **id);
        let devices = self.devices.is_some() && fds.last().is_some_and(hit);
        (hit(&fds[0]), devices, streams.collect())
    }

    fn read_stream(&mut self, id: u64, happenings: &mut Vec<Happening>) {
        let Some(held) = self.streams.get_mut(&id) else { return };
        let (lines, ended) = held.stream.read();
        happenings.extend(lines.iter().filter_map(|line| Event::parse(line)).map(Happening::Event));
        held.ended = ended;
        if held.ended && held.closed {
            self.streams.remove(&id);
        }
    }

    fn read_signals(&self, happenings: &mut Vec<Happening>) {
        let mut bytes = [0; 64];
        while let Ok(length @ 1..) = rustix::io::read(&self.signals, &mut bytes) {
            let numbers = bytes[..length].iter().map(|byte| i32::from(*byte));
            happenings
                .extend(numbers.filter(|number| *number != libc::SIGCHLD).map(Happening::Signal));
        }
    }

    fn read_devices(&self, happenings: &mut Vec<Happening>) {
        let Some(devices) = &self.devices else { return };
        let mut bytes = [0; 8192];
        while let Ok(length @ 1..) = rustix::io::read(devices, &mut bytes) {
            happenings.extend(modalias(&bytes[..length.min(bytes.len())]).map(Happening::Device));
        }
    }
}

/// Finds the modalias of an `add` event: strings ended by zero bytes, the first `add@PATH`.
fn modalias(event: &[u8]) -> Option<String> {
    if !event.starts_with(b"add@") {
        return None;
    }
    let fields = event.split(|byte| *byte == 0).filter_map(|field| std::str::from_utf8(field).ok());
    fields.filter_map(|field| field.strip_prefix("MODALIAS=")).map(str::to_owned).next()
}

/// Takes the exit codes of all that ended, children and orphans.
fn reap(happenings: &mut Vec<Happening>) {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                let code = match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => code,
                    (None, Some(signal)) => 128 + signal,
                    (None, None) => continue,
                };
                let pid = pid.as_raw_nonzero().get().unsigned_abs();
                happenings.push(Happening::Ended(pid, code));
            }
            Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return,
        }
    }
}

/// Duplicates the console for a program.
fn console() -> Result<Stdio> {
    let stderr = std::io::stderr();
    let copy = stderr.as_fd().try_clone_to_owned();
    copy.map(|fd| Stdio::from(File::from(fd)))
        .map_err(|error| Error::io("opening", "the console", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_events() {
        let event = b"add@/devices/x\0ACTION=add\0MODALIAS=pci:v1\0SEQNUM=1\0";
        assert_eq!(modalias(event).as_deref(), Some("pci:v1"));
        assert_eq!(modalias(b"remove@/devices/x\0MODALIAS=pci:v1\0"), None);
        assert_eq!(modalias(b""), None);
    }

    #[test]
    fn runs_and_reaps() {
        let mut reactor = Reactor::new().unwrap();
        let dir = std::env::temp_dir().join(format!("moby-init-{}", std::process::id()));
        let log = Output::Log { path: dir.join("log"), prefix: None };
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo one; echo two >&2; exit 3"]);
        let child = reactor.spawn(&mut command, &log).unwrap();
        let mut code = None;
        while code.is_none() {
            for happening in reactor.wait(Some(5000)) {
                if let Happening::Ended(pid, status) = happening {
                    code = (pid == child.pid).then_some(status).or(code);
                }
            }
        }
        assert_eq!(code, Some(3));
        assert_eq!(reactor.close(child), ["one", "two"]);
        assert!(reactor.streams.is_empty());
        assert_eq!(std::fs::read_to_string(dir.join("log")).unwrap(), "one\ntwo\n");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
