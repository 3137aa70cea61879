//! What QEMU says where it cannot make the machine, and the way out.

use anyhow::Error;

use crate::error::WithHint;

/// A part of QEMU's words, and what to do.
const WAYS_OUT: &[(&str, &str)] = &[
    (
        "bridge helper failed",
        "allow the bridge by a line `allow NAME` in /etc/qemu/bridge.conf, and let \
         qemu-bridge-helper be setuid root",
    ),
    (
        "could not configure /dev/net/tun",
        "make the tap device first: `ip tuntap add NAME mode tap user YOU`, as root",
    ),
    (
        "Could not set up host forwarding rule",
        "publish another port of the host: that one is in use, or below 1024 and not for you",
    ),
    (
        "Failed to get \"write\" lock",
        "another guest has this disk: end it, or give this one a copy of its own",
    ),
    (
        "Cannot lock pid file",
        "a guest with this state folder runs already: end it, or name another by --state",
    ),
    ("cannot set up guest memory", "give the guest less memory by --mem"),
    ("initialization failed", "start it on a desktop, or without --gui"),
    ("Could not access KVM kernel module", "be one who may write to /dev/kvm, or say --accel tcg"),
    ("Device or resource busy", "what it asks for is in use: end what uses it"),
];

/// What QEMU says where an accelerator does not run the guest, be it at once or
/// in its midst.
const ACCELERATOR: &[&str] = &[
    "KVM internal error",
    "KVM: entry failed",
    "error: kvm run failed",
    "failed to set MSR",
    "kvm/kvm.c",
    "Error: HV_",
];

/// Finds the line by which QEMU complains of its accelerator.
pub fn of_accelerator(said: &str) -> Option<&str> {
    said.lines().find(|line| ACCELERATOR.iter().any(|words| line.contains(words)))
}

/// Adds the way out to an error of QEMU's, where one is known.
pub fn hinted(error: Error) -> Error {
    let said = format!("{error:#}");
    let broken = of_accelerator(&said).map(|_| "emulate the guest: say --accel tcg");
    let known = || Some(WAYS_OUT.iter().find(|(words, _)| said.contains(words))?.1);
    match broken.or_else(known) {
        Some(way) => {
            let hinted: Result<(), Error> = Err(error).hint(|| way.to_owned());
            hinted.expect_err("it was an error before")
        }
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_some_ways_out() {
        let error = hinted(anyhow::anyhow!("QEMU ended: x: Cannot lock pid file: again"));
        assert!(crate::error::hint(&error).unwrap().contains("--state"));
        assert!(error.to_string().starts_with("QEMU ended"));
        assert!(crate::error::hint(&hinted(anyhow::anyhow!("other"))).is_none());
        let said = "QEMU cannot go on: KVM internal error. Suberror: 1";
        let error = hinted(anyhow::anyhow!(said));
        assert!(crate::error::hint(&error).unwrap().contains("--accel tcg"));
        assert_eq!(of_accelerator(&format!("warning\n{said}\nEAX=0")), Some(said));
    }
}
