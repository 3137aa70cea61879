//! `restart`: when a service is started again, and after how long.
//!
//! Written as a word (`no`, `on-failure`, `always`) or with its figures:
//! `{policy: always, delay: 1s, max: 30s, limit: 5}`.

use serde::{Deserialize, Serialize};

use crate::Delay;

/// When a service that ended is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Never.
    #[default]
    No,
    /// When it ended with an exit code other than 0.
    OnFailure,
    /// Always.
    Always,
}

/// A restart policy with its back-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Form", into = "Form")]
pub struct Restart {
    /// When.
    pub policy: Policy,
    /// The wait before the first restart; each further one waits twice as long.
    pub delay: Delay,
    /// The longest wait; a service that ran longer than this starts from `delay` again.
    pub max: Delay,
    /// How many restarts in a row at most; 0 is without end.
    pub limit: u32,
}

impl Restart {
    /// Makes a policy with the usual back-off: 500 ms doubling to 30 s, without end.
    pub const fn new(policy: Policy) -> Self {
        Self { policy, delay: Delay(500), max: Delay::seconds(30), limit: 0 }
    }

    /// Tells how long to wait before the next start of a service that ended with `exit` after
    /// running for `ran`; `None` leaves it ended. `restarts` counts those in a row, and is 0
    /// again once the service ran longer than [`Restart::max`].
    pub fn next(&self, exit: i32, ran: Delay, restarts: &mut u32) -> Option<Delay> {
        let wanted = match self.policy {
            Policy::No => false,
            Policy::OnFailure => exit != 0,
            Policy::Always => true,
        };
        if ran > self.max {
            *restarts = 0;
        }
        if !wanted || (self.limit > 0 && *restarts >= self.limit) {
            return None;
        }
        let factor = 1_u64.checked_shl((*restarts).min(32)).unwrap_or(u64::MAX);
        *restarts = restarts.saturating_add(1);
        Some(Delay(self.delay.0.saturating_mul(factor)).min(self.max.max(self.delay)))
    }
}

impl Default for Restart {
    fn default() -> Self {
        Self::new(Policy::No)
    }
}

/// The two ways to write it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Form {
    Word(Policy),
    Full(Full),
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Full {
    policy: Policy,
    #[serde(default = "Full::delay")]
    delay: Delay,
    #[serde(default = "Full::max")]
    max: Delay,
    #[serde(default)]
    limit: u32,
}

impl Full {
    fn delay() -> Delay {
        Restart::default().delay
    }

    fn max() -> Delay {
        Restart::default().max
    }
}

impl From<Form> for Restart {
    fn from(form: Form) -> Self {
        match form {
            Form::Word(policy) => Self::new(policy),
            Form::Full(Full { policy, delay, max, limit }) => Self { policy, delay, max, limit },
        }
    }
}

impl From<Restart> for Form {
    fn from(restart: Restart) -> Self {
        let Restart { policy, delay, max, limit } = restart;
        if restart == Restart::new(policy) {
            Self::Word(policy)
        } else {
            Self::Full(Full { policy, delay, max, limit })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_or_figures() {
        let word: Restart = serde_json::from_str("\"on-failure\"").unwrap();
        assert_eq!(word, Restart::new(Policy::OnFailure));
        assert_eq!(serde_json::to_string(&word).unwrap(), "\"on-failure\"");
        let full: Restart =
            serde_json::from_str(r#"{"policy":"always","delay":"1s","limit":3}"#).unwrap();
        assert_eq!((full.delay, full.max, full.limit), (Delay(1000), Delay(30_000), 3));
        let again = serde_json::to_string(&full).unwrap();
        assert_eq!(serde_json::from_str::<Restart>(&again).unwrap(), full);
        assert!(serde_json::from_str::<Restart>("\"sometimes\"").is_err());
    }

    #[test]
    fn backs_off_and_ends() {
        let always = Restart { limit: 8, ..Restart::new(Policy::Always) };
        let mut restarts = 0;
        let waits: Vec<_> = std::iter::from_fn(|| always.next(0, Delay(10), &mut restarts))
            .map(|delay| delay.0)
            .collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        assert_eq!(always.next(0, Delay(30_001), &mut restarts), Some(Delay(500)));
    }

    #[test]
    fn policy_decides() {
        for (policy, exit, again) in [
            (Policy::No, 1, false),
            (Policy::OnFailure, 0, false),
            (Policy::OnFailure, 1, true),
            (Policy::Always, 0, true),
        ] {
            let next = Restart::new(policy).next(exit, Delay(1), &mut 0);
            assert_eq!(next.is_some(), again, "{policy:?} {exit}");
        }
    }
}
