//! Finding a partition by its own name: `PARTUUID=`, `PARTLABEL=`, or a device.
//!
//! Read from the partition table itself, for kernels before 6.11 do not tell. GPT as in the
//! UEFI specification 2.10, section 5.3; of an MBR the signature and the number, as the
//! kernel's own `root=PARTUUID=` has it. A CD has no partitions to the kernel: there the table
//! tells where in the disc the partition lies.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::module::Modules;
use crate::sys;

/// Larger entries than this are nothing known.
const LARGEST: u64 = 4096;
/// More entries than this are nothing known.
const MOST: u64 = 1024;

/// What a partition table says of one partition.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Identity {
    uuid: String,
    label: String,
    /// Where it begins and how long it is, in sectors; of a GPT alone.
    first: u64,
    count: u64,
}

/// Where a partition is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A device of its own.
    Device(PathBuf),
    /// A part of a disc: from that byte, so many bytes.
    Part(PathBuf, u64, u64),
}

impl Place {
    /// Gives the device; a part of a disc gets a loop device.
    pub fn device(self, modules: &mut Modules) -> Result<PathBuf> {
        let (disc, offset, length) = match self {
            Self::Device(device) => return Ok(device),
            Self::Part(disc, offset, length) => (disc, offset, length),
        };
        modules.load("loop")?;
        let open = |path: &Path, write: bool| {
            let file = fs::OpenOptions::new().read(true).write(write).open(path);
            file.map_err(|error| Error::io("opening", path.display(), &error))
        };
        let control = open(Path::new("/dev/loop-control"), true)?;
        let fail = |error| Error::io("making a loop device of", disc.display(), &error);
        let number = sys::free_loop(&control).map_err(fail)?;
        let device = PathBuf::from(format!("/dev/loop{number}"));
        // Only to read: the descriptor says so, too.
        sys::set_loop(&open(&device, false)?, &open(&disc, false)?, offset, length)
            .map_err(fail)?;
        Ok(device)
    }
}

/// Finds what `wanted` names, once it is there.
pub fn find(wanted: &str) -> Option<Place> {
    let by = |test: &dyn Fn(&Identity) -> bool| {
        let blocks: Vec<PathBuf> = fs::read_dir("/sys/class/block")
            .ok()?
            .filter_map(|block| Some(block.ok()?.path()))
            .collect();
        let own = |block: &PathBuf| {
            let identity = identify(block)?;
            test(&identity).then(|| Place::Device(device(block)))
        };
        blocks.iter().find_map(own).or_else(|| blocks.iter().find_map(|block| within(block, test)))
    };
    match wanted.split_once('=') {
        Some(("PARTUUID", uuid)) => by(&|found| found.uuid.eq_ignore_ascii_case(uuid)),
        Some(("PARTLABEL", label)) => by(&|found| found.label == label),
        _ => Some(Place::Device(wanted.into())).filter(|_| Path::new(wanted).exists()),
    }
}

/// Tells whether `wanted` has one of the forms that [`find`] knows.
pub fn is_known(wanted: &str) -> bool {
    let forms = ["/dev/", "PARTUUID=", "PARTLABEL="];
    forms.iter().any(|form| wanted.starts_with(form)) && !wanted.starts_with("/dev/ram")
}

/// Gives the device of `/sys/class/block/NAME`.
pub(crate) fn device(block: &Path) -> PathBuf {
    Path::new("/dev").join(block.file_name().unwrap_or_default())
}

/// Reads what the table of its disk says of the partition at `/sys/class/block/NAME`.
fn identify(block: &Path) -> Option<Identity> {
    let number: u64 = text(&block.join("partition"))?.parse().ok()?;
    // /sys/class/block/vda1 links to .../block/vda/vda1.
    let place = fs::canonicalize(block).ok()?;
    let disk = place.parent()?;
    let sector: u64 = text(&disk.join("queue/logical_block_size"))?.parse().ok()?;
    let table = File::open(device(disk)).ok()?;
    read(&|at, length| bytes(&table, at, length), sector, number)
}

/// Looks for a partition in the table of a disc, the sectors of which are 512 bytes whatever
/// the drive says.
fn within(block: &Path, test: &dyn Fn(&Identity) -> bool) -> Option<Place> {
    const SECTOR: u64 = 512;
    let is_partition = block.join("partition").exists();
    let disc = device(block);
    // Any other kernel reads the table itself and makes devices of it.
    let blind = disc.as_os_str().as_encoded_bytes().starts_with(b"/dev/sr")
        || text(&block.join("queue/logical_block_size")).is_some_and(|size| size != "512");
    if is_partition || !blind {
        return None;
    }
    let table = File::open(&disc).ok()?;
    let get = |at, length| bytes(&table, at, length);
    if !get(SECTOR, 8)?.starts_with(MAGIC) {
        return None;
    }
    let found = (1..=16).filter_map(|number| read(&get, SECTOR, number)).find(test)?;
    Some(Place::Part(disc, found.first.checked_mul(SECTOR)?, found.count.checked_mul(SECTOR)?))
}

fn bytes(file: &File, at: u64, length: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).ok()?];
    file.read_exact_at(&mut bytes, at).ok()?;
    Some(bytes)
}

/// Reads a file of `/sys`.
pub(crate) fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// What a GPT's header begins with.
pub(crate) const MAGIC: &[u8] = b"EFI PART";

/// Reads partition `number`, counted from 1, of a disk with sectors of `sector` bytes; `bytes`
/// gives so many from a place on.
fn read(bytes: &dyn Fn(u64, u64) -> Option<Vec<u8>>, sector: u64, number: u64) -> Option<Identity> {
    let header = bytes(sector, 512)?;
    if !header.starts_with(MAGIC) {
        let mbr = bytes(0, 512)?;
        let signature = number_at::<4>(&mbr, 440)?;
        return Some(Identity {
            uuid: format!("{signature:08x}-{number:02x}"),
            ..Identity::default()
        });
    }
    let table = number_at::<8>(&header, 72)?.checked_mul(sector)?;
    let size = number_at::<4>(&header, 84)?;
    let count = number_at::<4>(&header, 80)?.min(MOST);
    if !(128..=LARGEST).contains(&size) || number > count {
        return None;
    }
    let entry = bytes(table.checked_add(size.checked_mul(number.checked_sub(1)?)?)?, size)?;
    let units = entry[56..128].chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let label = char::decode_utf16(units.take_while(|unit| *unit != 0));
    let label = label.map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    let (first, last) = (number_at::<8>(&entry, 32)?, number_at::<8>(&entry, 40)?);
    Some(Identity {
        uuid: guid(entry[16..32].try_into().ok()?),
        label,
        first,
        count: last.checked_add(1)?.saturating_sub(first),
    })
}

/// Reads a little-endian number of `N` bytes.
pub(crate) fn number_at<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(bytes.get(at..at.checked_add(N)?)?);
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

    fn get(disk: &[u8], sector: u64, number: u64) -> Option<Identity> {
        let bytes = |at: u64, length: u64| {
            let at = usize::try_from(at).ok()?;
            let end = at.checked_add(usize::try_from(length).ok()?)?;
            disk.get(at..end).map(<[u8]>::to_vec)
        };
        read(&bytes, sector, number)
    }

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
        disk[entry + 32] = 8;
        disk[entry + 40] = 11;
        disk[entry + 56] = b'r';
        disk[entry + 58] = b'o';
        disk
    }

    #[test]
    fn reads_both_tables() {
        let found = get(&gpt(), 512, 2).unwrap();
        assert_eq!(found.uuid, "03020100-0504-0706-0809-0a0b0c0d0e0f");
        assert_eq!(found.label, "ro");
        assert_eq!((found.first, found.count), (8, 4));
        assert_eq!(get(&gpt(), 512, 5), None);
        let mut mbr = vec![0; 1024];
        mbr[440..444].copy_from_slice(&[0x78, 0x56, 0x34, 0x12]);
        assert_eq!(get(&mbr, 512, 1).unwrap().uuid, "12345678-01");
    }

    #[test]
    fn hostile_tables_are_nothing() {
        for (at, byte) in [(512 + 84, 1), (512 + 72 + 7, 0xff), (512 + 86, 0xff)] {
            let mut disk = gpt();
            disk[at] = byte;
            assert_eq!(get(&disk, 512, 2), None, "{at}");
        }
        assert_eq!(get(&[0; 100], 512, 1), None);
    }

    #[test]
    fn forms() {
        assert!(is_known("/dev/vda") && is_known("PARTUUID=x"));
        assert!(!is_known("/dev/ram0") && !is_known("LABEL=x") && !is_known("tmpfs"));
    }
}
