//! Asking a service whether it is ready.

use std::time::Duration;

use moby_bundle::{Probe, Ready};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::containerd::Containerd;

/// How long one connection may take.
const CONNECT: Duration = Duration::from_secs(2);

/// Asks until the answer is yes. The caller bounds the time.
pub(crate) async fn until_ready(
    containerd: &Containerd,
    id: &str,
    pid: u32,
    ready: &Ready,
    config: &Value,
) {
    let mut number = 0_u64;
    loop {
        number += 1;
        if ask(containerd, id, pid, &ready.probe, config, number).await {
            return;
        }
        sleep(ready.interval.duration()).await;
    }
}

async fn ask(
    containerd: &Containerd,
    id: &str,
    pid: u32,
    probe: &Probe,
    config: &Value,
    number: u64,
) -> bool {
    match probe {
        // As the service sees it, whatever its mounts are.
        Probe::File(path) => std::fs::metadata(format!("/proc/{pid}/root{path}")).is_ok(),
        Probe::Tcp(address) => {
            matches!(timeout(CONNECT, TcpStream::connect(address)).await, Ok(Ok(_)))
        }
        Probe::Exec(args) => {
            let name = format!("ready-{number}");
            matches!(containerd.exec(id, &name, process(config, args)).await, Ok(0))
        }
    }
}

/// Makes the process of a probe: the service's own user, environment and capabilities, with
/// another command and no terminal.
fn process(config: &Value, args: &[String]) -> Vec<u8> {
    let mut process =
        config.get("process").cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    process["args"] = args.iter().cloned().map(Value::String).collect();
    process["terminal"] = Value::Bool(false);
    process.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_runs_as_its_service() {
        let config: Value =
            serde_json::from_str(r#"{"process":{"user":{"uid":7},"args":["a"],"terminal":true}}"#)
                .unwrap();
        let process: Value =
            serde_json::from_slice(&process(&config, &["b".into(), "c".into()])).unwrap();
        let expected: Value =
            serde_json::from_str(r#"{"user":{"uid":7},"args":["b","c"],"terminal":false}"#)
                .unwrap();
        assert_eq!(process, expected);
    }
}
