//! A guest from its start to its end: console, ports, time-out, signals.
//!
//! Threads read QEMU's streams and ports and send what comes to one loop,
//! which alone decides. QEMU ends with 0 even when the guest panics, so the
//! end is told by what the guest says: on its port for the exit code, or by
//! the kernel's last words on the console.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use moby_bundle::report::{BootReport, Exit};
use rustix::process::{Pid, Signal, kill_process};

use super::accel;
use super::arguments::Port;
use super::complaint;
use super::process::{Program, Streams};
use super::search::Search;
use super::terminal;

/// What the threads tell the loop.
#[derive(Debug)]
pub enum Event {
    /// The console said something.
    Output(Vec<u8>),
    /// QEMU said something of its own.
    Errors(Vec<u8>),
    /// A stream or port was closed.
    Closed,
    /// A whole line came from a port, by its place.
    Port(usize, Vec<u8>),
    /// We were asked to end, by this signal.
    Signal(i32),
}

/// How a guest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, with its exit code if it told one.
    Exited(Option<i32>),
    /// The text waited for was seen.
    Seen,
    /// The time was over.
    TimedOut,
    /// Its kernel panicked.
    Panicked,
    /// We were told to end, by this signal.
    Signalled(i32),
    /// Nobody reads our output any more.
    Unread,
}

/// What is known once a guest has ended.
#[derive(Debug)]
pub struct Ending {
    /// How it ended.
    pub end: End,
    /// Its boot report, if it gave one.
    pub report: Option<BootReport>,
    /// What QEMU said of its own.
    pub said: String,
}

/// What a guest is watched for.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// A text on the console that means success.
    pub until: Option<String>,
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// Whether the text counts only once the boot report has come.
    pub report: bool,
    /// Whether signals are caught, to leave guest and terminal in order.
    pub signals: bool,
}

/// The kernel's last words.
const PANIC: &[u8] = b"Kernel panic - not syncing";
/// How long a panicked kernel may go on talking.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long QEMU may take to write its disks out.
const FAREWELL: Duration = Duration::from_secs(5);
/// The longest line that a port takes; a report of some hundred containers has far less.
const LINE: u64 = 8 << 20;
/// How much of QEMU's own words is kept.
const SAID: usize = 64 << 10;

/// The places of the two ports.
const EXIT: usize = 0;
const REPORT: usize = 1;

/// The ports, listening before QEMU starts.
#[derive(Debug)]
pub struct Ports {
    folder: tempfile::TempDir,
    listeners: Vec<UnixListener>,
}

impl Ports {
    /// Opens the ports in a temporary folder: the path of a socket is short.
    pub fn open() -> Result<Self> {
        let folder = tempfile::tempdir().context("making a temporary folder")?;
        let listeners = ports(folder.path(), true)
            .iter()
            .map(|port| {
                UnixListener::bind(&port.path)
                    .with_context(|| format!("listening on {}", port.path.display()))
            })
            .collect::<Result<_>>()?;
        Ok(Self { folder, listeners })
    }

    /// Names the ports for QEMU.
    pub fn named(&self) -> Vec<Port> {
        ports(self.folder.path(), true)
    }
}

/// Names the two ports: sockets in `folder`, or files to be read afterwards.
pub fn ports(folder: &Path, socket: bool) -> Vec<Port> {
    let port = |name: &'static str| Port { name, path: folder.join(name), socket };
    vec![port(moby_bundle::path::EXIT_PORT), port(moby_bundle::path::REPORT_PORT)]
}

/// Starts QEMU and stays until the guest has ended; the console goes to `out`.
pub fn run(program: &Program, ports: Ports, watch: &Watch, out: &mut dyn Write) -> Result<Ending> {
    let raw = terminal::Raw::set()?;
    let (sender, events) = channel();
    if watch.signals {
        terminal::signals(sender.clone())?;
    }
    let mut child = program.spawn(Streams::Piped)?;
    if let Some(input) = child.stdin.take() {
        terminal::forward(input);
    }
    let paths: Vec<PathBuf> = ports.named().into_iter().map(|port| port.path).collect();
    let open = listen(&mut child, ports.listeners, &sender);
    let mut session = Session {
        child,
        events,
        paths,
        open,
        watch: watch.clone(),
        search: watch.until.as_ref().map(|text| Search::new(text.as_bytes())),
        panic: Search::new(PANIC),
        seen: false,
        begun: false,
        panicked: None,
        exit: None,
        report: None,
        said: Vec::new(),
    };
    let end = session.until_end(out);
    if session.begun {
        // What comes next begins at the left. Nobody may be reading any more.
        let _ = written(out, b"\n");
    }
    let status = session.stop()?;
    drop(raw);
    drop(ports.folder);
    let end = end?;
    let said = String::from_utf8_lossy(&session.said).trim().to_owned();
    // QEMU fails only where the machine could not be made, or broke.
    if let (End::Exited(None), Some(status)) = (end, status)
        && !status.success()
    {
        if said.is_empty() {
            bail!("QEMU ended with {status}: {program}");
        }
        bail!("QEMU ended with {status}: {said}");
    }
    Ok(Ending { end, report: session.report, said })
}

/// Starts the threads and returns how many streams they read.
fn listen(child: &mut Child, listeners: Vec<UnixListener>, sender: &Sender<Event>) -> usize {
    let mut open = listeners.len();
    if let Some(stream) = child.stdout.take() {
        open += 1;
        pump(stream, sender.clone(), Event::Output);
    }
    if let Some(stream) = child.stderr.take() {
        open += 1;
        pump(stream, sender.clone(), Event::Errors);
    }
    for (index, listener) in listeners.into_iter().enumerate() {
        let sender = sender.clone();
        thread::spawn(move || {
            if let Ok((stream, _)) = listener.accept() {
                lines(stream, index, &sender);
            }
            // The loop is gone when the guest was left behind.
            let _ = sender.send(Event::Closed);
        });
    }
    open
}

fn pump(
    mut stream: impl Read + Send + 'static,
    sender: Sender<Event>,
    event: fn(Vec<u8>) -> Event,
) {
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    if sender.send(event(buffer[..count].to_vec())).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        // The loop is gone when the guest was left behind.
        let _ = sender.send(Event::Closed);
    });
}

/// Sends each line that comes from a port; one without end is cut off and ends the reading.
fn lines(stream: UnixStream, index: usize, sender: &Sender<Event>) {
    use io::BufRead;
    let mut stream = io::BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        match (&mut stream).take(LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let whole = line.ends_with(b"\n") || (line.len() as u64) < LINE;
                if sender.send(Event::Port(index, line)).is_err() || !whole {
                    return;
                }
            }
        }
    }
}

struct Session {
    child: Child,
    events: Receiver<Event>,
    paths: Vec<PathBuf>,
    open: usize,
    watch: Watch,
    search: Option<Search>,
    panic: Search,
    seen: bool,
    /// Whether the console is in the middle of a line.
    begun: bool,
    panicked: Option<Instant>,
    exit: Option<i32>,
    report: Option<BootReport>,
    said: Vec<u8>,
}

impl Session {
    /// Takes events until the guest has ended, or has to.
    fn until_end(&mut self, out: &mut dyn Write) -> Result<End> {
        let deadline = self.watch.timeout.and_then(|time| Instant::now().checked_add(time));
        let mut released = false;
        while self.open > 0 {
            // Asked here too: a guest that never stops talking must not outrun its time.
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(if self.panicked.is_some() { End::Panicked } else { End::TimedOut });
            }
            let silence = self.panicked.map(|last| last + LAST_WORDS);
            let event = match earlier(deadline, silence) {
                None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => self.events.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match event {
                Ok(Event::Output(bytes)) => {
                    self.console(&bytes);
                    self.begun = bytes.last().is_some_and(|byte| *byte != b'\n');
                    if !written(out, &bytes)? {
                        return Ok(End::Unread);
                    }
                }
                Ok(Event::Errors(bytes)) => {
                    let room = SAID.saturating_sub(self.said.len());
                    self.said.extend_from_slice(&bytes[..bytes.len().min(room)]);
                    // QEMU waits for ever then, and the guest with it.
                    if let Some(line) =
                        complaint::of_accelerator(&String::from_utf8_lossy(&self.said))
                    {
                        bail!("QEMU cannot go on: {line}");
                    }
                }
                Ok(Event::Closed) => {
                    self.open -= 1;
                    // Both streams of QEMU are closed, but a port may never have been opened.
                    if !released && self.open <= self.paths.len() {
                        released = true;
                        self.release();
                    }
                }
                Ok(Event::Port(index, line)) => self.port(index, &line),
                Ok(Event::Signal(signal)) => return Ok(End::Signalled(signal)),
                Err(RecvTimeoutError::Timeout) => match self.panicked {
                    Some(_) => return Ok(End::Panicked),
                    None => return Ok(End::TimedOut),
                },
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.satisfied() {
                return Ok(End::Seen);
            }
        }
        Ok(match self.panicked {
            Some(_) => End::Panicked,
            None => End::Exited(self.exit),
        })
    }

    fn satisfied(&self) -> bool {
        self.seen && (!self.watch.report || self.report.is_some())
    }

    fn console(&mut self, bytes: &[u8]) {
        if let Some(search) = &mut self.search {
            self.seen |= search.feed(bytes);
        }
        if self.panic.feed(bytes) || self.panicked.is_some() {
            self.panicked = Some(Instant::now());
        }
    }

    /// Takes a line from a port. What cannot be read counts as not said: any
    /// program in the guest may write there.
    fn port(&mut self, index: usize, line: &[u8]) {
        match index {
            EXIT => {
                let exit = serde_json::from_slice::<Exit>(line).ok();
                self.exit = exit.map(|exit| exit.exit).or(self.exit);
            }
            REPORT => self.report = serde_json::from_slice(line).ok().or(self.report.take()),
            _ => {}
        }
    }

    /// Connects to the ports in QEMU's place, for a thread may wait for it in vain.
    fn release(&self) {
        for path in &self.paths {
            // Where QEMU was connected nobody accepts any more.
            drop(UnixStream::connect(path));
        }
    }

    /// Ends QEMU if it has not ended, giving it time to write its disks out.
    fn stop(&mut self) -> Result<Option<ExitStatus>> {
        if let Some(status) = self.child.try_wait().context("waiting for QEMU")? {
            return Ok(Some(status));
        }
        let ended = self.open <= self.paths.len();
        if !ended {
            // It may have ended just now.
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        }
        accel::wait(&mut self.child, FAREWELL)
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

/// Writes console output on; `false` if nobody reads it any more.
fn written(out: &mut dyn Write, bytes: &[u8]) -> Result<bool> {
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("writing the console's output"),
    }
}
