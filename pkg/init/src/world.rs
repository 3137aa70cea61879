//! All that init holds while the system runs, and its one loop.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use moby_bundle::report::{Entry, Outcome, What};

use rustix::process::{Pid, Signal, kill_process};

use crate::cmdline::Cmdline;
use crate::console::say;
use crate::daemon::Daemon;
use crate::error::Result;
use crate::module::Modules;
use crate::output::Output;
use crate::reactor::{Child, Happening, Reactor};
use crate::record::{Event, Record, now};

/// How long a program may take to end after SIGTERM, in milliseconds.
pub const STOP: u64 = 5000;

/// How the system goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Switches the machine off.
    Poweroff,
    /// Stops the processor.
    Halt,
    /// Starts the machine again.
    Reboot,
}

impl Action {
    /// Busybox's signals: USR2 off, USR1 halt, TERM and INT (ctrl-alt-del) reboot; PWR is off.
    pub fn of_signal(signal: i32) -> Option<Self> {
        match signal {
            libc::SIGUSR2 | libc::SIGPWR => Some(Self::Poweroff),
            libc::SIGUSR1 => Some(Self::Halt),
            libc::SIGTERM | libc::SIGINT => Some(Self::Reboot),
            _ => None,
        }
    }

    /// The signal for PID 1.
    pub fn signal(self) -> i32 {
        match self {
            Self::Poweroff => libc::SIGUSR2,
            Self::Halt => libc::SIGUSR1,
            Self::Reboot => libc::SIGTERM,
        }
    }

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Poweroff => "poweroff",
            Self::Halt => "halt",
            Self::Reboot => "reboot",
        }
    }
}

/// All that init holds.
#[derive(Debug)]
pub struct World {
    /// The kernel's command line.
    pub args: Cmdline,
    /// The boot report.
    pub record: Record,
    /// Where init waits.
    pub reactor: Reactor,
    /// The kernel's modules.
    pub modules: Modules,
    /// Programs that are kept running.
    pub daemons: Vec<Daemon>,
    /// Init runs in a container, whose maker did what is the kernel's and the machine's.
    pub contained: bool,
    /// Somebody asked to go down.
    pub request: Option<Action>,
    /// The system is going down: nothing is started again.
    pub leaving: bool,
    /// Exit codes nobody has taken yet, of the processes in `watched`.
    ended: BTreeMap<u32, i32>,
    watched: BTreeSet<u32>,
    /// Keeps the exit codes of orphans too: one of them will be asked for.
    orphans: bool,
}

impl World {
    /// Begins; `/proc` need not be there yet.
    pub fn new(contained: bool) -> Result<Self> {
        Ok(Self {
            args: Cmdline::load(),
            record: Record::new(),
            reactor: Reactor::new()?,
            modules: Modules::default(),
            daemons: Vec::new(),
            contained,
            request: None,
            leaving: false,
            ended: BTreeMap::new(),
            watched: BTreeSet::new(),
            orphans: false,
        })
    }

    /// Starts a program whose end will be waited for.
    pub fn spawn(&mut self, command: &mut Command, output: &Output) -> Result<Child> {
        let child = self.reactor.spawn(command, output)?;
        self.watched.insert(child.pid);
        Ok(child)
    }

    /// Will wait for a program that the reactor started.
    pub fn watch(&mut self, child: Child) {
        self.watched.insert(child.pid);
    }

    /// Runs a program to its end; gives its exit code and last lines.
    pub fn run(&mut self, command: &mut Command, output: &Output) -> Result<(i32, Vec<String>)> {
        let child = self.spawn(command, output)?;
        let code = self.wait(child.pid, None).unwrap_or_default();
        Ok((code, self.reactor.close(child)))
    }

    /// As [`World::run`], and keeps the exit codes of orphans from now until [`World::forget`].
    pub fn run_parent(&mut self, command: &mut Command, output: &Output) -> Result<(i32, Child)> {
        self.orphans = true;
        let child = self.spawn(command, output)?;
        Ok((self.wait(child.pid, None).unwrap_or_default(), child))
    }

    /// Waits for one orphan from now on and forgets the others.
    pub fn adopt(&mut self, pid: u32) {
        self.watched.insert(pid);
        self.forget();
    }

    /// Ends [`World::run_parent`]'s keeping.
    pub fn forget(&mut self) {
        self.orphans = false;
        self.ended.retain(|pid, _| self.watched.contains(pid));
    }

    /// Waits for a process until the time `deadline`; the rest of the world goes on meanwhile.
    pub fn wait(&mut self, pid: u32, deadline: Option<u64>) -> Option<i32> {
        loop {
            if let Some(code) = self.ended.remove(&pid) {
                self.watched.remove(&pid);
                return Some(code);
            }
            let left = deadline.map(|deadline| deadline.saturating_sub(now()));
            if left == Some(0) {
                return None;
            }
            self.turn(left);
        }
    }

    /// Waits for a container; when somebody asks to go down while it boots, ends it first.
    pub fn wait_container(&mut self, pid: u32) -> i32 {
        let mut signals = [Signal::TERM, Signal::KILL].into_iter();
        let mut deadline = None;
        loop {
            if let Some(code) = self.ended.remove(&pid) {
                self.watched.remove(&pid);
                return code;
            }
            let hurry = self.request.is_some() && !self.leaving;
            if hurry && deadline.is_none_or(|deadline| now() >= deadline) {
                let Some(signal) = signals.next() else { return 128 + libc::SIGKILL };
                // One that is gone is about to be reaped.
                let _gone = kill(pid, signal);
                deadline = Some(now() + STOP);
            }
            self.turn(deadline.map(|deadline| deadline.saturating_sub(now())));
        }
    }

    /// Waits for something, at most `patience` milliseconds, and deals with it.
    pub fn turn(&mut self, patience: Option<u64>) {
        let daemons = self.supervise();
        let patience = [patience, daemons].into_iter().flatten().min();
        for happening in self.reactor.wait(patience) {
            match happening {
                Happening::Ended(pid, code) => self.ended(pid, code),
                Happening::Signal(signal) => self.signal(signal),
                Happening::Event(event) => self.event(event),
                Happening::Device(alias) => self.modules.device(&alias),
            }
        }
    }

    fn ended(&mut self, pid: u32, code: i32) {
        let leaving = self.leaving;
        if let Some(daemon) = self.daemons.iter_mut().find(|daemon| daemon.pid() == Some(pid)) {
            daemon.ended(code, leaving);
        }
        if self.orphans || self.watched.contains(&pid) {
            self.ended.insert(pid, code);
        }
    }

    fn signal(&mut self, signal: i32) {
        let Some(action) = Action::of_signal(signal) else { return };
        if self.request.is_none() {
            say(format_args!("{} asked for", action.name()));
            self.request = Some(action);
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Settled => self.record.finish(),
            Event::Service(entry) => {
                let known = self.record.finished();
                self.record.put(entry);
                if known {
                    self.record.save();
                }
            }
        }
    }

    /// Starts the daemons that are due; gives the milliseconds until the next one is.
    fn supervise(&mut self) -> Option<u64> {
        if self.leaving {
            return None;
        }
        let now = now();
        let Self { daemons, reactor, .. } = self;
        daemons.iter_mut().filter_map(|daemon| daemon.tend(reactor, now)).min()
    }

    /// Begins an entry of the report.
    pub fn begin(&self, what: What, name: &str) -> Entry {
        Entry::new(what, name, now())
    }

    /// Ends an entry of the report.
    pub fn end(&mut self, mut entry: Entry, outcome: Outcome) {
        entry.outcome = outcome;
        entry.duration = now().saturating_sub(entry.start);
        self.record.put(entry);
    }
}

/// Sends a signal to one process.
pub fn kill(pid: u32, signal: Signal) -> rustix::io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(rustix::io::Errno::SRCH)?;
    kill_process(pid, signal)
}
