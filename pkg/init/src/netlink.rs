//! Network interfaces through rtnetlink: bring up, make, move.
//!
//! Only what `runtime.json` asks for. Spec: rtnetlink(7), linux/if_link.h.

use std::fs;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

use crate::error::{Error, Result};

// NETLINK_ROUTE, the family that is wanted, is protocol 0: the default.
const RTM_NEWLINK: u16 = 16;
const NLMSG_ERROR: u16 = 2;
/// NLM_F_REQUEST | NLM_F_ACK.
const REQUEST: u16 = 0x1 | 0x4;
/// NLM_F_EXCL | NLM_F_CREATE.
const CREATE: u16 = 0x200 | 0x400;
const IFF_UP: u32 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_PID: u16 = 19;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;

/// Brings an interface up; the loopback one gets its addresses from the kernel then.
pub fn up(name: &str) -> Result<()> {
    let message = Message::new(RTM_NEWLINK, REQUEST).link(0, IFF_UP).text(IFLA_IFNAME, name);
    ask(message, "bringing up the interface", name)
}

/// Makes an interface of `kind`, a veth with its `peer`, in the network name space of process
/// `pid` or in the root one.
pub fn add(name: &str, kind: &str, peer: Option<&str>, pid: Option<u32>) -> Result<()> {
    let info = Message::attributes().text(IFLA_INFO_KIND, kind);
    let info = match peer {
        None => info,
        Some(peer) => {
            let other = Message::attributes().link(0, 0).text(IFLA_IFNAME, peer);
            let data = Message::attributes().nested(VETH_INFO_PEER, &other);
            info.nested(IFLA_INFO_DATA, &data)
        }
    };
    let mut message =
        Message::new(RTM_NEWLINK, REQUEST | CREATE).link(0, 0).text(IFLA_IFNAME, name);
    if let Some(pid) = pid {
        message = message.attribute(IFLA_NET_NS_PID, &pid.to_ne_bytes());
    }
    ask(message.nested(IFLA_LINKINFO, &info), "making the interface", name)
}

/// Moves an interface into the network name space of process `pid`.
pub fn shift(name: &str, pid: u32) -> Result<()> {
    let index = fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok();
    let Some(index) = index.and_then(|text| text.trim().parse::<i32>().ok()) else {
        return Err(Error::new("finding the interface", name, Errno::NODEV));
    };
    let message = Message::new(RTM_NEWLINK, REQUEST)
        .link(index, 0)
        .attribute(IFLA_NET_NS_PID, &pid.to_ne_bytes());
    ask(message, "moving the interface", name)
}

/// Sends one request and waits for its acknowledgement.
fn ask(message: Message, doing: &'static str, name: &str) -> Result<()> {
    let talk = || {
        let socket =
            socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        send(&socket, &message.finish(), SendFlags::empty())?;
        let mut answer = [0; 4096];
        let (length, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
        acknowledged(&answer[..length])
    };
    talk().map_err(|errno| Error::new(doing, name, errno))
}

/// Reads `struct nlmsgerr`: the header, then a negative errno or 0.
fn acknowledged(answer: &[u8]) -> std::result::Result<(), Errno> {
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let code = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(code)) => Err(Errno::from_raw_os_error(code.saturating_neg())),
        _ => Err(Errno::PROTO),
    }
}

/// A message under construction: everything is aligned to four bytes.
struct Message(Vec<u8>);

impl Message {
    /// Begins with a `struct nlmsghdr`; its length is set by [`Message::finish`].
    fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = vec![0; 16];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        Self(bytes)
    }

    /// Begins a list of attributes.
    fn attributes() -> Self {
        Self(Vec::new())
    }

    /// Appends a `struct ifinfomsg` that sets `flags`.
    fn link(mut self, index: i32, flags: u32) -> Self {
        self.0.extend_from_slice(&[0; 4]);
        self.0.extend_from_slice(&index.to_ne_bytes());
        self.0.extend_from_slice(&flags.to_ne_bytes());
        self.0.extend_from_slice(&flags.to_ne_bytes());
        self
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(4 + value.len()).expect("attributes are short");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn text(self, kind: u16, value: &str) -> Self {
        // Interface names are 15 bytes at most; the kernel refuses longer ones by itself.
        let cut = value.len().min(255);
        let mut bytes = value.as_bytes()[..cut].to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    fn nested(self, kind: u16, inner: &Self) -> Self {
        self.attribute(kind, &inner.0)
    }

    fn finish(&self) -> Vec<u8> {
        let mut bytes = self.0.clone();
        let length = u32::try_from(bytes.len()).expect("messages are short");
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_kernels_shape() {
        let bytes =
            Message::new(RTM_NEWLINK, REQUEST).link(0, IFF_UP).text(IFLA_IFNAME, "lo").finish();
        assert_eq!(bytes.len(), 16 + 16 + 8);
        assert_eq!(bytes[..4], 40_u32.to_ne_bytes());
        assert_eq!(bytes[32..], [7, 0, 3, 0, b'l', b'o', 0, 0]);
    }

    #[test]
    fn answers() {
        let answer = |code: i32| {
            let mut bytes = [0; 20];
            bytes[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
            bytes[16..].copy_from_slice(&code.to_ne_bytes());
            acknowledged(&bytes)
        };
        assert_eq!(answer(0), Ok(()));
        assert_eq!(answer(-17), Err(Errno::EXIST));
        assert_eq!(acknowledged(&[]), Err(Errno::PROTO));
    }
}
