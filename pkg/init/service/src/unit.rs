//! The life of one service: wait for others, start, become ready, end, start again.

use std::cell::{Cell, RefCell};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use moby_bundle::report::{Entry, What};
use moby_bundle::{Delay, Restart, Runtime, path};
use moby_init::console::{failure, say};
use moby_init::error::{Error, Result};
use moby_init::record::{Event, now};
use moby_init::{output, prepare};
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use crate::containerd::{Containerd, Task};
use crate::probe;
use crate::status::Phase;

/// How long a service may take to end after SIGTERM.
const STOP: Duration = Duration::from_millis(moby_init::world::STOP);

/// One service.
pub(crate) struct Unit {
    pub(crate) name: String,
    bundle: PathBuf,
    pub(crate) runtime: Runtime,
    phase: watch::Sender<Phase>,
    /// Somebody wants it to run.
    wanted: Cell<bool>,
    /// `wanted` changed.
    changed: Notify,
    pub(crate) pid: Cell<Option<u32>>,
    /// When its task was started last.
    began: Cell<u64>,
    entry: RefCell<Entry>,
}

/// How a run ended.
enum End {
    /// By itself, with this exit code.
    Exit(i32),
    /// Because somebody wished so.
    Stopped,
}

impl Unit {
    /// Reads a service's bundle.
    pub(crate) fn load(name: &str, bundle: PathBuf) -> Result<Self> {
        let runtime = prepare::runtime(&bundle)?;
        let unit = Self::new(name, bundle, runtime);
        let mark = fs::read_to_string(unit.mark()).ok();
        if let Some(phase) = mark.as_deref().and_then(Phase::parse_lasting) {
            unit.wanted.set(false);
            unit.phase.send_replace(phase);
        }
        Ok(unit)
    }

    /// Makes a unit for a bundle whose `runtime.json` cannot be read, and tells so.
    pub(crate) fn broken(name: &str, bundle: PathBuf, error: &Error) -> Self {
        let unit = Self::new(name, bundle, Runtime::default());
        unit.wanted.set(false);
        unit.fail(&error.to_string(), Vec::new());
        unit
    }

    fn new(name: &str, bundle: PathBuf, runtime: Runtime) -> Self {
        let mut entry = Entry::new(What::Service, name, now());
        entry.after.clone_from(&runtime.after);
        Self {
            name: name.to_owned(),
            bundle,
            runtime,
            phase: watch::Sender::new(Phase::Waiting),
            wanted: Cell::new(true),
            changed: Notify::new(),
            pid: Cell::new(None),
            began: Cell::new(0),
            entry: RefCell::new(entry),
        }
    }

    /// Tells how it stands.
    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Gives its entry of the report.
    pub(crate) fn entry(&self) -> Entry {
        self.entry.borrow().clone()
    }

    /// Wishes it to run, or not.
    pub(crate) fn want(&self, wanted: bool) {
        self.wanted.set(wanted);
        self.changed.notify_one();
    }

    /// Waits until those after it may go on.
    pub(crate) async fn passed(&self) {
        self.until(Phase::passed).await;
    }

    /// Waits until a wish to run has come to something.
    pub(crate) async fn started(&self) {
        while self.wanted.get() && !matches!(self.phase(), Phase::Ready) {
            self.passed().await;
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Tells why it failed.
    pub(crate) fn reason(&self) -> String {
        self.entry.borrow().error.clone().unwrap_or_default()
    }

    /// Waits until it does not run.
    pub(crate) async fn down(&self) {
        self.until(|phase| matches!(phase, Phase::Stopped | Phase::Ended | Phase::Failed)).await;
        while self.pid.get().is_some() {
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn until(&self, test: impl Fn(Phase) -> bool) {
        let mut phases = self.phase.subscribe();
        // The sender is `self`: it cannot be gone.
        let _alive = phases.wait_for(|phase| test(*phase)).await;
    }

    fn set(&self, phase: Phase) {
        let mut entry = self.entry.borrow_mut();
        entry.outcome = phase.outcome();
        let event = Event::Service(entry.clone());
        drop(entry);
        self.write_mark(phase);
        // Without init there is nobody to tell.
        let _alone = writeln!(std::io::stdout(), "{}", event.line());
        self.phase.send_replace(phase);
    }

    fn mark(&self) -> PathBuf {
        Path::new(path::SERVICE_MARKS).join(&self.name)
    }

    /// Leaves a mark for the next manager while the service is done with. A failed one may
    /// run yet (it was not ready in time), which the next manager finds out.
    fn write_mark(&self, phase: Phase) {
        let written = if phase.lasting() && self.pid.get().is_none() {
            let made = fs::create_dir_all(path::SERVICE_MARKS);
            made.and_then(|()| fs::write(self.mark(), phase.name()))
        } else {
            match fs::remove_file(self.mark()) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        };
        if let Err(error) = written {
            say(Error::io("marking", self.mark().display(), &error));
        }
    }

    fn fail(&self, what: &str, lines: Vec<String>) {
        failure(&format!("service {}", self.name), what, &lines);
        let mut entry = self.entry.borrow_mut();
        entry.error = Some(what.to_owned());
        entry.output = lines;
        if entry.duration == 0 {
            entry.duration = now().saturating_sub(entry.start);
        }
        drop(entry);
        self.set(Phase::Failed);
    }

    /// Lives for ever.
    pub(crate) async fn live(self: Rc<Self>, after: Vec<Rc<Self>>) {
        let mut containerd = None;
        loop {
            while !self.wanted.get() {
                self.changed.notified().await;
            }
            self.set(Phase::Waiting);
            tokio::select! {
                () = self.clear(&after) => {}
                () = self.unwanted() => {
                    self.set(Phase::Stopped);
                    continue;
                }
            }
            if containerd.is_none() {
                tokio::select! {
                    new = Containerd::connect(&self.runtime.namespace) => containerd = Some(new),
                    () = self.unwanted() => {}
                }
            }
            match &containerd {
                Some(containerd) if self.wanted.get() => self.keep(containerd).await,
                _ => self.set(Phase::Stopped),
            }
        }
    }

    /// Waits for what it comes after.
    async fn clear(&self, after: &[Rc<Self>]) {
        for unit in after {
            unit.passed().await;
            if unit.phase() == Phase::Failed {
                say(format_args!(
                    "service {}: {} failed, starting without it",
                    self.name, unit.name
                ));
            }
        }
    }

    /// Runs it again and again as its policy says, until it is done or not wanted any more.
    async fn keep(&self, containerd: &Containerd) {
        let policy = self.runtime.restart.unwrap_or_default();
        let mut row = 0;
        self.begin();
        loop {
            self.began.set(now());
            let end = self.run(containerd).await;
            self.pid.set(None);
            prepare::clean(&self.bundle);
            let (code, what) = match end {
                Ok(End::Stopped) => return self.set(Phase::Stopped),
                Ok(End::Exit(code)) => (code, format!("ended with exit code {code}")),
                // One that cannot be started is no success for `on-failure`.
                Err(error) => (1, error.to_string()),
            };
            let ran = Delay(now().saturating_sub(self.began.get()));
            let Some(wait) = self.next(policy, code, &what, ran, &mut row) else {
                self.wanted.set(false);
                return;
            };
            tokio::select! {
                () = sleep(wait.duration()) => {}
                () = self.unwanted() => return self.set(Phase::Stopped),
            }
        }
    }

    fn begin(&self) {
        let mut entry = self.entry.borrow_mut();
        entry.start = now();
        (entry.duration, entry.restarts) = (0, 0);
        (entry.error, entry.exit) = (None, None);
        entry.output.clear();
    }

    /// Decides about a restart after an end, and tells.
    fn next(
        &self,
        policy: Restart,
        code: i32,
        what: &str,
        ran: Delay,
        row: &mut u32,
    ) -> Option<Delay> {
        let next = policy.next(code, ran, row);
        let lines = self.entry.borrow().output.clone();
        match next {
            Some(wait) => {
                failure(
                    &format!("service {}", self.name),
                    &format!("{what}, starting it again in {wait}"),
                    &lines,
                );
                let mut entry = self.entry.borrow_mut();
                entry.restarts += 1;
                entry.error.get_or_insert_with(|| what.to_owned());
                drop(entry);
                // A service that is not ready in time stays failed while it is tried again.
                if self.phase() != Phase::Failed {
                    self.set(Phase::Restarting);
                }
            }
            None if code == 0 => {
                self.entry.borrow_mut().output.clear();
                self.set(Phase::Ended);
            }
            None => self.fail(what, lines),
        }
        next
    }

    /// Waits until nobody wants it to run.
    async fn unwanted(&self) {
        while self.wanted.get() {
            self.changed.notified().await;
        }
    }

    /// Starts it once and stays with it until its end.
    async fn run(&self, containerd: &Containerd) -> Result<End> {
        let config = self.config()?;
        let log = self.log()?;
        let logged = fs::metadata(&log).map_or(0, |meta| meta.len());
        if self.phase() != Phase::Failed {
            self.set(Phase::Starting);
        }
        let pid = match containerd.task(&self.name).await? {
            // The manager was started anew and finds it at work.
            Task::Running(pid) => pid,
            Task::None | Task::Ended(_) => self.start(containerd, &config, &log).await?,
        };
        self.pid.set(Some(pid));
        self.began.set(now());
        let end = self.accompany(containerd, pid, &config).await;
        containerd.present().await;
        if end.is_err() {
            // It may run yet, unattended; a task that is gone refuses, as is well.
            let _gone = containerd.kill(&self.name, libc_kill::KILL, true).await;
        }
        containerd.delete(&self.name).await?;
        // Only now is all of its output in the log.
        let mut entry = self.entry.borrow_mut();
        if let Ok(End::Exit(code)) = end {
            entry.exit = Some(code);
            entry.output = output::tail(&log, logged);
        }
        end
    }

    async fn start(&self, containerd: &Containerd, config: &Value, log: &Path) -> Result<u32> {
        containerd.delete(&self.name).await?;
        prepare::clean(&self.bundle);
        let again = self.entry.borrow().restarts > 0;
        prepare::files(&self.bundle, &self.runtime, again)?;
        let spec = config.to_string().into_bytes();
        let attempt = async {
            let pid = containerd.create(&self.name, spec, &log.display().to_string()).await?;
            prepare::process(pid, &self.runtime)?;
            containerd.start(&self.name, "").await?;
            Ok(pid)
        };
        match attempt.await {
            Ok(pid) => Ok(pid),
            Err(error) => {
                // What was half made is in the way of the next try; the first error is told.
                let _half = containerd.delete(&self.name).await;
                Err(error)
            }
        }
    }

    /// Stays with a running task: asks whether it is ready, stops it when it is not wanted.
    async fn accompany(&self, containerd: &Containerd, pid: u32, config: &Value) -> Result<End> {
        let ended = containerd.wait(&self.name, "");
        let ready = self.ready(containerd, pid, config);
        tokio::pin!(ended, ready);
        let mut asking = true;
        loop {
            tokio::select! {
                code = &mut ended => return code.map(|code| End::Exit(i32::try_from(code).unwrap_or(255))),
                () = &mut ready, if asking => asking = false,
                () = self.unwanted() => break,
            }
        }
        self.stop(containerd, pid).await?;
        if timeout(STOP, &mut ended).await.is_err() {
            containerd.kill(&self.name, libc_kill::KILL, true).await?;
            ended.await?;
        }
        Ok(End::Stopped)
    }

    async fn ready(&self, containerd: &Containerd, pid: u32, config: &Value) {
        let answered = match &self.runtime.ready {
            None => true,
            Some(ready) => {
                // The time counts from the first start, over all restarts.
                let spent = Delay(now().saturating_sub(self.entry.borrow().start)).duration();
                let left = ready.timeout.duration().saturating_sub(spent);
                let asked = probe::until_ready(containerd, &self.name, pid, ready, config);
                tokio::pin!(asked);
                if timeout(left, &mut asked).await.is_err() {
                    let lines = self.log().map(|log| output::tail(&log, 0)).unwrap_or_default();
                    if self.phase() != Phase::Failed {
                        self.fail(&format!("not ready after {}", ready.timeout), lines);
                    }
                    asked.await;
                }
                true
            }
        };
        if answered {
            let mut entry = self.entry.borrow_mut();
            if entry.duration == 0 {
                entry.duration = now().saturating_sub(entry.start);
            }
            entry.error = None;
            entry.output.clear();
            drop(entry);
            self.set(Phase::Ready);
        }
    }

    /// Asks a task to end. One that is the init of its own process name space and has no
    /// handler for SIGTERM never sees it, so that waiting would be in vain.
    async fn stop(&self, containerd: &Containerd, pid: u32) -> Result<()> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        if deaf(&status) {
            return containerd.kill(&self.name, libc_kill::KILL, true).await;
        }
        containerd.kill(&self.name, libc_kill::TERM, false).await
    }

    fn config(&self) -> Result<Value> {
        let file = self.bundle.join(path::CONFIG_JSON);
        let text = fs::read(&file).map_err(|error| Error::io("reading", file.display(), &error))?;
        let mut config: Value = serde_json::from_slice(&text)
            .map_err(|error| Error::text("parsing", file.display(), error))?;
        // containerd runs it from another folder.
        config["root"]["path"] =
            Value::String(self.bundle.join(path::ROOTFS).display().to_string());
        Ok(config)
    }

    /// Gives the log and makes sure that it is there, under LinuxKit's second name too.
    fn log(&self) -> Result<PathBuf> {
        let dir = Path::new(path::LOG);
        let log = dir.join(format!("{}.log", self.name));
        output::open(&log)?;
        let other = dir.join(format!("{}.out.log", self.name));
        let _exists = std::os::unix::fs::symlink(format!("{}.log", self.name), other);
        Ok(log)
    }
}

/// The signals of this file, numbered alike on every machine that moby builds for.
mod libc_kill {
    pub(super) const KILL: i32 = 9;
    pub(super) const TERM: i32 = 15;
}

/// Tells from `/proc/PID/status` whether SIGTERM is lost on a process: it is PID 1 of its name
/// space and neither catches nor blocks it.
fn deaf(status: &str) -> bool {
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let first = field("NSpid").is_some_and(|pids| {
        let pids: Vec<&str> = pids.split_whitespace().collect();
        pids.len() > 1 && pids.last() == Some(&"1")
    });
    let heard = |name: &str| {
        let mask = field(name).and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        // Unknown counts as heard: waiting is the safer error.
        mask.is_none_or(|mask| mask & (1 << (libc_kill::TERM - 1)) != 0)
    };
    first && !heard("SigCgt") && !heard("SigBlk")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_hear_sigterm() {
        let status = |pids: &str, blocked: &str, caught: &str| {
            format!("Name:\tx\nNSpid:\t{pids}\nSigBlk:\t{blocked}\nSigCgt:\t{caught}\n")
        };
        let (none, term) = ("0000000000000000", "0000000000004000");
        assert!(deaf(&status("71\t1", none, none)));
        assert!(!deaf(&status("71\t1", none, term)));
        assert!(!deaf(&status("71\t1", term, none)));
        assert!(!deaf(&status("71", none, none)));
        assert!(!deaf(""));
    }
}
