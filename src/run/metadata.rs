//! `--data`: metadata for the guest, on a CD with the one file `config`.
//!
//! ECMA-119 at its least: one folder, one file, no extensions. LinuxKit's
//! metadata package and ours read it; Linux shows `CONFIG.;1` as `config`.

/// The size of a sector.
const SECTOR: usize = 2048;
/// Where things stand, in sectors; the descriptors begin at 16 by the standard.
const LITTLE_TABLE: u32 = 18;
const BIG_TABLE: u32 = 19;
const ROOT: u32 = 20;
const DATA: u32 = 21;
/// The file's name as ECMA-119 wants it.
const NAME: &[u8] = b"CONFIG.;1";

/// Writes the CD that holds `data`; at most 4 GiB, far above what fits in memory
/// for this use.
pub fn image(data: &[u8]) -> Vec<u8> {
    let sectors = DATA as usize + data.len().div_ceil(SECTOR);
    let mut image = vec![0; sectors * SECTOR];
    let size = u32::try_from(sectors).unwrap_or(u32::MAX);
    put(&mut image, 16, &volume(size));
    put(&mut image, 17, b"\xffCD001\x01");
    put(&mut image, LITTLE_TABLE, &path_table(ROOT.to_le_bytes(), 1u16.to_le_bytes()));
    put(&mut image, BIG_TABLE, &path_table(ROOT.to_be_bytes(), 1u16.to_be_bytes()));
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let folder = [
        record(&[0], ROOT, SECTOR as u32, true),
        record(&[1], ROOT, SECTOR as u32, true),
        record(NAME, DATA, length, false),
    ];
    put(&mut image, ROOT, &folder.concat());
    put(&mut image, DATA, data);
    image
}

fn put(image: &mut [u8], sector: u32, bytes: &[u8]) {
    let start = sector as usize * SECTOR;
    image[start..start + bytes.len()].copy_from_slice(bytes);
}

/// The primary volume descriptor (8.4).
fn volume(sectors: u32) -> Vec<u8> {
    let mut bytes = vec![0; SECTOR];
    let mut at = |offset: usize, field: &[u8]| {
        bytes[offset..offset + field.len()].copy_from_slice(field);
    };
    at(0, b"\x01CD001\x01");
    at(8, &[b' '; 64]);
    at(40, b"CONFIG");
    at(80, &both(sectors));
    at(120, &both16(1));
    at(124, &both16(1));
    at(128, &both16(SECTOR as u16));
    at(132, &both(10));
    at(140, &LITTLE_TABLE.to_le_bytes());
    at(148, &BIG_TABLE.to_be_bytes());
    at(156, &record(&[0], ROOT, SECTOR as u32, true));
    at(190, &[b' '; 623]);
    // Four dates, "not specified": sixteen digits zero, and a zone.
    for date in 0..4 {
        at(813 + date * 17, &[b'0'; 16]);
    }
    at(881, &[1]);
    bytes
}

/// The root's only record (9.4), in one byte order.
fn path_table(root: [u8; 4], parent: [u8; 2]) -> Vec<u8> {
    [&[1, 0][..], &root, &parent, &[0, 0]].concat()
}

/// A directory record (9.1); its date stays unset.
fn record(name: &[u8], sector: u32, length: u32, folder: bool) -> Vec<u8> {
    let padded = 33 + name.len() + (name.len() + 1) % 2;
    let mut bytes = vec![0; padded];
    bytes[0] = u8::try_from(padded).unwrap_or(u8::MAX);
    bytes[2..10].copy_from_slice(&both(sector));
    bytes[10..18].copy_from_slice(&both(length));
    bytes[25] = if folder { 2 } else { 0 };
    bytes[28..32].copy_from_slice(&both16(1));
    bytes[32] = u8::try_from(name.len()).unwrap_or(u8::MAX);
    bytes[33..33 + name.len()].copy_from_slice(name);
    bytes
}

/// A number in both byte orders (7.3.3).
fn both(number: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn both16(number: u16) -> [u8; 4] {
    let (little, big) = (number.to_le_bytes(), number.to_be_bytes());
    [little[0], little[1], big[0], big[1]]
}

#[cfg(test)]
#[allow(clippy::print_stderr)]
mod tests {
    use super::super::process::{self, Program};
    use super::*;

    #[test]
    fn holds_the_data() {
        let image = image(b"hello");
        assert_eq!(image.len(), 22 * SECTOR);
        assert_eq!(&image[21 * SECTOR..21 * SECTOR + 6], b"hello\0");
        assert_eq!(super::image(b"").len(), 21 * SECTOR);
    }

    #[test]
    fn others_can_read_it() {
        let search = crate::env::var("PATH").unwrap_or_default();
        let Some(judge) = process::find("xorriso", &search) else {
            eprintln!("skipped: xorriso is not installed");
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let (cd, out) = (folder.path().join("cd"), folder.path().join("out"));
        std::fs::write(&cd, image(&[b'x'; 5000])).unwrap();
        let (cd, target) = (cd.to_string_lossy(), out.to_string_lossy());
        let args = ["-osirrox", "on", "-indev", &cd, "-extract", "/CONFIG", &target];
        Program::new(judge, args.map(str::to_owned).to_vec()).output().unwrap();
        assert_eq!(std::fs::read(&out).unwrap(), [b'x'; 5000]);
    }
}
