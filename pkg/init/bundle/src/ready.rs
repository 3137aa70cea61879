//! `ready`: how init learns that a service does its work.
//!
//! Exactly one of `exec`, `tcp`, `file`, and how long and how often to ask.

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};

use crate::Delay;

/// A readiness probe with its figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct Ready {
    /// What is asked.
    pub probe: Probe,
    /// After how long the service counts as failed.
    pub timeout: Delay,
    /// The pause between two asks.
    pub interval: Delay,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// A command inside the container; ready when it ends with 0.
    Exec(Vec<String>),
    /// An address `host:port`, from the root name space; ready when it takes a connection.
    Tcp(String),
    /// A path as the container sees it; ready when it exists.
    File(String),
}

impl Ready {
    /// Makes a probe with the usual figures: asked every 200 ms for 60 s.
    pub const fn new(probe: Probe) -> Self {
        Self { probe, timeout: Delay::seconds(60), interval: Delay(200) }
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exec: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "address")]
    tcp: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<Delay>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interval: Option<Delay>,
}

impl TryFrom<Form> for Ready {
    type Error = &'static str;

    fn try_from(form: Form) -> Result<Self, Self::Error> {
        let probe = match (form.exec, form.tcp, form.file) {
            (Some(exec), None, None) if !exec.is_empty() => Probe::Exec(exec),
            (Some(_), None, None) => return Err("ready: exec is empty, expected a command"),
            (None, Some(tcp), None) => Probe::Tcp(tcp),
            (None, None, Some(file)) if file.starts_with('/') => Probe::File(file),
            (None, None, Some(_)) => return Err("ready: file is not an absolute path"),
            _ => return Err("ready: expected exactly one of exec, tcp and file"),
        };
        let usual = Self::new(probe);
        Ok(Self {
            timeout: form.timeout.unwrap_or(usual.timeout),
            interval: form.interval.unwrap_or(usual.interval),
            probe: usual.probe,
        })
    }
}

impl From<Ready> for Form {
    fn from(ready: Ready) -> Self {
        let usual = Ready::new(Probe::Exec(Vec::new()));
        let mut form = Self {
            exec: None,
            tcp: None,
            file: None,
            timeout: (ready.timeout != usual.timeout).then_some(ready.timeout),
            interval: (ready.interval != usual.interval).then_some(ready.interval),
        };
        match ready.probe {
            Probe::Exec(exec) => form.exec = Some(exec),
            Probe::Tcp(tcp) => form.tcp = Some(tcp),
            Probe::File(file) => form.file = Some(file),
        }
        form
    }
}

/// Reads `80`, `"80"` or `"host:80"`; a port alone is on the loopback address.
fn address<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Port(u16),
        Text(String),
    }
    let text = match Option::<Either>::deserialize(from)? {
        None => return Ok(None),
        Some(Either::Port(port)) => return Ok(Some(format!("127.0.0.1:{port}"))),
        Some(Either::Text(text)) => text,
    };
    if text.parse::<u16>().is_ok() {
        return Ok(Some(format!("127.0.0.1:{text}")));
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(Some(text)),
        _ => {
            Err(de::Error::custom(format!("ready: tcp: expected a port or host:port, got {text}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_probe() {
        for (text, probe) in [
            (
                r#"{"exec":["/bin/check","-q"]}"#,
                Probe::Exec(vec!["/bin/check".into(), "-q".into()]),
            ),
            (r#"{"tcp":"80"}"#, Probe::Tcp("127.0.0.1:80".into())),
            (r#"{"tcp":80}"#, Probe::Tcp("127.0.0.1:80".into())),
            (r#"{"tcp":"[::1]:80"}"#, Probe::Tcp("[::1]:80".into())),
            (r#"{"file":"/run/up"}"#, Probe::File("/run/up".into())),
        ] {
            let ready: Ready = serde_json::from_str(text).unwrap();
            assert_eq!(ready, Ready::new(probe), "{text}");
            let again = serde_json::to_string(&ready).unwrap();
            assert_eq!(serde_json::from_str::<Ready>(&again).unwrap(), ready, "{text}");
        }
        for bad in [
            "{}",
            r#"{"exec":[]}"#,
            r#"{"exec":["a"],"tcp":1}"#,
            r#"{"tcp":"web"}"#,
            r#"{"tcp":70000}"#,
            r#"{"file":"run/up"}"#,
            r#"{"http":"/"}"#,
        ] {
            assert!(serde_json::from_str::<Ready>(bad).is_err(), "{bad}");
        }
    }
}
