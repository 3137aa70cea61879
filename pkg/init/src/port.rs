//! Virtio-serial ports: lines to the host, found by the port's name.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use crate::error::{Error, Result};

/// How long the host may take to read on.
const PATIENCE: Timespec = Timespec { tv_sec: 3, tv_nsec: 0 };

/// Writes `text` to the port of that name; does nothing where the machine has none.
pub fn send(name: &str, text: &str) -> Result<()> {
    let Some(device) = find(name) else { return Ok(()) };
    let fail = |error: std::io::Error| Error::io("writing to the port", name, &error);
    // Non-blocking: a host that does not read must not hold up the way down.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).expect("flags fit into an int");
    let mut file = OpenOptions::new().write(true).custom_flags(flags).open(device).map_err(fail)?;
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(length) => rest = &rest[length..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut wait = [PollFd::new(&file, PollFlags::OUT)];
                if poll(&mut wait, Some(&PATIENCE)) == Ok(0) {
                    return Err(Error::text("writing to the port", name, "the host does not read"));
                }
            }
            Err(error) => return Err(fail(error)),
        }
    }
    Ok(())
}

/// Finds the device of the port: `/sys/class/virtio-ports/vport1p1/name` holds its name.
fn find(name: &str) -> Option<String> {
    let ports = fs::read_dir("/sys/class/virtio-ports").ok()?;
    let mut ports = ports.filter_map(std::result::Result::ok);
    let port = ports.find(|port| {
        fs::read_to_string(port.path().join("name")).is_ok_and(|found| found.trim() == name)
    })?;
    Some(format!("/dev/{}", port.file_name().to_str()?))
}
