//! Disks inside archives and under compression, which QEMU cannot read: the
//! `disk.raw` in a tar archive under gzip that a cloud takes, the VMDK of an
//! OVA, a disk or ISO under gzip, xz or zstd.
//!
//! Such a disk is unpacked into the state folder, with holes where it has
//! zeros, and unpacked anew when its archive is newer: so what the guest writes
//! outlives the run, as it does with other disks.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use crate::error::WithHint;
use crate::inspect::detect::{Kind, Look};
use crate::store::Compression;

/// How much is unpacked to see what it is.
const HEAD: u64 = 72 << 10;
/// A disk in an archive is among its first members; other archives are not searched to their end.
const MEMBERS: usize = 16;
/// The unit that holes are looked for in.
const BLOCK: usize = 64 << 10;
/// Zeros, to compare with.
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Where in a file the disk is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packed {
    /// It is all that is under the compression.
    Whole,
    /// It is the member of a tar archive, by its number.
    Member(usize),
}

/// Looks for a disk that has to be unpacked; `None` if the file is something else.
pub fn look(path: &Path) -> Result<Option<Packed>> {
    let reading = || format!("reading {}", path.display());
    let Some(mut plain) = open(path).with_context(reading)? else { return Ok(None) };
    let mut head = Vec::new();
    // Under damage it is not for us to say what it is.
    if (&mut plain.bytes).take(HEAD).read_to_end(&mut head).is_err() {
        return Ok(None);
    }
    match (Look { head, ..Look::default() }).kind() {
        Some(Kind::Tar) => {
            let again = open(path).with_context(reading)?.map(|plain| plain.bytes);
            Ok(again.and_then(|bytes| member(bytes).ok().flatten()).map(Packed::Member))
        }
        Some(Kind::Iso(_) | Kind::Raw(_) | Kind::Disk(_) | Kind::StreamVmdk)
            if plain.compressed =>
        {
            Ok(Some(Packed::Whole))
        }
        _ => Ok(None),
    }
}

/// Unpacks the disk into the state folder, unless it is there already, and returns its path.
pub fn unpack(path: &Path, packed: &Packed, state: &Path) -> Result<PathBuf> {
    let target = state.join("unpacked");
    if is_newer(&target, path) {
        return Ok(target);
    }
    room(state)
        .and_then(|room| write(path, packed, state, &target, room))
        .with_context(|| format!("unpacking the disk in {}", path.display()))?;
    Ok(target)
}

/// A file's bytes without the compression.
struct Plain {
    bytes: Box<dyn Read>,
    compressed: bool,
}

fn open(path: &Path) -> Result<Option<Plain>> {
    let mut file = BufReader::new(File::open(path)?);
    let head = file.fill_buf()?;
    if let Some(compression) = Compression::of(head) {
        return Ok(Some(Plain { bytes: compression.all(file)?, compressed: true }));
    }
    let is_tar = head.get(257..262) == Some(b"ustar");
    Ok(is_tar.then(|| Plain { bytes: Box::new(file), compressed: false }))
}

/// Finds the member that is a disk, by its name.
fn member(bytes: Box<dyn Read>) -> Result<Option<usize>> {
    let mut archive = tar::Archive::new(bytes);
    for (index, entry) in archive.entries()?.take(MEMBERS).enumerate() {
        let entry = entry?;
        let path = entry.path_bytes();
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        if entry.header().entry_type().is_file()
            && (name == b"disk.raw" || name.ends_with(b".vmdk"))
        {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

fn is_newer(target: &Path, than: &Path) -> bool {
    let time = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified());
    matches!((time(target), time(than)), (Ok(target), Ok(than)) if target >= than)
}

/// Says how many bytes a disk may take in the state folder, which leaves some to others.
fn room(state: &Path) -> Result<u64> {
    let found = rustix::fs::statvfs(state)
        .with_context(|| format!("finding the free space of {}", state.display()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize) / 10 * 9)
}

fn write(path: &Path, packed: &Packed, state: &Path, target: &Path, room: u64) -> Result<()> {
    let plain = open(path)?.context("it has changed meanwhile")?.bytes;
    let mut part = tempfile::NamedTempFile::new_in(state).context("making a file")?;
    match packed {
        Packed::Whole => copy(plain, part.as_file_mut(), room)?,
        Packed::Member(index) => {
            let mut archive = tar::Archive::new(plain);
            let entry = archive.entries()?.nth(*index).context("it has changed meanwhile")??;
            copy(entry, part.as_file_mut(), room)?;
        }
    }
    part.persist(target).with_context(|| format!("writing {}", target.display()))?;
    Ok(())
}

/// Copies with holes in the place of zeros, and at most `room` bytes besides: a
/// few bytes may unpack to more than any disk holds.
fn copy(mut from: impl Read, to: &mut File, room: u64) -> Result<()> {
    let mut block = Vec::with_capacity(BLOCK);
    let (mut length, mut left) = (0u64, room);
    loop {
        block.clear();
        let count = (&mut from).take(BLOCK as u64).read_to_end(&mut block)?;
        if count == 0 {
            break;
        }
        length = length.saturating_add(count as u64);
        if block == ZEROS[..count] {
            to.seek(SeekFrom::Start(length))?;
        } else {
            left = left
                .checked_sub(count as u64)
                .ok_or_else(|| anyhow!("it has more data than the {room} bytes there is room for"))
                .hint(|| "name a folder with more room by --state".into())?;
            to.write_all(&block)?;
        }
    }
    to.set_len(length).and_then(|()| to.flush()).map_err(io::Error::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with boot code, and zeros to make holes of.
    fn disk() -> Vec<u8> {
        let mut disk = vec![0; 3 * BLOCK + 100];
        disk[0] = 0xfa;
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        disk[2 * BLOCK] = 7;
        disk
    }

    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in members {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, *bytes).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        to.write_all(bytes).unwrap();
        to.finish().unwrap()
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let mut to = liblzma::write::XzEncoder::new(Vec::new(), 1);
        to.write_all(bytes).unwrap();
        to.finish().unwrap()
    }

    #[test]
    fn unpacks_what_qemu_cannot_read() {
        let disk = disk();
        let ova = archive(&[("a.ovf", b"<Envelope/>"), ("a.mf", b""), ("a-disk1.vmdk", &disk)]);
        for (name, bytes) in [
            ("a cloud's archive", gzip(&archive(&[("disk.raw", &disk)]))),
            ("an OVA", ova),
            ("gzip", gzip(&disk)),
            ("xz", xz(&disk)),
            ("zstd", zstd::encode_all(disk.as_slice(), 1).unwrap()),
        ] {
            let state = tempfile::tempdir().unwrap();
            let path = state.path().join("image");
            fs::write(&path, bytes).unwrap();
            let packed = look(&path).unwrap().expect(name);
            let unpacked = unpack(&path, &packed, state.path()).unwrap();
            assert_eq!(fs::read(&unpacked).unwrap(), disk, "{name}");
            // What the guest writes stays.
            fs::write(&unpacked, b"written").unwrap();
            assert_eq!(
                fs::read(unpack(&path, &packed, state.path()).unwrap()).unwrap(),
                b"written"
            );
        }
    }

    #[test]
    fn fills_no_disk() {
        let folder = tempfile::tempdir().unwrap();
        let (path, target) = (folder.path().join("image"), folder.path().join("unpacked"));
        fs::write(&path, gzip(&disk())).unwrap();
        // Holes take no room: two blocks have data, and a rest.
        let two = 2 * BLOCK as u64;
        let error = write(&path, &Packed::Whole, folder.path(), &target, two - 1).unwrap_err();
        assert!(crate::error::hint(&error).unwrap().contains("--state"), "{error:#}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        write(&path, &Packed::Whole, folder.path(), &target, two).unwrap();
        assert!(room(folder.path()).unwrap() > 0);
    }

    #[test]
    fn leaves_the_rest_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        for (name, bytes) in [
            ("a disk", disk()),
            ("an initrd", gzip(b"0707010000")),
            ("a root", archive(&[("etc/passwd", b"root")])),
            ("a packed root", gzip(&archive(&[("etc/passwd", b"root")]))),
            ("damage", gzip(&disk())[..40].to_vec()),
            ("nothing", Vec::new()),
        ] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(look(&path).unwrap(), None, "{name}");
        }
    }
}
