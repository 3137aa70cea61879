//! Finding a partition by its own name: `PARTUUID=`, `PARTLABEL=`, or a device.
//!
//! Read from the partition table itself, for kernels before 6.11 do not tell. GPT as in the
//! UEFI specification 2.10, section 5.3; of an MBR the signature and the number, as the
//! kernel's own `root=PARTUUID=` has it.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Larger entries than this are nothing known.
const LARGEST: u64 = 4096;

/// What a partition table says of one partition.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Identity {
    uuid: String,
    label: String,
}

/// Gives the device that `wanted` names, once it is there.
pub fn find(wanted: &str) -> Option<PathBuf> {
    let by = |test: &dyn Fn(&Identity) -> bool| {
        let blocks = fs::read_dir("/sys/class/block").ok()?.filter_map(Result::ok);
        blocks.map(|block| block.path()).find_map(|block| {
            let identity = identify(&block)?;
            test(&identity).then(|| Path::new("/dev").join(block.file_name().unwrap_or_default()))
        })
    };
    match wanted.split_once('=') {
        Some(("PARTUUID", uuid)) => by(&|found| found.uuid.eq_ignore_ascii_case(uuid)),
        Some(("PARTLABEL", label)) => by(&|found| found.label == label),
        _ => Some(PathBuf::from(wanted)).filter(|device| device.exists()),
    }
}

/// Tells whether `wanted` has one of the forms that [`find`] knows.
pub fn is_known(wanted: &str) -> bool {
    let forms = ["/dev/", "PARTUUID=", "PARTLABEL="];
    forms.iter().any(|form| wanted.starts_with(form)) && !wanted.starts_with("/dev/ram")
}

/// Reads what the table of its disk says of the partition at `/sys/class/block/NAME`.
fn identify(block: &Path) -> Option<Identity> {
    let number: u64 = text(&block.join("partition"))?.parse().ok()?;
    // /sys/class/block/vda1 links to .../block/vda/vda1.
    let place = fs::canonicalize(block).ok()?;
    let disk = place.parent()?;
    let sector: u64 = text(&disk.join("queue/logical_block_size"))?.parse().ok()?;
    let device = File::open(Path::new("/dev").join(disk.file_name()?)).ok()?;
    read(device, sector, number)
}

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Reads partition `number`, counted from 1, of a disk with sectors of `sector` bytes.
fn read(mut disk: impl Read + Seek, sector: u64, number: u64) -> Option<Identity> {
    let mut bytes = |at: u64, length: u64| -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        disk.seek(SeekFrom::Start(at)).ok()?;
        disk.read_exact(&mut bytes).ok()?;
        Some(bytes)
    };
    let header = bytes(sector, 512)?;
    if !header.starts_with(b"EFI PART") {
        let mbr = bytes(0, 512)?;
        let signature = number_at::<4>(&mbr, 440)?;
        return Some(Identity {
            uuid: format!("{signature:08x}-{number:02x}"),
            label: String::new(),
        });
    }
    let table = number_at::<8>(&header, 72)?.checked_mul(sector)?;
    let size = number_at::<4>(&header, 84)?;
    if !(128..=LARGEST).contains(&size) || number > number_at::<4>(&header, 80)? {
        return None;
    }
    let entry = bytes(table.checked_add(size.checked_mul(number.checked_sub(1)?)?)?, size)?;
    let units = entry[56..128].chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let label = char::decode_utf16(units.take_while(|unit| *unit != 0));
    let label = label.map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    Some(Identity { uuid: guid(entry[16..32].try_into().ok()?), label })
}

fn number_at<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(bytes.get(at..at + N)?);
    Some(u64::from_le_bytes(wide))
}

/// Writes a GUID: its first three fields are little-endian.
fn guid(bytes: &[u8; 16]) -> String {
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut text = String::new();
    for (place, index) in order.into_iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text += &format!("{:02x}", bytes[index]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn gpt() -> Vec<u8> {
        let mut disk = vec![0; 4096];
        disk[512..520].copy_from_slice(b"EFI PART");
        disk[512 + 72] = 2;
        disk[512 + 80] = 4;
        disk[512 + 84] = 128;
        let entry = 1024 + 128;
        for (place, byte) in disk[entry + 16..entry + 32].iter_mut().enumerate() {
            *byte = u8::try_from(place).unwrap();
        }
        disk[entry + 56] = b'r';
        disk[entry + 58] = b'o';
        disk
    }

    #[test]
    fn reads_both_tables() {
        let found = read(Cursor::new(gpt()), 512, 2).unwrap();
        assert_eq!(found.uuid, "03020100-0504-0706-0809-0a0b0c0d0e0f");
        assert_eq!(found.label, "ro");
        assert_eq!(read(Cursor::new(gpt()), 512, 5), None);
        let mut mbr = vec![0; 1024];
        mbr[440..444].copy_from_slice(&[0x78, 0x56, 0x34, 0x12]);
        assert_eq!(read(Cursor::new(mbr), 512, 1).unwrap().uuid, "12345678-01");
    }

    #[test]
    fn hostile_tables_are_nothing() {
        for (at, byte) in [(512 + 84, 1), (512 + 72 + 7, 0xff), (512 + 86, 0xff)] {
            let mut disk = gpt();
            disk[at] = byte;
            assert_eq!(read(Cursor::new(disk), 512, 2), None, "{at}");
        }
        assert_eq!(read(Cursor::new(vec![0; 100]), 512, 1), None);
    }

    #[test]
    fn forms() {
        assert!(is_known("/dev/vda") && is_known("PARTUUID=x"));
        assert!(!is_known("/dev/ram0") && !is_known("LABEL=x") && !is_known("tmpfs"));
    }
}
