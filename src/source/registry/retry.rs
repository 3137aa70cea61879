//! Trying again: what is worth it, and how long to wait before.

use std::thread;
use std::time::Duration;

use anyhow::Result;

/// The longest wait that a server may ask for.
const AFTER_MAX: Duration = Duration::from_secs(60);

/// Why something was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// It may be done the next time, which the server may have told.
    Again { error: anyhow::Error, after: Option<Duration> },
    /// It never will be.
    Final(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Final(error)
    }
}

/// Attempts at one thing.
#[derive(Debug)]
pub(super) struct Tries {
    attempts: u32,
    backoff: Duration,
    failed: u32,
    told: String,
}

impl Tries {
    pub(super) fn new(attempts: u32, backoff: Duration) -> Self {
        Self { attempts, backoff, failed: 0, told: String::new() }
    }

    /// Forgets former failures, as there was progress since.
    pub(super) fn reset(&mut self) {
        self.failed = 0;
    }

    /// Waits before another attempt, twice as long each time, or returns the
    /// error where there is none left. An error that another attempt follows
    /// is told, once until it is another one.
    pub(super) fn wait(&mut self, failure: Failure, tell: &dyn Fn(&str)) -> Result<()> {
        let (error, after) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Again { error, after } => (error, after),
        };
        self.failed += 1;
        if self.failed >= self.attempts {
            return Err(error.context(format!("giving up after {} attempts", self.failed)));
        }
        let text = format!("{error:#}; trying again");
        if text != self.told {
            tell(&text);
            self.told = text;
        }
        let steps = 1 << (self.failed - 1).min(16);
        thread::sleep(after.map_or(self.backoff * steps, |after| after.min(AFTER_MAX)));
        Ok(())
    }
}
