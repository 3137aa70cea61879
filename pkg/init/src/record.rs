//! The boot report while it grows, and the exit code of the guest.

use std::fs;
use std::io::Write;

use moby_bundle::path;
use moby_bundle::report::{BootReport, Entry, Exit, Outcome, VERSION, What};
use rustix::time::{ClockId, clock_gettime};

use crate::console::say;
use crate::error::{Error, Result};
use crate::port;

/// What the service manager tells init, a JSON object a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A service stands so now.
    Service(Entry),
    /// Every service was ready, failed or ended at least once.
    Settled,
}

impl Event {
    /// Writes the event as a line without its end.
    pub fn line(&self) -> String {
        match self {
            Self::Settled => "\"settled\"".to_owned(),
            Self::Service(entry) => {
                serde_json::to_string(entry).expect("an entry holds nothing that JSON cannot")
            }
        }
    }

    /// Reads such a line.
    pub fn parse(line: &str) -> Option<Self> {
        if line == "\"settled\"" {
            return Some(Self::Settled);
        }
        serde_json::from_str(line).ok().map(Self::Service)
    }
}

/// The report while it grows.
#[derive(Debug)]
pub struct Record {
    report: BootReport,
}

/// Gives the milliseconds since the kernel started.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let whole = u64::try_from(time.tv_sec).unwrap_or(0) * 1000;
    whole + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000
}

impl Record {
    /// Begins now.
    pub fn new() -> Self {
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        let report =
            BootReport { version: VERSION, kernel, started: now(), ..BootReport::default() };
        Self { report }
    }

    /// Sets down an entry, in the place of a former one of the same kind and name.
    pub fn put(&mut self, entry: Entry) {
        let same = |old: &&mut Entry| old.what == entry.what && old.name == entry.name;
        match self.report.entries.iter_mut().find(same) {
            Some(old) => *old = entry,
            None => self.report.entries.push(entry),
        }
    }

    /// Tells whether the boot was finished.
    pub fn finished(&self) -> bool {
        self.report.finished.is_some()
    }

    /// Ends the boot: writes the report to its file and, once, to the host's port.
    pub fn finish(&mut self) {
        if self.finished() {
            return;
        }
        let end = now();
        self.report.finished = Some(end);
        self.save();
        let failed = self.report.entries.iter().filter(|entry| entry.outcome == Outcome::Failed);
        let failed: Vec<&str> = failed.map(|entry| entry.name.as_str()).collect();
        // Before it is said, so that who waits for the words has the report.
        let sent = port::send(path::REPORT_PORT, &self.text());
        sent.unwrap_or_else(say);
        let (seconds, tenths) = (end / 1000, end % 1000 / 100);
        if failed.is_empty() {
            say(format_args!("booted in {seconds}.{tenths} s"));
        } else {
            say(format_args!("booted in {seconds}.{tenths} s, failed: {}", failed.join(", ")));
        }
    }

    /// Writes the report to its file.
    pub fn save(&mut self) {
        self.report.entries.sort_by_key(|entry| entry.start);
        self.report.ok = self.report.entries.iter().all(|entry| entry.outcome != Outcome::Failed);
        let write = || -> Result<()> {
            let fail = |error: std::io::Error| Error::io("writing", path::REPORT, &error);
            fs::create_dir_all(path::RUN).map_err(fail)?;
            let new = format!("{}.new", path::REPORT);
            let mut file = fs::File::create(&new).map_err(fail)?;
            file.write_all(self.text().as_bytes()).map_err(fail)?;
            fs::rename(&new, path::REPORT).map_err(fail)
        };
        write().unwrap_or_else(say);
    }

    fn text(&self) -> String {
        let text = serde_json::to_string(&self.report);
        text.expect("a report holds nothing that JSON cannot") + "\n"
    }

    /// Gives the exit code: what a container wrote into [`path::EXIT`], else 0 when every
    /// onboot container succeeded, else 1.
    pub fn exit(&self) -> Exit {
        let written = fs::read_to_string(path::EXIT).ok().and_then(|text| text.trim().parse().ok());
        Exit { exit: written.unwrap_or(i32::from(!self.onboot_ok())) }
    }

    fn onboot_ok(&self) -> bool {
        let mut onboot = self.report.entries.iter().filter(|entry| entry.what == What::Onboot);
        onboot.all(|entry| entry.outcome == Outcome::Ok)
    }
}

impl Default for Record {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_the_pipe() {
        let entry = Entry::new(What::Service, "web", 12);
        for event in [Event::Settled, Event::Service(entry)] {
            assert_eq!(Event::parse(&event.line()), Some(event));
        }
        assert_eq!(Event::parse("nonsense"), None);
    }

    #[test]
    fn a_failed_onboot_is_the_exit_code() {
        let mut record = Record::new();
        let mut entry = Entry::new(What::Onboot, "000-a", 1);
        entry.outcome = Outcome::Ok;
        record.put(entry.clone());
        assert_eq!(record.exit().exit, 0);
        entry.outcome = Outcome::Failed;
        record.put(entry);
        assert_eq!(record.exit().exit, 1);
        assert_eq!(record.report.entries.len(), 1);
    }
}
