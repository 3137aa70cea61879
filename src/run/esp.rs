//! An EFI program on a disk of its own, where firmware looks for it.
//!
//! The disk is a descriptor of flat extents ("Virtual Disk Format 1.1" of
//! VMware, which QEMU reads) over two files: the program as it lies, and a
//! frame of all that is around it, the partition table and the file system.
//! So a program of any size starts without a copy of its bytes.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tempfile::NamedTempFile;

use super::disk::Drive;
use super::machine::Machine;
use crate::disk::{ALIGNMENT, Guid, gpt};
use crate::fs::{Composed, Extents, fat};
use crate::tree::Tree;

/// Bytes of a sector, the unit of a descriptor.
const SECTOR: u64 = 512;
/// The files in the state folder.
const DESCRIPTOR: &str = "esp.vmdk";
const FRAME: &str = "esp.img";
const PROGRAM: &str = "esp.efi";

/// Makes the disk in the state folder. What the guest writes is thrown away.
pub fn disk(program: &Path, machine: &Machine, state: &Path) -> Result<Drive> {
    let name = match machine.arch {
        "x86_64" => "BOOTX64.EFI",
        "aarch64" => "BOOTAA64.EFI",
        "riscv64" => "BOOTRISCV64.EFI",
        arch => bail!("{arch} has no UEFI to start {} with", program.display()),
    };
    let path = make(program, &format!("EFI/BOOT/{name}"), state)
        .with_context(|| format!("making a disk of {}", program.display()))?;
    Ok(Drive { discard: true, ..Drive::new(&path, "vmdk") })
}

fn make(program: &Path, path: &str, state: &Path) -> Result<PathBuf> {
    let file = Arc::new(File::open(program)?);
    let (mut frame, place) = lay_out(Extents::of_file(&file)?, path)?;
    // What does not fill a sector stays in the frame.
    let whole = place.start..place.end / SECTOR * SECTOR;
    frame.clear(whole.clone());
    keep(state, FRAME, |out| frame.write_file(out))?;
    link(&program.canonicalize()?, &state.join(PROGRAM))?;
    let text = descriptor(frame.len(), whole);
    keep(state, DESCRIPTOR, |mut out| Ok(out.write_all(text.as_bytes())?))
}

/// Lays out the disk, and tells where on it the program lies.
fn lay_out(program: Extents, path: &str) -> Result<(Extents, Range<u64>)> {
    let composed = Composed::from([(path.as_bytes().to_vec(), program)]);
    let options = fat::Options { hidden: (ALIGNMENT / SECTOR) as u32, ..fat::Options::default() };
    let volume = fat::plan(&Tree::new(), &composed, &options)?;
    let within = volume.place(path).unwrap_or_default();
    let disk = gpt::Disk {
        id: Guid::derive(b"run", "esp"),
        sector: SECTOR as u32,
        size: None,
        code: Vec::new(),
        partitions: vec![gpt::Partition::new(gpt::ESP, "ESP", volume.image)],
    };
    let (image, places) = gpt::plan(&disk)?;
    let start = places[0].start;
    Ok((image, start + within.start..start + within.end))
}

/// Describes the disk: the frame, with the program in its place. QEMU skips
/// extents of no sectors, and reads one twice that stands behind an empty line.
fn descriptor(len: u64, program: Range<u64>) -> String {
    let sectors = |range: Range<u64>| (range.end - range.start) / SECTOR;
    format!(
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n\
         createType=\"twoGbMaxExtentFlat\"\n\
         RW {} FLAT \"{FRAME}\" 0\nRW {} FLAT \"{PROGRAM}\" 0\nRW {} FLAT \"{FRAME}\" {}\n",
        sectors(0..program.start),
        sectors(program.clone()),
        sectors(program.end..len),
        program.end / SECTOR,
    )
}

/// Writes a file whole: a guest that runs keeps the one it has.
fn keep(state: &Path, name: &str, write: impl FnOnce(&File) -> Result<()>) -> Result<PathBuf> {
    let path = state.join(name);
    let part = NamedTempFile::new_in(state).context("making a file")?;
    write(part.as_file())?;
    part.persist(&path).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

fn link(target: &Path, link: &Path) -> Result<()> {
    match fs::remove_file(link) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing {}", link.display()));
        }
        _ => {}
    }
    symlink(target, link).with_context(|| format!("making {}", link.display()))
}

#[cfg(test)]
#[allow(clippy::print_stderr)]
mod tests {
    use super::super::machine;
    use super::super::process::{self, Program};
    use super::*;

    #[test]
    fn describes_the_program_in_its_frame() {
        let text = descriptor(4 << 20, 1 << 20..3 << 20);
        let extents: Vec<&str> = text.lines().filter(|line| line.starts_with("RW")).collect();
        let expected = [
            r#"RW 2048 FLAT "esp.img" 0"#,
            r#"RW 4096 FLAT "esp.efi" 0"#,
            r#"RW 2048 FLAT "esp.img" 6144"#,
        ];
        assert_eq!(extents, expected);
    }

    #[test]
    fn others_read_the_program_from_the_disk() {
        let search = crate::env::var("PATH").unwrap_or_default();
        let Some(judge) = process::find("qemu-img", &search) else {
            eprintln!("skipped: qemu-img is not installed");
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        // A name that would end an extent's line, and lengths with and without a rest.
        let path = folder.path().join("a \"program\", or not.efi");
        for len in [100, 512, 1 << 20, (1 << 20) + 700] {
            let bytes: Vec<u8> = (0..len).map(|n: u32| (n % 251) as u8).collect();
            fs::write(&path, &bytes).unwrap();
            let drive = disk(&path, machine::find("x86_64").unwrap(), folder.path()).unwrap();
            let raw = folder.path().join("raw");
            let raw = raw.to_string_lossy();
            let args = ["convert", "-f", "vmdk", "-O", "raw", &drive.file, &raw];
            Program::new(&judge, args.map(str::to_owned).to_vec()).output().unwrap();
            let whole = Extents::of_bytes(fs::read(&*raw).unwrap());
            let (expected, place) =
                lay_out(Extents::of_bytes(bytes.clone()), "EFI/BOOT/BOOTX64.EFI").unwrap();
            assert_eq!(whole.digest().unwrap(), expected.digest().unwrap(), "{len}");
            let found = whole.bytes(place.start, bytes.len()).unwrap();
            assert!(found == bytes, "{len}");
            // The frame holds none of it.
            let frame = fs::read(folder.path().join(FRAME)).unwrap();
            assert!(
                frame[place.start as usize..][..(len / 512 * 512) as usize].iter().all(|b| *b == 0)
            );
        }
    }
}
