//! The containers of a manifest, and how services are kept running.
//!
//! `restart`, `after` and `ready` are moby's own keys; LinuxKit starts all
//! services at once and never again. What they come to is the contract with
//! init, `moby_bundle`, whose types they turn into.

use moby_bundle::{Delay, Policy, Probe};
use serde_json::{Map, Value, json};

use super::image::ImageConfig;
use super::node::{Kind, Meaning, Node};
use super::part::{Decoder, Part, Text, record};
use super::place::{Invalid, Place, Spanned};
use super::text::no_such_word;
use crate::oci::Reference;

record! {
    /// A container: an image and how it is run.
    Container as "container" check check_container {
        /// Name of the container, its id in containerd. Unique among services.
        name: Spanned<String> = "name",
        /// Image that holds the container's files.
        image: Spanned<Reference> = "image",
        /// How it is run.
        config: ImageConfig = ..,
    }

    /// A container that runs as long as the system, started after `onboot`.
    Service as "service" {
        /// The container.
        container: Container = ..,
        /// When the service is started again after its end: `no` (the
        /// default), `on-failure`, `always`, or a mapping with the figures.
        restart: Option<Restart> = "restart",
        /// Services that must be ready before this one is started.
        after: Vec<Spanned<String>> = "after",
        /// What shows that the service is ready; its start by default.
        ready: Option<Ready> = "ready",
    }

    /// When and how often a service is started again.
    RestartFigures as "restart" {
        /// When.
        policy: Spanned<Policy> = "policy",
        /// Wait before the first restart, doubled each time; 500 ms by default.
        delay: Option<Spanned<Delay>> = "delay",
        /// Longest wait, after which a run counts as a success; 30 s by default.
        max: Option<Spanned<Delay>> = "max",
        /// How many restarts in a row; 0, the default, is without end.
        limit: Option<u32> = "limit",
    }

    /// What shows that a service is ready: one of `exec`, `tcp`, `file`.
    Ready as "ready" check check_ready {
        /// Command, run in the container until it succeeds.
        exec: Option<Vec<String>> = "exec",
        /// Address that accepts connections, `host:port`, or a port of the loopback.
        tcp: Option<Spanned<Address>> = "tcp",
        /// Absolute path inside the container that exists.
        file: Option<Spanned<String>> = "file",
        /// How long to wait, such as `500ms`, `30s` or `2m`; 60 s by default.
        timeout: Option<Spanned<Delay>> = "timeout",
        /// The pause between two attempts; 200 ms by default.
        interval: Option<Spanned<Delay>> = "interval",
    }
}

/// When a service is started again, as init takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart(pub moby_bundle::Restart);

impl Part for Restart {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        if matches!(node.kind, Kind::Scalar(_)) {
            let policy = Spanned::<Policy>::decode(node, decoder)?;
            return Some(Self(moby_bundle::Restart::new(policy.value)));
        }
        let figures = RestartFigures::decode(node, decoder)?;
        let usual = moby_bundle::Restart::new(figures.policy.value);
        Some(Self(moby_bundle::Restart {
            policy: usual.policy,
            delay: figures.delay.map_or(usual.delay, |delay| delay.value),
            max: figures.max.map_or(usual.max, |max| max.value),
            limit: figures.limit.unwrap_or(usual.limit),
        }))
    }

    fn schema(shared: &mut Map<String, Value>) -> Value {
        json!({"anyOf": [<Policy as Text>::schema(), RestartFigures::schema(shared)]})
    }

    fn encode(&self) -> Value {
        serde_json::to_value(self.0).expect("a policy is words and numbers")
    }
}

const POLICIES: [(&str, Policy); 3] =
    [("no", Policy::No), ("on-failure", Policy::OnFailure), ("always", Policy::Always)];

impl Text for Policy {
    fn read(text: &str, at: &Place) -> Result<Self, Invalid> {
        let known = POLICIES.iter().find(|(word, _)| *word == text);
        known
            .map(|(_, policy)| *policy)
            .ok_or_else(|| no_such_word(text, &POLICIES.map(|(word, _)| word), at))
    }

    fn schema() -> Value {
        json!({"enum": POLICIES.map(|(word, _)| word)})
    }
}

/// A TCP address, `host:port` or `[host]:port`; a port alone is the loopback's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(pub String);

impl Part for Spanned<Address> {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let Some(written) = number_or_text(node) else {
            return decoder.mismatch(node, "a port or `host:port`", "");
        };
        let (host, port) = written.rsplit_once(':').unwrap_or(("127.0.0.1", written));
        if host.is_empty() || !port.parse::<u16>().is_ok_and(|port| port > 0) {
            return decoder.mismatch(node, "a port or `host:port`", "");
        }
        let value = Address(format!("{host}:{port}"));
        Some(Self { value, at: decoder.place(node.mark), written: written.to_owned() })
    }

    fn schema(_: &mut Map<String, Value>) -> Value {
        json!({"type": ["string", "integer"], "pattern": "^(.+:)?[0-9]+$", "maximum": u16::MAX})
    }

    fn encode(&self) -> Value {
        self.value.0.as_str().into()
    }
}

impl Part for Spanned<Delay> {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        match number_or_text(node).and_then(|text| Some((text, Delay::parse(text)?))) {
            Some((text, value)) => {
                Some(Self { value, at: decoder.place(node.mark), written: text.to_owned() })
            }
            None => decoder.mismatch(node, "a time like `500ms`, `30s` or `2m`", ""),
        }
    }

    fn schema(_: &mut Map<String, Value>) -> Value {
        json!({"type": ["string", "integer"], "pattern": "^[0-9]+(ms|s|m|h)?$", "minimum": 0})
    }

    fn encode(&self) -> Value {
        self.written.as_str().into()
    }
}

fn number_or_text(node: &Node) -> Option<&str> {
    match &node.kind {
        Kind::Scalar(scalar) if matches!(scalar.meaning, Meaning::Int(_) | Meaning::Text) => {
            Some(&scalar.text)
        }
        _ => None,
    }
}

impl Ready {
    /// Returns the probe as init takes it.
    pub fn contract(&self) -> moby_bundle::Ready {
        let probe = match (&self.exec, &self.tcp, &self.file) {
            (_, Some(tcp), _) => Probe::Tcp(tcp.value.0.clone()),
            (_, _, Some(file)) => Probe::File(file.value.clone()),
            (exec, None, None) => Probe::Exec(exec.clone().unwrap_or_default()),
        };
        let usual = moby_bundle::Ready::new(probe);
        moby_bundle::Ready {
            timeout: self.timeout.as_ref().map_or(usual.timeout, |timeout| timeout.value),
            interval: self.interval.as_ref().map_or(usual.interval, |interval| interval.value),
            probe: usual.probe,
        }
    }
}

/// The name becomes a folder of the image: it must not lead anywhere else.
fn check_container(container: &Container, decoder: &mut Decoder) {
    let name = &container.name;
    let odd = |c: char| c == '/' || c.is_control() || c.is_whitespace();
    if name.is_empty() || matches!(name.value.as_str(), "." | "..") || name.contains(odd) {
        let message = format!("expected a name that can name a folder, got `{name}`");
        decoder.problems.push(name.at.invalid(message));
    }
}

fn check_ready(ready: &Ready, decoder: &mut Decoder) {
    let ways = [ready.exec.is_some(), ready.tcp.is_some(), ready.file.is_some()];
    if ways.iter().filter(|given| **given).count() != 1 {
        decoder.problems.push(ready.at.invalid("expected one of `exec`, `tcp`, `file`"));
    } else if ready.exec.as_ref().is_some_and(Vec::is_empty) {
        decoder.problems.push(ready.at.invalid("expected a command in `exec`, got none"));
    } else if let Some(file) = ready.file.as_ref().filter(|file| !file.starts_with('/')) {
        let message = format!("expected an absolute path, got `{file}`");
        decoder.problems.push(file.at.invalid(message));
    }
}
