//! The lowest layer of an image made of Debian packages: what every system
//! has and no package brings without its scripts.

use std::io::{self, Write};

use anyhow::{Context, Result};

use crate::env::EPOCH;
use crate::oci::{Descriptor, MEDIA_LAYER};
use crate::store::Store;

const FOLDERS: &[(&str, u32)] = &[
    ("dev", 0o755),
    ("etc", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("usr/bin", 0o755),
    ("usr/lib", 0o755),
    ("usr/lib64", 0o755),
    ("usr/sbin", 0o755),
    ("var", 0o755),
    ("var/tmp", 0o1777),
];
/// A merged system: the old names lead below `usr`.
const LINKS: &[(&str, &str)] = &[
    ("bin", "usr/bin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
    ("sbin", "usr/sbin"),
    ("var/run", "/run"),
];
const FILES: &[(&str, &str)] = &[
    ("etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"),
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
];

/// Puts the layer into the store.
pub fn base_layer(store: &Store) -> Result<Descriptor> {
    let (digest, size) = store.put_with(write).context("making the base layer")?;
    Ok(Descriptor::new(MEDIA_LAYER, digest, size))
}

fn write(out: &mut dyn Write) -> Result<()> {
    let mut tar = tar::Builder::new(out);
    let header = |kind, mode, size| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(EPOCH.unsigned_abs());
        header.set_size(size);
        header
    };
    for (path, mode) in FOLDERS {
        let mut header = header(tar::EntryType::Directory, *mode, 0);
        tar.append_data(&mut header, path, io::empty())?;
    }
    for (path, target) in LINKS {
        let mut header = header(tar::EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut header, path, target)?;
    }
    for (path, text) in FILES {
        let mut header = header(tar::EntryType::Regular, 0o644, text.len() as u64);
        tar.append_data(&mut header, path, text.as_bytes())?;
    }
    Ok(tar.finish()?)
}
