//! Tells by looking what a file is, and what firmware it needs.
//!
//! Magic numbers of each format's own specification; El Torito's boot catalog
//! (El Torito 1.0), the MBR, and GPT entries (UEFI 2.10, section 5.3). Only a
//! few sectors are read. Names of files play no part.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::partition;
use super::span::Span;

/// What firmware can start a disk or CD from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Boots {
    /// BIOS boot code.
    pub bios: bool,
    /// An EFI system partition, or an EFI entry in El Torito's catalog.
    pub efi: bool,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An ISO 9660 image.
    Iso(Boots),
    /// A disk, byte for byte.
    Raw(Boots),
    /// A disk in a format whose inside needs a tool to look at: QEMU's name of it.
    Disk(&'static str),
    /// A compressed VMDK: QEMU can only read it.
    StreamVmdk,
    /// A fixed VHD: raw, and a footer.
    FixedVhd(Boots),
    /// An EFI program with a kernel inside.
    Uki,
    /// Another EFI program.
    Efi,
    /// A Linux kernel.
    Kernel,
    /// A root file system alone: its name.
    Root(&'static str),
    /// An initrd alone: a cpio archive, or something compressed.
    Initrd,
    /// A tar archive.
    Tar,
}

/// The parts of a file that tell what it is.
#[derive(Debug, Default)]
pub struct Look {
    /// The first 72 KiB, or fewer.
    pub head: Vec<u8>,
    /// The last 512 bytes.
    pub tail: Vec<u8>,
    /// The boot catalog of an ISO image.
    pub catalog: Vec<u8>,
}

/// How much of a file's start is looked at; ISO 9660's descriptors and a GPT
/// with sectors of 4096 bytes lie within.
const HEAD: usize = 72 << 10;

/// A way of telling: a name for people, and the test.
type Detector = (&'static str, fn(&Look) -> Option<Kind>);

/// Asked in order; the first answer holds. Formats with a place of their own
/// come before those that are told by what remains.
const DETECTORS: &[Detector] = &[
    ("ISO 9660", iso),
    ("qcow2", |look| look.starts(b"QFI\xfb").then_some(Kind::Disk("qcow2"))),
    ("VMDK", vmdk),
    ("VHDX", |look| look.starts(b"vhdxfile").then_some(Kind::Disk("vhdx"))),
    ("VHD", vhd),
    ("VDI", |look| look.has(0x40, &[0x7f, 0x10, 0xda, 0xbe]).then_some(Kind::Disk("vdi"))),
    ("Linux kernel", kernel),
    ("EFI program", efi),
    ("tar", |look| look.has(257, b"ustar").then_some(Kind::Tar)),
    ("squashfs", |look| look.starts(b"hsqs").then_some(Kind::Root("squashfs"))),
    ("erofs", |look| look.has(1024, &[0xe2, 0xe1, 0xf5, 0xe0]).then_some(Kind::Root("erofs"))),
    ("disk", raw),
    ("ext4", |look| look.has(1080, &[0x53, 0xef]).then_some(Kind::Root("ext4"))),
    ("initrd", initrd),
];

/// Looks at a file; `None` if nothing known.
pub fn detect(path: &Path) -> Result<Option<Kind>> {
    Ok(look(path)?.kind())
}

fn look(path: &Path) -> Result<Look> {
    let reading = || format!("reading {}", path.display());
    let file = File::open(path).with_context(reading)?;
    let span = Span::of_file(Arc::new(file)).with_context(reading)?;
    Look::of(&span).with_context(reading)
}

/// Names the format of a disk as QEMU does; what is nothing known is raw.
pub fn disk_format(path: &Path) -> Result<&'static str> {
    Ok(match detect(path)? {
        Some(Kind::Disk(format)) => format,
        Some(Kind::StreamVmdk) => "vmdk",
        Some(Kind::FixedVhd(_)) => "vpc",
        _ => "raw",
    })
}

/// Looks at a file as a disk, which an ISO may be besides; `None` if it is none.
pub fn as_disk(path: &Path) -> Result<Option<Boots>> {
    let look = look(path)?;
    Ok(partition::is_disk(&look.head).then(|| partition::boots(&look.head)))
}

/// Lists what can be told.
pub fn names() -> impl Iterator<Item = &'static str> {
    DETECTORS.iter().map(|(name, _)| *name)
}

impl Look {
    /// Looks at what a span holds.
    pub(super) fn of(span: &Span) -> Result<Self> {
        let tail = span.len().checked_sub(512);
        let tail = tail.map(|at| span.bytes(at, 512)).transpose()?.unwrap_or_default();
        let mut look = Self { head: span.bytes(0, HEAD)?, tail, catalog: Vec::new() };
        if let Some(sector) = catalog_sector(&look) {
            look.catalog = span.bytes(u64::from(sector) * 2048, 2048)?;
        }
        Ok(look)
    }

    /// Asks every detector in turn.
    pub fn kind(&self) -> Option<Kind> {
        DETECTORS.iter().find_map(|(_, detect)| detect(self))
    }

    fn starts(&self, magic: &[u8]) -> bool {
        self.head.starts_with(magic)
    }

    fn has(&self, offset: usize, magic: &[u8]) -> bool {
        self.head.get(offset..).is_some_and(|rest| rest.starts_with(magic))
    }

    fn u32(&self, offset: usize) -> Option<u32> {
        partition::u32_at(&self.head, offset)
    }
}

/// The sector of El Torito's boot record, and where in it the catalog's address stands.
const BOOT_RECORD: usize = 17 * 2048;

fn catalog_sector(look: &Look) -> Option<u32> {
    let record = look.has(BOOT_RECORD + 1, b"CD001")
        && look.has(BOOT_RECORD + 7, b"EL TORITO SPECIFICATION");
    record.then(|| look.u32(BOOT_RECORD + 0x47)).flatten()
}

fn iso(look: &Look) -> Option<Kind> {
    look.has(16 * 2048 + 1, b"CD001").then(|| Kind::Iso(el_torito(&look.catalog)))
}

fn el_torito(catalog: &[u8]) -> Boots {
    let mut boots = Boots::default();
    for (platform, _) in boot_entries(catalog) {
        boots.bios |= platform == 0;
        boots.efi |= platform == EFI;
    }
    boots
}

/// El Torito's number of EFI.
pub(super) const EFI: u8 = 0xef;

/// Reads the catalog: a validation entry with the platform of the default
/// entry, then sections with a platform each (0 is x86 BIOS, 0xef is EFI).
/// Gives the platform of each entry that starts something, and its sector of
/// 2048 bytes.
pub(super) fn boot_entries(catalog: &[u8]) -> Vec<(u8, u32)> {
    let mut entries = catalog.chunks_exact(32);
    let Some(validation) =
        entries.next().filter(|entry| entry[0] == 1 && entry[30..] == [0x55, 0xaa])
    else {
        return Vec::new();
    };
    let mut platform = validation[1];
    let mut found = Vec::new();
    for entry in entries {
        match entry[0] {
            // A section's header; 0x91 is the last one.
            0x90 | 0x91 => platform = entry[1],
            // Marks an entry as bootable.
            0x88 => {
                let sector = u32::from_le_bytes([entry[8], entry[9], entry[10], entry[11]]);
                found.push((platform, sector));
            }
            _ => {}
        }
    }
    found
}

fn vmdk(look: &Look) -> Option<Kind> {
    if look.starts(b"# Disk DescriptorFile") {
        return Some(Kind::Disk("vmdk"));
    }
    // Flag 16 of the sparse header: grains are compressed.
    let flags = look.starts(b"KDMV").then(|| look.u32(8)).flatten()?;
    Some(if flags & 1 << 16 == 0 { Kind::Disk("vmdk") } else { Kind::StreamVmdk })
}

fn vhd(look: &Look) -> Option<Kind> {
    if look.starts(b"conectix") {
        return Some(Kind::Disk("vpc"));
    }
    look.tail.starts_with(b"conectix").then(|| Kind::FixedVhd(partition::boots(&look.head)))
}

fn kernel(look: &Look) -> Option<Kind> {
    // x86's boot protocol; the header of arm64's Image, and of riscv64's.
    let known =
        look.has(0x202, b"HdrS") || look.has(0x38, b"ARM\x64") || look.has(0x38, b"RSC\x05");
    known.then_some(Kind::Kernel)
}

fn efi(look: &Look) -> Option<Kind> {
    if !look.starts(b"MZ") {
        return None;
    }
    let header = usize::try_from(look.u32(0x3c)?).ok()?;
    if !look.has(header, b"PE\0\0") {
        return None;
    }
    let word = |at: usize| {
        let bytes = look.head.get(at..at.checked_add(2)?)?;
        Some(usize::from(u16::from_le_bytes([bytes[0], bytes[1]])))
    };
    let (sections, optional) = (word(header + 6)?, word(header + 20)?);
    let table = look.head.get(header + 24 + optional..)?;
    let uki =
        table.chunks_exact(40).take(sections).any(|section| section.starts_with(b".linux\0\0"));
    Some(if uki { Kind::Uki } else { Kind::Efi })
}

fn raw(look: &Look) -> Option<Kind> {
    partition::is_disk(&look.head).then(|| Kind::Raw(partition::boots(&look.head)))
}

fn initrd(look: &Look) -> Option<Kind> {
    const MAGIC: &[&[u8]] = &[
        b"070701",
        b"070702",
        &[0x1f, 0x8b],
        &[0x28, 0xb5, 0x2f, 0xfd],
        &[0x02, 0x21, 0x4c, 0x18],
        &[0xfd, b'7', b'z', b'X', b'Z', 0],
    ];
    MAGIC.iter().any(|magic| look.starts(magic)).then_some(Kind::Initrd)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes, and where they stand.
    type Mark<'a> = (usize, &'a [u8]);

    fn look(size: usize, marks: &[Mark<'_>]) -> Look {
        let mut head = vec![0; size];
        for (at, bytes) in marks {
            head[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        let tail = head[size.saturating_sub(512)..].to_vec();
        Look { head, tail, catalog: Vec::new() }
    }

    #[test]
    fn knows_every_magic() {
        let none = Boots::default();
        let cases: &[(&[Mark<'_>], Kind)] = &[
            (&[(0, b"QFI\xfb")], Kind::Disk("qcow2")),
            (&[(0, b"KDMV"), (8, &[3, 0, 0, 0])], Kind::Disk("vmdk")),
            (&[(0, b"KDMV"), (8, &[3, 0, 1, 0])], Kind::StreamVmdk),
            (&[(0, b"# Disk DescriptorFile")], Kind::Disk("vmdk")),
            (&[(0, b"vhdxfile")], Kind::Disk("vhdx")),
            (&[(0, b"conectix")], Kind::Disk("vpc")),
            (&[(4096 - 512, b"conectix")], Kind::FixedVhd(none)),
            (&[(0, b"MZ"), (0x202, b"HdrS")], Kind::Kernel),
            (&[(0x38, b"ARM\x64")], Kind::Kernel),
            (&[(257, b"ustar")], Kind::Tar),
            (&[(0, b"hsqs")], Kind::Root("squashfs")),
            (&[(1024, &[0xe2, 0xe1, 0xf5, 0xe0])], Kind::Root("erofs")),
            (&[(1080, &[0x53, 0xef])], Kind::Root("ext4")),
            (&[(0, b"070701")], Kind::Initrd),
            (&[(0, &[0x28, 0xb5, 0x2f, 0xfd])], Kind::Initrd),
        ];
        for (marks, kind) in cases {
            assert_eq!(look(4096, marks).kind(), Some(*kind), "{marks:?}");
        }
        assert_eq!(look(4096, &[]).kind(), None);
        assert_eq!(look(0, &[]).kind(), None);
    }

    #[test]
    fn tells_a_uki_from_other_programs() {
        let program = |section: &'static [u8]| {
            look(
                1024,
                &[
                    (0, b"MZ"),
                    (0x3c, &[0x80, 0]),
                    (0x80, b"PE\0\0"),
                    (0x86, &[2, 0]),
                    (0x94, &[16, 0]),
                    (0x80 + 24 + 16 + 40, section),
                ],
            )
        };
        assert_eq!(program(b".linux\0\0").kind(), Some(Kind::Uki));
        assert_eq!(program(b".text\0\0\0").kind(), Some(Kind::Efi));
        // A header that points outside.
        assert_eq!(look(64, &[(0, b"MZ"), (0x3c, &[255; 4])]).kind(), None);
    }

    #[test]
    fn reads_the_catalog_of_an_iso() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut image = look(
            40 * 2048,
            &[
                (16 * 2048, b"\x01CD001"),
                (17 * 2048, b"\x00CD001\x01EL TORITO SPECIFICATION"),
                (17 * 2048 + 0x47, &[38, 0, 0, 0]),
                (38 * 2048, &[1, 0]),
                (38 * 2048 + 30, &[0x55, 0xaa]),
                (38 * 2048 + 32, &[0x88]),
            ],
        )
        .head;
        for (platform, expected) in [
            (None, Boots { bios: true, efi: false }),
            (Some(0xef), Boots { bios: true, efi: true }),
        ] {
            if let Some(platform) = platform {
                image[38 * 2048 + 64] = 0x91;
                image[38 * 2048 + 65] = platform;
                image[38 * 2048 + 96] = 0x88;
            }
            std::fs::write(file.path(), &image).unwrap();
            assert_eq!(detect(file.path()).unwrap(), Some(Kind::Iso(expected)));
        }
        image[17 * 2048..18 * 2048].fill(0);
        std::fs::write(file.path(), &image).unwrap();
        assert_eq!(detect(file.path()).unwrap(), Some(Kind::Iso(Boots::default())));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        for (index, (_, detector)) in DETECTORS.iter().enumerate() {
            for size in [0, 1, 63, 512, 1025, 34 * 2048] {
                let bytes = vec![0xff - u8::try_from(index).unwrap(); size];
                detector(&Look { head: bytes.clone(), tail: bytes.clone(), catalog: bytes });
            }
        }
    }
}
