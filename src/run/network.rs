//! `--networking` and `--publish`: how the guest reaches the world, and the world it.

use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};

/// A port of the host that leads to one of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The host's address; all of them if absent.
    pub address: Option<Ipv4Addr>,
    /// The host's port.
    pub host: u16,
    /// The guest's port.
    pub guest: u16,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
}

impl FromStr for Published {
    type Err = Error;

    /// Reads `[ADDRESS:]HOST:GUEST[/tcp|/udp]`.
    fn from_str(text: &str) -> Result<Self> {
        let expected = || format!("expected [ADDRESS:]HOST:GUEST[/tcp|udp], got `{text}`");
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol.trim().to_ascii_lowercase().as_str() {
            "tcp" => "tcp",
            "udp" => "udp",
            _ => bail!(expected()),
        };
        let parts: Vec<&str> = ports.split(':').collect();
        let (address, host, guest) = match parts[..] {
            [host, guest] => (None, host, guest),
            [address, host, guest] => (Some(address.parse().with_context(expected)?), host, guest),
            _ => bail!(expected()),
        };
        let port = |part: &str| match part.parse::<u16>() {
            Ok(0) | Err(_) => bail!(expected()),
            Ok(port) => Ok(port),
        };
        Ok(Self { address, host: port(host)?, guest: port(guest)?, protocol })
    }
}

/// How the guest is connected.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Network {
    /// Through QEMU itself: no rights needed, the guest can be reached by published ports only.
    #[default]
    User,
    /// An existing tap device.
    Tap(String),
    /// An existing bridge, through QEMU's setuid helper.
    Bridge(String),
    /// Not at all.
    None,
}

impl FromStr for Network {
    type Err = Error;

    /// Reads `default`, `user`, `tap,NAME`, `bridge,NAME` or `none`.
    fn from_str(text: &str) -> Result<Self> {
        let (mode, name) = match text.split_once(',') {
            Some((mode, name)) => (mode, name),
            None => (text, ""),
        };
        Ok(match (mode, name) {
            ("" | "default" | "user", "") => Self::User,
            ("none", "") => Self::None,
            ("tap" | "bridge", "") => bail!("expected `{mode},NAME`, got `{text}`"),
            ("tap", name) => Self::Tap(name.to_owned()),
            ("bridge", name) => Self::Bridge(name.to_owned()),
            _ => bail!("expected user, tap,NAME, bridge,NAME or none, got `{text}`"),
        })
    }
}

/// Builds the value of `-netdev`, or `None` without a network.
pub fn netdev(network: &Network, published: &[Published]) -> Result<Option<String>> {
    if *network != Network::User && !published.is_empty() {
        bail!("publishing ports needs `--networking user`");
    }
    Ok(Some(match network {
        Network::None => return Ok(None),
        Network::Tap(name) => {
            format!("tap,id=net0,ifname={},script=no,downscript=no", escaped(name))
        }
        Network::Bridge(name) => format!("bridge,id=net0,br={}", escaped(name)),
        Network::User => {
            let mut value = "user,id=net0".to_owned();
            for port in published {
                let address = port.address.map(|address| address.to_string()).unwrap_or_default();
                let Published { host, guest, protocol, .. } = port;
                write!(value, ",hostfwd={protocol}:{address}:{host}-:{guest}")
                    .expect("a string takes every text");
            }
            value
        }
    }))
}

/// Returns the address of the guest's network card: the one in the state folder's
/// file `mac-addr`, where LinuxKit keeps it and a user may put it, or `default`.
pub fn mac(state: &Path, default: [u8; 6]) -> Result<String> {
    let file = state.join("mac-addr");
    let text = match fs::read_to_string(&file) {
        Ok(text) => text.trim().to_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(default.map(|byte| format!("{byte:02x}")).join(":"));
        }
        Err(error) => return Err(error).with_context(|| format!("reading {}", file.display())),
    };
    let is_byte = |part: &str| part.len() == 2 && part.bytes().all(|c| c.is_ascii_hexdigit());
    if text.split(':').count() != 6 || !text.split(':').all(is_byte) {
        bail!("{}: expected an address such as 02:00:00:00:00:01, got `{text}`", file.display());
    }
    Ok(text)
}

/// Doubles commas, which would end a value inside one of QEMU's options.
pub fn escaped(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ports() {
        for (text, value) in [
            ("8080:80", "tcp::8080-:80"),
            ("53:5353/udp", "udp::53-:5353"),
            ("53:53/TCP", "tcp::53-:53"),
            ("127.0.0.1:2222:22", "tcp:127.0.0.1:2222-:22"),
        ] {
            let port: Published = text.parse().unwrap();
            let expected = format!("user,id=net0,hostfwd={value}");
            assert_eq!(netdev(&Network::User, &[port]).unwrap().unwrap(), expected);
        }
        for bad in ["", "80", "0:80", "80:0", "80:70000", "a:b", "1:2:3", "80:80/sctp", "1:2:3:4"] {
            assert!(bad.parse::<Published>().is_err(), "{bad}");
        }
    }

    #[test]
    fn keeps_the_address_of_the_state_folder() {
        let state = tempfile::tempdir().unwrap();
        let default = [2, 0, 0, 0, 0, 0xab];
        assert_eq!(mac(state.path(), default).unwrap(), "02:00:00:00:00:ab");
        let file = state.path().join("mac-addr");
        fs::write(&file, "52:54:00:12:34:56\n").unwrap();
        assert_eq!(mac(state.path(), default).unwrap(), "52:54:00:12:34:56");
        for bad in ["", "52:54:00:12:34", "52:54:00:12:34:5", "52:54:00:12:34:xy", "1,id=x"] {
            fs::write(&file, bad).unwrap();
            assert!(mac(state.path(), default).is_err(), "{bad}");
        }
    }

    #[test]
    fn reads_networks() {
        assert_eq!("default".parse::<Network>().unwrap(), Network::User);
        assert_eq!("none".parse::<Network>().unwrap(), Network::None);
        let bridge: Network = "bridge,br0".parse().unwrap();
        assert_eq!(netdev(&bridge, &[]).unwrap().unwrap(), "bridge,id=net0,br=br0");
        assert!(netdev(&bridge, &["1:2".parse().unwrap()]).is_err());
        for bad in ["tap", "bridge,", "vpn", "user,x", "none,x"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
