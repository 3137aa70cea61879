//! A span of time as people write it: `500ms`, `5s`, `2m`, or a bare number of seconds.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

/// A span of time, whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Delay(pub u64);

impl Delay {
    /// Makes a span of whole seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds * 1000)
    }

    /// Gives the span as a [`Duration`].
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// Reads `500ms`, `5s`, `2m`, `1h` or a bare number of seconds.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let scale = match unit {
            "ms" => 1,
            "s" | "" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(scale).map(Self)
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0s"),
            ms if ms % 60_000 == 0 => write!(f, "{}m", ms / 60_000),
            ms if ms % 1000 == 0 => write!(f, "{}s", ms / 1000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

impl Serialize for Delay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Delay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DelayVisitor)
    }
}

struct DelayVisitor;

impl Visitor<'_> for DelayVisitor {
    type Value = Delay;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a span of time such as 500ms, 5s or 2m")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Delay, E> {
        Delay::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Delay, E> {
        let ms = seconds.checked_mul(1000);
        ms.map(Delay).ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(seconds), &self))
    }

    fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Delay, E> {
        match u64::try_from(seconds) {
            Ok(seconds) => self.visit_u64(seconds),
            Err(_) => Err(E::invalid_value(de::Unexpected::Signed(seconds), &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        for (text, ms, again) in [
            ("500ms", 500, "500ms"),
            ("5s", 5000, "5s"),
            ("5", 5000, "5s"),
            ("90s", 90_000, "90s"),
            ("2m", 120_000, "2m"),
            ("0", 0, "0s"),
        ] {
            let delay = Delay::parse(text).unwrap();
            assert_eq!(delay, Delay(ms), "{text}");
            assert_eq!(delay.to_string(), again, "{text}");
        }
        for bad in ["", "s", "-1s", "1x", "99999999999999999999s", "18446744073709551615m"] {
            assert_eq!(Delay::parse(bad), None, "{bad}");
        }
        assert_eq!(serde_json::from_str::<Delay>("3").unwrap(), Delay(3000));
        assert!(serde_json::from_str::<Delay>("-3").is_err());
    }
}
