//! Tells from a disk's first sectors what firmware can start it.
//!
//! MBR, and GPT with sectors of 512 or 4096 bytes (UEFI 2.10, section 5). BIOS
//! boot code counts where a partition says that it is meant to be started, or
//! where UEFI would find nothing: some tools write code that only complains.

use super::detect::Boots;

/// The type of an EFI system partition, as it stands on disk.
const ESP: [u8; 16] = [
    0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b,
];
/// The type of GRUB's BIOS boot partition ("Hah!IdontNeedEFI").
const BIOS_BOOT: [u8; 16] = *b"Hah!IdontNeedEFI";
/// Attribute bit 2: "Legacy BIOS Bootable".
const LEGACY_BOOT: u8 = 4;
/// How many entries of a GPT are looked at; the standard's least table has 128.
const ENTRIES: usize = 128;

/// Says whether this is the start of a disk: a boot sector's signature.
pub(super) fn is_disk(head: &[u8]) -> bool {
    head.get(510..512) == Some(&[0x55, 0xaa]) || gpt(head).is_some()
}

/// Says what firmware can start the disk that begins so.
pub(super) fn boots(head: &[u8]) -> Boots {
    if head.get(510..512) != Some(&[0x55, 0xaa]) {
        return Boots { bios: false, efi: gpt(head).is_some_and(|gpt| gpt.esp) };
    }
    let code = head[..440].iter().any(|byte| *byte != 0);
    let marks = gpt(head).unwrap_or_else(|| mbr(head));
    Boots { bios: code && (marks.started || !marks.esp), efi: marks.esp }
}

/// What a partition table tells.
#[derive(Default)]
struct Marks {
    esp: bool,
    started: bool,
}

fn mbr(head: &[u8]) -> Marks {
    let mut marks = Marks::default();
    for entry in head[446..510].chunks_exact(16) {
        marks.esp |= entry[4] == 0xef;
        marks.started |= entry[0] == 0x80 && entry[4] != 0;
    }
    marks
}

fn gpt(head: &[u8]) -> Option<Marks> {
    let sector = [512, 4096]
        .into_iter()
        .find(|sector| head.get(*sector..).is_some_and(|rest| rest.starts_with(b"EFI PART")))?;
    let table = u32_at(head, sector + 72)?;
    let size = usize::try_from(u32_at(head, sector + 84)?).ok().filter(|size| *size >= 128)?;
    let start = usize::try_from(table).ok()?.checked_mul(sector)?;
    let mut marks = Marks::default();
    for entry in head.get(start..)?.chunks_exact(size).take(ENTRIES) {
        marks.esp |= entry[..16] == ESP;
        marks.started |= entry[..16] == BIOS_BOOT;
        marks.started |= entry[..16] != [0; 16] && entry[48] & LEGACY_BOOT != 0;
    }
    Some(marks)
}

/// Reads a little-endian number.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let field = bytes.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().expect("four bytes were taken")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(code: bool) -> Vec<u8> {
        let mut head = vec![0; 8192];
        head[510..512].copy_from_slice(&[0x55, 0xaa]);
        head[0] = if code { 0xfa } else { 0 };
        head
    }

    fn with_gpt(mut head: Vec<u8>, kind: [u8; 16], attributes: u8) -> Vec<u8> {
        head[512..520].copy_from_slice(b"EFI PART");
        head[512 + 72] = 2;
        head[512 + 84] = 128;
        head[1024..1040].copy_from_slice(&kind);
        head[1024 + 48] = attributes;
        head
    }

    fn with_mbr(mut head: Vec<u8>, active: u8, kind: u8) -> Vec<u8> {
        head[446] = active;
        head[450] = kind;
        head
    }

    #[test]
    fn tells_what_starts_a_disk() {
        let boots = |bios, efi| Boots { bios, efi };
        for (name, head, expected) in [
            ("empty", disk(false), boots(false, false)),
            ("boot sector alone", disk(true), boots(true, false)),
            ("active FAT", with_mbr(disk(true), 0x80, 0x0c), boots(true, false)),
            ("MBR with an ESP", with_mbr(disk(false), 0, 0xef), boots(false, true)),
            ("MBR, active ESP", with_mbr(disk(true), 0x80, 0xef), boots(true, true)),
            ("GPT with an ESP", with_gpt(disk(false), ESP, 0), boots(false, true)),
            ("code that complains", with_gpt(disk(true), ESP, 0), boots(false, true)),
            ("both", with_gpt(disk(true), ESP, LEGACY_BOOT), boots(true, true)),
            ("GRUB", with_gpt(disk(true), BIOS_BOOT, 0), boots(true, false)),
        ] {
            assert!(is_disk(&head), "{name}");
            assert_eq!(super::boots(&head), expected, "{name}");
        }
        assert!(!is_disk(&[0; 600]));
        // A table far outside.
        let mut head = with_gpt(disk(true), ESP, 0);
        head[512 + 72..512 + 76].fill(0xff);
        assert_eq!(super::boots(&head), boots(true, false));
    }
}
