//! What every system has of a network: loopback, a name, a resolver's file, device events.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use moby_bundle::path;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use rustix::system::{sethostname, uname};

use super::Done;
use crate::error::{Error, Result};
use crate::netlink;
use crate::world::World;

pub(super) fn loopback(_: &mut World) -> Result<Done> {
    netlink::up("lo").map(|()| Done::Yes)
}

/// LinuxKit's order; its last resort is a name from the first card's address.
pub(super) fn hostname(world: &mut World) -> Result<Done> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let mut name = read("/etc/hostname");
    if name.is_empty() {
        name = world.args.value(path::ARG_HOSTNAME).unwrap_or_default().to_owned();
    }
    if name.is_empty() {
        let now = uname().nodename().to_string_lossy().into_owned();
        let address = read("/sys/class/net/eth0/address");
        if !matches!(now.as_str(), "" | "(none)") || address.is_empty() {
            return Ok(Done::Nothing);
        }
        name = format!("linuxkit-{}", address.replace(':', ""));
    }
    sethostname(name.as_bytes())
        .map_err(|errno| Error::new("setting the host name", &name, errno))?;
    Ok(Done::Yes)
}

/// Makes the file that `/etc/resolv.conf` links to, for containers that bind and write it.
pub(super) fn resolver(_: &mut World) -> Result<Done> {
    let Ok(target) = fs::read_link("/etc/resolv.conf") else { return Ok(Done::Nothing) };
    let target = Path::new("/etc").join(target);
    if target.exists() {
        return Ok(Done::Nothing);
    }
    let fail = |error: std::io::Error| Error::io("making", target.display(), &error);
    if let Some(dir) = target.parent() {
        fs::create_dir_all(dir).map_err(fail)?;
    }
    fs::write(&target, "").map_err(fail)?;
    Ok(Done::Yes)
}

/// Opens the kernel's row of device events, group 1.
pub(super) fn device_events() -> Result<OwnedFd> {
    let open = || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT))?;
        bind(&socket, &SocketAddrNetlink::new(0, 1))?;
        Ok(socket)
    };
    open().map_err(|errno| Error::new("listening to", "device events", errno))
}
