//! The boot report: what init did, when, for how long, and how it ended.
//!
//! One JSON object in [`crate::path::REPORT`], and on the virtio-serial port
//! [`crate::path::REPORT_PORT`] as one line once the boot is finished. All times are whole
//! milliseconds since the kernel started (CLOCK_BOOTTIME).

use serde::{Deserialize, Serialize};

/// The version of this schema.
pub const VERSION: u32 = 1;

/// How many of a container's last lines of output are kept.
pub const LINES: usize = 10;

/// A whole boot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootReport {
    /// The version of the schema, see [`VERSION`].
    pub version: u32,
    /// The kernel's release.
    #[serde(default)]
    pub kernel: String,
    /// When init began.
    pub started: u64,
    /// When the last service was ready or had failed; absent while the boot goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<u64>,
    /// Whether every step and container succeeded.
    pub ok: bool,
    /// Steps and containers in the order of their start.
    pub entries: Vec<Entry>,
}

/// What an entry tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// A step of init.
    Step,
    /// An onboot container.
    Onboot,
    /// A service.
    Service,
    /// An onshutdown container.
    Onshutdown,
}

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is under way, or waits for what it comes after.
    Pending,
    /// It was done.
    Ok,
    /// It failed.
    Failed,
    /// It had nothing to do here.
    Skipped,
}

/// One step or container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What it is.
    pub what: What,
    /// Its name: a step's, or a container's with its number (`000-NAME`) where it has one.
    pub name: String,
    /// When it began.
    pub start: u64,
    /// How long it took: a step or onboot container to its end, a service to its readiness.
    pub duration: u64,
    /// How it stands.
    pub outcome: Outcome,
    /// The exit code, where a program ended; 128 + N for signal N.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The last lines of output of what failed, at most [`LINES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<String>,
    /// How often a service was started again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: u32,
    /// What a service came after.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
}

impl Entry {
    /// Begins an entry at `start`.
    pub fn new(what: What, name: &str, start: u64) -> Self {
        Self {
            what,
            name: name.to_owned(),
            start,
            duration: 0,
            outcome: Outcome::Pending,
            exit: None,
            error: None,
            output: Vec::new(),
            restarts: 0,
            after: Vec::new(),
        }
    }
}

/// The line on the port [`crate::path::EXIT_PORT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The guest's exit code.
    pub exit: i32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let mut entry = Entry::new(What::Onboot, "000-sysctl", 1200);
        entry.outcome = Outcome::Failed;
        entry.exit = Some(3);
        let report = BootReport { version: VERSION, entries: vec![entry], ..BootReport::default() };
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(
            text,
            r#"{"version":1,"kernel":"","started":0,"ok":false,"entries":[{"what":"onboot","name":"000-sysctl","start":1200,"duration":0,"outcome":"failed","exit":3}]}"#
        );
        assert_eq!(serde_json::from_str::<BootReport>(&text).unwrap(), report);
    }
}
