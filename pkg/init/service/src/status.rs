//! How a service stands, and who may go on because of it.

use moby_bundle::report::{Entry, Outcome};

/// How a service stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It waits for what it comes after.
    Waiting,
    /// It was started, and its readiness is not known yet.
    Starting,
    /// It does its work.
    Ready,
    /// It ended and waits for its restart.
    Restarting,
    /// It ended with 0 and stays so.
    Ended,
    /// It failed: to start, to become ready in time, or with an exit code.
    Failed,
    /// Somebody stopped it.
    Stopped,
}

impl Phase {
    /// Tells whether those that come after it may start, and the boot need not wait for it.
    pub(crate) fn passed(self) -> bool {
        matches!(self, Self::Ready | Self::Ended | Self::Failed | Self::Stopped)
    }

    /// Tells whether it stays so until somebody asks for the service.
    pub(crate) fn lasting(self) -> bool {
        matches!(self, Self::Ended | Self::Failed | Self::Stopped)
    }

    /// Reads the word of a lasting phase.
    pub(crate) fn parse_lasting(word: &str) -> Option<Self> {
        [Self::Ended, Self::Failed, Self::Stopped].into_iter().find(|phase| phase.name() == word)
    }

    /// Tells what it is in the report.
    pub(crate) fn outcome(self) -> Outcome {
        match self {
            Self::Waiting | Self::Starting => Outcome::Pending,
            Self::Ready | Self::Ended | Self::Stopped => Outcome::Ok,
            // One that is tried again has failed until it is ready once more.
            Self::Restarting | Self::Failed => Outcome::Failed,
        }
    }

    /// The word for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Restarting => "restarting",
            Self::Ended => "ended",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// Writes the table of `service list`.
pub(crate) fn table(rows: &[(Phase, Option<u32>, Entry)]) -> String {
    let width = rows.iter().map(|(_, _, entry)| entry.name.len()).max().unwrap_or(0).max(4);
    let mut text = format!(
        "{:width$}  {:10}  {:>7}  {:>8}  {:>4}\n",
        "NAME", "STATE", "PID", "RESTARTS", "EXIT"
    );
    for (phase, pid, entry) in rows {
        let number = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let pid = number(pid.map(|pid| pid.to_string()));
        let exit = number(entry.exit.map(|exit| exit.to_string()));
        let (name, state) = (&entry.name, phase.name());
        text += &format!("{name:width$}  {state:10}  {pid:>7}  {:>8}  {exit:>4}\n", entry.restarts);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use moby_bundle::report::What;

    #[test]
    fn lasting_phases_have_words() {
        for phase in [Phase::Ended, Phase::Failed, Phase::Stopped] {
            assert!(phase.lasting());
            assert_eq!(Phase::parse_lasting(phase.name()), Some(phase));
        }
        assert_eq!(Phase::parse_lasting(Phase::Ready.name()), None);
    }

    #[test]
    fn lists() {
        let mut entry = Entry::new(What::Service, "web", 0);
        entry.restarts = 2;
        let text = table(&[(Phase::Ready, Some(71), entry)]);
        let expected = "NAME  STATE           PID  RESTARTS  EXIT\nweb   ready            71         2     -\n";
        assert_eq!(text, expected);
    }
}
