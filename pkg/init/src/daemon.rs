//! A program that init keeps running: containerd, and the service manager.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use moby_bundle::{Delay, Policy, Restart, path};

use crate::console::{failure, say};
use crate::output::{Output, tail};
use crate::reactor::{Child, Reactor};
use crate::record::now;

/// A program that is started again when it ends.
#[derive(Debug)]
pub struct Daemon {
    /// Its name.
    pub name: &'static str,
    program: PathBuf,
    args: Vec<String>,
    output: Output,
    child: Option<Child>,
    /// When it was started, and how long its log was then.
    started: u64,
    logged: u64,
    restarts: u32,
    /// When to start it; `None` while it runs or is done with.
    due: Option<u64>,
}

impl Daemon {
    /// Makes one that starts at once.
    pub fn new(name: &'static str, program: PathBuf, args: Vec<String>, output: Output) -> Self {
        Self {
            name,
            program,
            args,
            output,
            child: None,
            started: 0,
            logged: 0,
            restarts: 0,
            due: Some(0),
        }
    }

    /// Gives its process while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.map(|child| child.pid)
    }

    /// Starts it when it is due; gives the milliseconds until then, if it waits.
    pub fn tend(&mut self, reactor: &mut Reactor, now: u64) -> Option<u64> {
        let due = self.due?;
        if due > now {
            return Some(due - now);
        }
        self.due = None;
        self.started = now;
        if self.name == "containerd" {
            // The socket of a dead one would be taken for a living one's.
            let _absent = fs::remove_file(path::CONTAINERD_SOCKET);
        }
        self.logged =
            self.log().and_then(|log| fs::metadata(log).ok()).map_or(0, |meta| meta.len());
        match reactor.spawn(Command::new(&self.program).args(&self.args), &self.output) {
            Ok(child) => {
                self.child = Some(child);
                None
            }
            Err(error) => {
                say(&error);
                self.again(1);
                self.due.map(|due| due.saturating_sub(now))
            }
        }
    }

    /// Notes its end; while the system stays up, tells of it and plans the next start.
    pub fn ended(&mut self, code: i32, leaving: bool) {
        self.child = None;
        if leaving {
            return;
        }
        let lines = self.log().map(|log| tail(log, self.logged)).unwrap_or_default();
        failure(self.name, &format!("ended with exit code {code}, starting it again"), &lines);
        self.again(code);
    }

    fn again(&mut self, code: i32) {
        let ran = Delay(now().saturating_sub(self.started));
        let wait = Restart::new(Policy::Always).next(code, ran, &mut self.restarts);
        self.due = wait.map(|wait| now() + wait.0);
    }

    fn log(&self) -> Option<&Path> {
        match &self.output {
            Output::File(path) | Output::Log { path, .. } => Some(path),
            Output::Console | Output::Events => None,
        }
    }
}

/// What `/etc/containerd/runtime-config.toml` says; LinuxKit's three keys.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ContainerdOptions {
    /// Further arguments.
    pub args: Vec<String>,
    /// `stderr`: where the log goes.
    pub log: Option<String>,
}

impl ContainerdOptions {
    /// Reads the lines `key = "value"`; other TOML has no meaning there.
    pub fn parse(text: &str) -> Self {
        let mut options = Self::default();
        for line in text.lines() {
            let Some((key, value)) = line.split_once('=') else { continue };
            let value = value.trim().trim_matches(['"', '\'']);
            match key.trim() {
                "cliopts" => options.args = value.split_whitespace().map(str::to_owned).collect(),
                "stderr" => options.log = Some(value.to_owned()),
                _ => {}
            }
        }
        options
    }

    /// Gives the place of the log: the console for `stderr` and `stdout`, else a file.
    pub fn output(&self) -> Output {
        match self.log.as_deref() {
            Some("stderr" | "stdout") => Output::Console,
            Some(file) if file.starts_with('/') => Output::File(file.into()),
            _ => Output::File(Path::new(path::LOG).join("containerd.log")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containerd_options() {
        let options = ContainerdOptions::parse(
            "cliopts = \"--log-level debug\"\nstderr=\"/var/log/c.log\"\n[x]\n",
        );
        assert_eq!(options.args, ["--log-level", "debug"]);
        assert_eq!(options.output(), Output::File("/var/log/c.log".into()));
        let file = Output::File("/var/log/containerd.log".into());
        assert_eq!(ContainerdOptions::parse("").output(), file);
    }
}
