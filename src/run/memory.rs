//! How much memory a guest needs to unpack its initrd.
//!
//! The kernel gives half of the memory to the root file system; what does not
//! fit is cut off with one line on the console. So a guest gets twice the
//! unpacked size and 90 MiB for itself. Sizes come from the frames of zstd
//! (RFC 8878); for other compressions a ratio is guessed.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::boot::pe;
use crate::fs::Extents;

/// The memory of a guest unless its initrd needs more, in MiB; LinuxKit's.
pub const DEFAULT: u64 = 1024;
/// What a guest needs besides its root, in MiB.
const REST: u64 = 90;
/// How much gzip, xz and lz4 make of a system's files, guessed high.
const RATIO: u64 = 4;

/// How often an EFI program is in memory at once: as the firmware places it, and
/// its initrd as the stub and as the kernel copies it, each in one piece.
const COPIES: u64 = 4;
/// What UEFI firmware needs besides, in MiB.
const FIRMWARE: u64 = 192;

const ZSTD: u32 = 0xfd2f_b528;

/// Returns the least memory in MiB for a guest with this initrd.
pub fn needed(initrd: &Path) -> Result<u64> {
    let whole = || {
        let file = File::open(initrd)?;
        let end = file.metadata()?.len();
        unpacked(file, 0..end)
    };
    let unpacked = whole().with_context(|| format!("reading {}", initrd.display()))?;
    Ok(room(unpacked))
}

/// Returns the least memory in MiB for a guest that starts this EFI program, with
/// or without an initrd inside.
pub fn needed_by_program(program: &Path) -> Result<u64> {
    let both = || {
        let file = Arc::new(File::open(program)?);
        let image = Extents::of_file(&file)?;
        // Another kind of program brings no initrd that we know of.
        let sections = pe::sections(&image).unwrap_or_default();
        let initrd = sections.iter().find(|section| section.name == ".initrd");
        let part = |section: &pe::Section| {
            let start = u64::from(section.offset);
            start..start.saturating_add(section.len.into()).min(image.len())
        };
        let unpacked = match initrd.map(part) {
            Some(part) => unpacked(File::open(program)?, part)?,
            None => 0,
        };
        Ok::<_, anyhow::Error>((image.len(), unpacked))
    };
    let (len, unpacked) = both().with_context(|| format!("reading {}", program.display()))?;
    let copies = len.div_ceil(1 << 20).saturating_mul(COPIES).saturating_add(FIRMWARE);
    Ok(room(unpacked).max(copies))
}

fn room(unpacked: u64) -> u64 {
    unpacked.div_ceil(1 << 20).saturating_mul(2).saturating_add(REST)
}

/// Estimates the size of an initrd, which is a part of a file, once unpacked, in bytes.
fn unpacked(mut file: File, part: Range<u64>) -> Result<u64> {
    file.seek(SeekFrom::Start(part.start))?;
    let mut file = BufReader::new(file);
    let mut total = 0u64;
    loop {
        let start = file.stream_position()?;
        let rest = part.end.saturating_sub(start);
        let mut magic = [0; 4];
        if rest < 4 {
            return Ok(total);
        }
        file.read_exact(&mut magic)?;
        match magic {
            magic if u32::from_le_bytes(magic) == ZSTD => match frame(&mut file)? {
                Some(frame) => total = total.saturating_add(frame),
                None => return Ok(total.saturating_add(rest.saturating_mul(RATIO))),
            },
            // Padding between segments.
            [0, 0, 0, 0] => {}
            // cpio, raw: what follows is not followed, and counts as it is.
            [b'0', b'7', b'0', b'7'] => return Ok(total.saturating_add(rest)),
            _ => return Ok(total.saturating_add(rest.saturating_mul(RATIO))),
        }
    }
}

/// Passes over a frame whose magic was read and returns the size of its
/// content; `None` if it is not whole. Without a size in its header the blocks
/// are counted, each at its most.
fn frame(file: &mut BufReader<File>) -> Result<Option<u64>> {
    let descriptor = byte(file)?;
    let single = descriptor & 0x20 != 0;
    if !single {
        byte(file)?;
    }
    skip(file, [0, 1, 2, 4][usize::from(descriptor & 3)])?;
    let width = match descriptor >> 6 {
        0 => usize::from(single),
        n => 1 << n,
    };
    let mut field = [0; 8];
    file.read_exact(&mut field[..width])?;
    // A size of two bytes counts from 256.
    let stated = u64::from_le_bytes(field).saturating_add(if width == 2 { 256 } else { 0 });
    let mut counted = 0u64;
    loop {
        let mut header = [0; 4];
        if file.read_exact(&mut header[..3]).is_err() {
            return Ok(None);
        }
        let header = u32::from_le_bytes(header);
        let size = u64::from(header >> 3);
        let (stored, content) = match header >> 1 & 3 {
            0 => (size, size),
            1 => (1, size),
            2 => (size, 128 << 10),
            _ => return Ok(None),
        };
        counted = counted.saturating_add(content);
        skip(file, stored)?;
        if header & 1 == 1 {
            break;
        }
    }
    if descriptor & 4 != 0 {
        skip(file, 4)?;
    }
    Ok(Some(if width == 0 { counted } else { stated }))
}

fn byte(file: &mut impl Read) -> Result<u8> {
    let mut byte = [0];
    file.read_exact(&mut byte)?;
    Ok(byte[0])
}

fn skip(file: &mut BufReader<File>, count: u64) -> Result<()> {
    match i64::try_from(count) {
        Ok(count) => file.seek_relative(count)?,
        Err(_) => {
            file.seek(SeekFrom::End(0))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn sized(content: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(content, 3).unwrap()
    }

    fn streamed(content: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn estimate(bytes: &[u8]) -> u64 {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        unpacked(File::open(file.path()).unwrap(), 0..bytes.len() as u64).unwrap()
    }

    #[test]
    fn adds_up_frames() {
        let text: Vec<u8> = (0..3_000_000u32).flat_map(|n| n.to_string().into_bytes()).collect();
        let size = text.len() as u64;
        for small in [1, 255, 256, 300, 70_000] {
            assert_eq!(estimate(&sized(&text[..small])), small as u64, "{small}");
        }
        let both = [sized(&text), vec![0; 8], sized(&text[..1000])].concat();
        assert_eq!(estimate(&both), size + 1000);
        let counted = estimate(&streamed(&text));
        assert!((size..size + size / 4).contains(&counted), "{counted} for {size}");
    }

    #[test]
    fn guesses_what_it_cannot_read() {
        assert_eq!(estimate(b"0707010000"), 10);
        assert_eq!(estimate(&[&[0x1f, 0x8b][..], &[1; 98]].concat()), 400);
        assert_eq!(estimate(b""), 0);
        let cut = &sized(&[7; 100_000])[..9];
        assert_eq!(estimate(cut), 36);
        assert_eq!(estimate(&[]), 0);
    }

    #[test]
    fn doubles_the_size_and_adds_the_rest() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let raw = [b"0707".to_vec(), vec![1; (1 << 20) - 3]].concat();
        std::fs::write(file.path(), raw).unwrap();
        assert_eq!(needed(file.path()).unwrap(), 94);
        // What is no program counts as one without an initrd.
        assert_eq!(needed_by_program(file.path()).unwrap(), 2 * COPIES + FIRMWARE);
    }
}
