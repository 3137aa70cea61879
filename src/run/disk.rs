//! `--disk`: the disks given to the guest, made where they are missing.
//!
//! A missing disk is made as qcow2, LinuxKit's default, unless `format=` says
//! raw; QEMU's own tool makes the other formats.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Error, Result, anyhow, bail};

use super::process::{self, Program};
use crate::disk::{Extents, qcow2};
use crate::inspect::detect;

/// A disk as `--disk` names it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disk {
    /// Its file; one in the state folder if absent.
    pub path: Option<PathBuf>,
    /// Its size in MiB, for a disk to be made.
    pub size: Option<u64>,
    /// QEMU's name of its format; told by looking if absent.
    pub format: Option<String>,
}

/// The formats that `format=` takes, QEMU's names.
const FORMATS: &[&str] = &["raw", "qcow2", "vmdk", "vpc", "vhdx", "vdi"];

/// The largest disk, 64 TiB: beyond that it was a slip of the finger.
const LARGEST: u64 = 64 << 20;

impl FromStr for Disk {
    type Err = Error;

    /// Reads LinuxKit's form `[file=]PATH[,size=N[M|G|T]][,format=F]`; a bare
    /// number is GiB.
    fn from_str(text: &str) -> Result<Self> {
        let mut disk = Self::default();
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("file", path)) => disk.path = Some(path.into()),
                Some(("size", size)) => disk.size = Some(mebibytes(size)?),
                Some(("format", format)) if FORMATS.contains(&format) => {
                    disk.format = Some(format.to_owned());
                }
                Some(("format", other)) => {
                    bail!("unknown disk format `{other}`: expected one of {}", FORMATS.join(", "))
                }
                Some((key, _)) => {
                    bail!("unknown disk setting `{key}`: expected file, size or format")
                }
                None if part.is_empty() => bail!("expected a disk, got an empty text in `{text}`"),
                None => disk.path = Some(part.into()),
            }
        }
        if disk.path.is_none() && disk.size.is_none() {
            bail!("a disk needs a file or a size, got `{text}`");
        }
        Ok(disk)
    }
}

fn mebibytes(text: &str) -> Result<u64> {
    let bad = || anyhow!("expected a size such as 512M, 4G or 4, got `{text}`");
    let (digits, scale) = match text.strip_suffix(['M', 'G', 'T']) {
        Some(digits) if text.ends_with('M') => (digits, 1),
        Some(digits) if text.ends_with('T') => (digits, 1 << 20),
        Some(digits) => (digits, 1 << 10),
        None => (text, 1 << 10),
    };
    let size = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(scale)).ok_or_else(bad)?;
    if !(1..=LARGEST).contains(&size) {
        return Err(bad());
    }
    Ok(size)
}

/// A disk that is there, as QEMU takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    /// Its file, or QEMU's own syntax such as `fat:FOLDER`.
    pub file: String,
    /// QEMU's name of its format.
    pub format: String,
    /// Whether what the guest writes is thrown away.
    pub discard: bool,
    /// Whether it can only be read.
    pub read_only: bool,
}

impl Drive {
    /// Names a disk to be read and written.
    pub fn new(path: &Path, format: &str) -> Self {
        Self { file: named(path), format: format.to_owned(), discard: false, read_only: false }
    }
}

/// Names a file so that QEMU does not take the part before a colon for a protocol.
pub fn named(path: &Path) -> String {
    let name = path.to_string_lossy();
    let first = name.split('/').next().unwrap_or_default();
    if first.contains(':') { format!("./{name}") } else { name.into_owned() }
}

/// Gets the disk ready, number `index` of those asked for: makes what is missing.
pub fn prepare(disk: &Disk, index: usize, state: &Path, search: &str) -> Result<Drive> {
    let path = disk.path.clone().unwrap_or_else(|| match index {
        0 => state.join("disk.img"),
        _ => state.join(format!("disk{index}.img")),
    });
    if path.exists() {
        let format = match &disk.format {
            Some(format) => format.clone(),
            None => detect::disk_format(&path)?.to_owned(),
        };
        return Ok(Drive::new(&path, &format));
    }
    let Some(size) = disk.size else {
        bail!("the disk {} does not exist, and no size= says how large to make it", path.display());
    };
    let format = disk.format.as_deref().unwrap_or("qcow2");
    create(&path, size, format, search)
        .with_context(|| format!("making the disk {}", path.display()))?;
    Ok(Drive::new(&path, format))
}

fn create(path: &Path, size: u64, format: &str, search: &str) -> Result<()> {
    let made = || OpenOptions::new().read(true).write(true).create_new(true).open(path);
    match format {
        "raw" => return Ok(made()?.set_len(size << 20)?),
        "qcow2" => {
            let disk = qcow2::plan(&Extents::zeros(size << 20))?;
            return disk.write_file(&made()?);
        }
        _ => {}
    }
    let tool = process::need("qemu-img", search, "qemu-utils")?;
    let path = path.to_string_lossy().into_owned();
    let args = ["create", "-q", "-f", format, "--", &path, &format!("{size}M")];
    Program::new(tool, args.map(str::to_owned).to_vec()).output()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_linuxkits_forms() {
        let disk = |path: Option<&str>, size, format: Option<&str>| Disk {
            path: path.map(Into::into),
            size,
            format: format.map(Into::into),
        };
        for (text, expected) in [
            ("a.img", disk(Some("a.img"), None, None)),
            ("file=a.img,size=2G", disk(Some("a.img"), Some(2048), None)),
            ("size=1", disk(None, Some(1024), None)),
            ("a,size=200M,format=qcow2", disk(Some("a"), Some(200), Some("qcow2"))),
        ] {
            assert_eq!(text.parse::<Disk>().unwrap(), expected, "{text}");
        }
        for bad in [
            "",
            "size=",
            "size=0",
            "size=-1",
            "size=9999999T",
            "format=raw",
            "a,color=red",
            "a,format=zip",
        ] {
            assert!(bad.parse::<Disk>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_files_that_look_like_protocols() {
        for (path, expected) in
            [("a.img", "a.img"), ("a:b.img", "./a:b.img"), ("/x/a:b", "/x/a:b"), ("a/b:c", "a/b:c")]
        {
            assert_eq!(named(Path::new(path)), expected);
        }
    }

    #[test]
    fn makes_what_is_missing_and_keeps_what_is_there() {
        let state = tempfile::tempdir().unwrap();
        let disk: Disk = "size=3M,format=raw".parse().unwrap();
        let drive = prepare(&disk, 1, state.path(), "").unwrap();
        assert_eq!((drive.format.as_str(), drive.file.ends_with("/disk1.img")), ("raw", true));
        assert_eq!(std::fs::metadata(&drive.file).unwrap().len(), 3 << 20);
        std::fs::write(&drive.file, b"kept").unwrap();
        assert_eq!(prepare(&disk, 1, state.path(), "").unwrap(), drive);
        assert_eq!(std::fs::read(&drive.file).unwrap(), b"kept");
        let own: Disk = "size=3M".parse().unwrap();
        let drive = prepare(&own, 2, state.path(), "").unwrap();
        assert_eq!(detect::disk_format(Path::new(&drive.file)).unwrap(), "qcow2");
        let missing: Disk = "/no/such/disk".parse().unwrap();
        assert!(prepare(&missing, 0, state.path(), "").is_err());
        let error =
            prepare(&"size=1M,format=vdi".parse().unwrap(), 0, state.path(), "").unwrap_err();
        assert!(crate::error::hint(&error).unwrap().contains("qemu-utils"));
    }
}
