//! Mounts: options as mount(8) spells them, making, and taking away.

use std::ffi::CString;
use std::fs;
use std::path::Path;

use moby_bundle::Mount;
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount_bind_recursive, mount_change,
    mount_remount,
};

use crate::error::{Error, Result};

/// Options that are flags, and whether they set or clear them.
const FLAGS: &[(&str, MountFlags, bool)] = &[
    ("async", MountFlags::SYNCHRONOUS, false),
    ("atime", MountFlags::NOATIME, false),
    ("bind", MountFlags::BIND, true),
    ("dev", MountFlags::NODEV, false),
    ("diratime", MountFlags::NODIRATIME, false),
    ("dirsync", MountFlags::DIRSYNC, true),
    ("exec", MountFlags::NOEXEC, false),
    ("lazytime", MountFlags::LAZYTIME, true),
    ("mand", MountFlags::PERMIT_MANDATORY_FILE_LOCKING, true),
    ("noatime", MountFlags::NOATIME, true),
    ("nodev", MountFlags::NODEV, true),
    ("nodiratime", MountFlags::NODIRATIME, true),
    ("noexec", MountFlags::NOEXEC, true),
    ("nomand", MountFlags::PERMIT_MANDATORY_FILE_LOCKING, false),
    ("norelatime", MountFlags::RELATIME, false),
    ("nostrictatime", MountFlags::STRICTATIME, false),
    ("nosuid", MountFlags::NOSUID, true),
    ("nosymfollow", MountFlags::NOSYMFOLLOW, true),
    ("relatime", MountFlags::RELATIME, true),
    ("ro", MountFlags::RDONLY, true),
    ("rw", MountFlags::RDONLY, false),
    ("strictatime", MountFlags::STRICTATIME, true),
    ("suid", MountFlags::NOSUID, false),
    ("sync", MountFlags::SYNCHRONOUS, true),
];

/// Options that say how mounts are passed on to and from other name spaces.
const PROPAGATION: &[(&str, MountPropagationFlags)] = &[
    ("private", MountPropagationFlags::PRIVATE),
    ("shared", MountPropagationFlags::SHARED),
    ("slave", MountPropagationFlags::DOWNSTREAM),
    ("unbindable", MountPropagationFlags::UNBINDABLE),
    ("rprivate", MountPropagationFlags::PRIVATE.union(MountPropagationFlags::REC)),
    ("rshared", MountPropagationFlags::SHARED.union(MountPropagationFlags::REC)),
    ("rslave", MountPropagationFlags::DOWNSTREAM.union(MountPropagationFlags::REC)),
    ("runbindable", MountPropagationFlags::UNBINDABLE.union(MountPropagationFlags::REC)),
];

/// What a list of options comes to.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// Flags of mount(2) that describe the mount.
    pub flags: MountFlags,
    /// `bind` or `rbind` among the options.
    pub bind: bool,
    /// `rbind`.
    pub recursive: bool,
    /// `remount`.
    pub remount: bool,
    /// The last option about propagation.
    pub propagation: Option<MountPropagationFlags>,
    /// The file system's own options, comma-separated.
    pub data: String,
}

impl Options {
    /// Sorts `options` out; what is no option of mount(2) is the file system's.
    pub fn parse(options: &[String]) -> Self {
        let mut parsed = Self {
            flags: MountFlags::empty(),
            bind: false,
            recursive: false,
            remount: false,
            propagation: None,
            data: String::new(),
        };
        for option in options {
            parsed.add(option);
        }
        parsed
    }

    fn add(&mut self, option: &str) {
        match option {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "remount" => self.remount = true,
            "defaults" => {}
            other => {
                if let Some((_, flag, set)) = FLAGS.iter().find(|(name, ..)| *name == other) {
                    self.flags.set(*flag, *set);
                } else if let Some((_, flag)) = PROPAGATION.iter().find(|(name, _)| *name == other)
                {
                    self.propagation = Some(*flag);
                } else {
                    let comma = if self.data.is_empty() { "" } else { "," };
                    self.data.push_str(comma);
                    self.data.push_str(other);
                }
            }
        }
    }
}

/// Makes `mount` at `target`.
///
/// LinuxKit hands `remount,private` to one mount(2), which drops the second; here the mount
/// truly becomes private. A bind with further flags is bound and then remounted with them,
/// as mount(8) does.
pub fn make(mount: &Mount, target: &Path) -> Result<()> {
    let options = Options::parse(&mount.options);
    let fail = |doing| move |errno| Error::new(doing, target.display(), errno);
    let data = CString::new(options.data.as_str())
        .map_err(|_| Error::text("mounting", target.display(), "an option holds a zero byte"))?;
    let changes = !options.flags.is_empty() || !options.data.is_empty();
    if options.remount {
        if changes || options.propagation.is_none() {
            let bind = if options.bind { MountFlags::BIND } else { MountFlags::empty() };
            mount_remount(target, options.flags | bind, &*data).map_err(fail("remounting"))?;
        }
    } else if options.bind {
        bind(&mount.source, target, &options)?;
    } else {
        rustix::mount::mount(&*mount.source, target, &*mount.kind, options.flags, &*data)
            .map_err(|errno| Error::new("mounting", described(mount, target), errno))?;
    }
    if let Some(propagation) = options.propagation {
        mount_change(target, propagation).map_err(fail("changing the propagation of"))?;
    }
    Ok(())
}

fn bind(source: &str, target: &Path, options: &Options) -> Result<()> {
    let name = || format!("{source} at {}", target.display());
    let done = if options.recursive {
        mount_bind_recursive(source, target)
    } else {
        rustix::mount::mount_bind(source, target)
    };
    done.map_err(|errno| Error::new("binding", name(), errno))?;
    if !options.flags.is_empty() {
        mount_remount(target, options.flags | MountFlags::BIND, c"")
            .map_err(|errno| Error::new("remounting the bind of", name(), errno))?;
    }
    Ok(())
}

fn described(mount: &Mount, target: &Path) -> String {
    format!("{} ({}) at {}", mount.source, mount.kind, target.display())
}

/// Mounts `kind` at `target`, making the folder first.
pub fn simple(kind: &str, target: &str, options: &str) -> Result<()> {
    let mount = Mount {
        destination: target.to_owned(),
        kind: kind.to_owned(),
        source: kind.to_owned(),
        options: options
            .split(',')
            .filter(|option| !option.is_empty())
            .map(str::to_owned)
            .collect(),
    };
    // The mount tells what matters: a folder that cannot be made and is there is well.
    let _exists = fs::create_dir_all(target);
    match make(&mount, Path::new(target)) {
        Err(error) if error.errno() == Some(Errno::BUSY) => Ok(()),
        done => done,
    }
}

/// A line of `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Where.
    pub target: String,
    /// The file system's type.
    pub kind: String,
}

/// Lists what is mounted, in the order of mounting.
pub fn mounted() -> Vec<Mounted> {
    parse_mountinfo(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

/// Reads mountinfo: proc(5), `36 35 98:0 /root /target opts [tags] - type source super`.
fn parse_mountinfo(text: &str) -> Vec<Mounted> {
    let line = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let target = unescape(before.split(' ').nth(4)?);
        Some(Mounted { target, kind: after.split(' ').next()?.to_owned() })
    };
    text.lines().filter_map(line).collect()
}

/// Undoes the kernel's octal escapes (`\040` for a blank).
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|octal| u8::from_str_radix(octal, 8).ok());
        match code {
            Some(code) if code.is_ascii() => {
                plain.push(char::from(code));
                rest = &rest[at + 4..];
            }
            _ => {
                plain.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    plain + rest
}

/// Takes away all mounts below `dir`, the last first.
pub fn clear(dir: &Path) {
    let inside = format!("{}/", dir.display());
    for mount in mounted().iter().rev().filter(|mount| mount.target.starts_with(&inside)) {
        // One that is gone already (with its parent, or by another) is as wished.
        let _gone = rustix::mount::unmount(&*mount.target, UnmountFlags::DETACH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Options {
        Options::parse(&text.split(',').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn sorts_options_out() {
        let parsed = options("nosuid,ro,size=10%,rw,mode=755");
        assert_eq!(parsed.flags, MountFlags::NOSUID);
        assert_eq!(parsed.data, "size=10%,mode=755");
        let parsed = options("rbind,ro,rslave");
        assert!(parsed.bind && parsed.recursive);
        assert_eq!(
            parsed.propagation,
            Some(MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        );
        let parsed = options("remount,private");
        assert!(parsed.remount && parsed.flags.is_empty() && parsed.data.is_empty());
        assert_eq!(options("lowerdir=/a,upperdir=/b").data, "lowerdir=/a,upperdir=/b");
    }

    #[test]
    fn reads_mountinfo() {
        let text = "22 1 0:2 / / rw - rootfs rootfs rw\n\
                    30 22 0:26 / /a\\040b\\134 rw shared:5 master:1 - tmpfs tmpfs rw\nodd\n";
        let found = parse_mountinfo(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[1], Mounted { target: "/a b\\".into(), kind: "tmpfs".into() });
    }
}
