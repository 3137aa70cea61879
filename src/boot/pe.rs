//! PE, the format of EFI programs: their sections, and more of them.
//!
//! Follows "PE Format" of Microsoft, images of 64 bits. Left out: relocation,
//! checksums and signatures, which a program for UEFI does without.

use anyhow::{Context, Result, ensure};

use crate::fs::Extents;

/// Size of a section's header in bytes.
const HEADER: usize = 40;
/// "IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ".
const READABLE_DATA: u32 = 0x4000_0040;
/// "IMAGE_NT_OPTIONAL_HDR64_MAGIC".
const PE32_PLUS: u16 = 0x20b;
/// The most sections that a program may have.
const SECTIONS_LIMIT: usize = 96;
/// The most bytes of headers.
const HEADERS_LIMIT: u64 = 1 << 20;

/// A section of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name, such as `.linux`.
    pub name: String,
    /// Where it lies in memory, from the program's beginning.
    pub address: u32,
    /// Its length in bytes.
    pub len: u32,
    /// Where it lies in the file.
    pub offset: u32,
    /// How many bytes it takes there.
    pub stored: u32,
}

/// Where in the headers of a program things stand.
struct Headers {
    bytes: Vec<u8>,
    coff: usize,
    optional: usize,
    table: usize,
    count: usize,
}

impl Headers {
    fn new(program: &Extents) -> Result<Self> {
        let dos = program.bytes(0, 64)?;
        ensure!(dos[..2] == *b"MZ", "expected a PE program");
        let pe = le32(&dos, 60) as usize;
        let limit = program.len().min(HEADERS_LIMIT) as usize;
        ensure!(pe.checked_add(24 + 112).is_some_and(|end| end <= limit), "expected PE headers");
        let bytes = program.bytes(0, limit)?;
        ensure!(bytes[pe..pe + 4] == *b"PE\0\0", "expected a PE program");
        let coff = pe + 4;
        let (count, optional_len) = (le16(&bytes, coff + 2), le16(&bytes, coff + 16));
        let optional = coff + 20;
        let (table, count) = (optional + usize::from(optional_len), usize::from(count));
        ensure!(le16(&bytes, optional) == PE32_PLUS, "expected a PE program of 64 bits");
        let end = table + count * HEADER;
        ensure!(count <= SECTIONS_LIMIT && end <= limit, "expected the sections of a PE program");
        Ok(Self { bytes, coff, optional, table, count })
    }

    fn sections(&self) -> Vec<Section> {
        let entries = self.bytes[self.table..].chunks_exact(HEADER).take(self.count);
        let section = |entry: &[u8]| {
            let end = entry[..8].iter().position(|byte| *byte == 0).unwrap_or(8);
            Section {
                name: String::from_utf8_lossy(&entry[..end]).into_owned(),
                len: le32(entry, 8),
                address: le32(entry, 12),
                stored: le32(entry, 16),
                offset: le32(entry, 20),
            }
        };
        entries.map(section).collect()
    }

    fn put(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
}

/// Returns the sections of a program.
pub fn sections(program: &Extents) -> Result<Vec<Section>> {
    Ok(Headers::new(program)?.sections())
}

/// Adds sections of data behind those that a program has. What lies in the
/// file behind its last section, such as symbols, is left out: a signature
/// would not cover it.
pub fn with_sections(program: &Extents, added: &[(&str, Extents)]) -> Result<Extents> {
    let mut headers = Headers::new(program)?;
    let optional = headers.optional;
    // Whole pages, where the stub asks for less: they are mapped as such.
    let in_memory = u64::from(le32(&headers.bytes, optional + 32)).max(4096);
    let in_file = u64::from(le32(&headers.bytes, optional + 36));
    let headers_len = le32(&headers.bytes, optional + 60) as usize;
    let sane = in_memory.is_power_of_two() && in_file.is_power_of_two() && in_memory >= in_file;
    ensure!(sane, "expected a PE program with its alignments");
    let room = headers_len.min(headers.bytes.len()).saturating_sub(headers.table) / HEADER;
    let total = headers.count + added.len();
    ensure!(
        total <= room.min(SECTIONS_LIMIT),
        "expected room for {total} sections in the headers of the EFI stub, got {room}"
    );
    let known = headers.sections();
    let ends = known.iter().map(|section| u64::from(section.offset) + u64::from(section.stored));
    let end = ends.max().unwrap_or(0).max(headers_len as u64);
    let mut image = program.slice(0..end.min(program.len())).context("cutting an EFI stub")?;
    image.align(in_file);
    let mut address = u64::from(le32(&headers.bytes, optional + 56)).next_multiple_of(in_memory);
    let mut data = le32(&headers.bytes, optional + 8);
    for (name, contents) in added {
        let short = |value: u64| u32::try_from(value).context("making an EFI program of 4 GiB");
        let stored = short(contents.len().next_multiple_of(in_file))?;
        let mut entry = [0; HEADER];
        ensure!(name.len() <= 8, "expected a section name of up to 8 bytes, got `{name}`");
        entry[..name.len()].copy_from_slice(name.as_bytes());
        let fields = [short(contents.len())?, short(address)?, stored, short(image.len())?];
        for (index, value) in fields.into_iter().enumerate() {
            entry[8 + 4 * index..12 + 4 * index].copy_from_slice(&value.to_le_bytes());
        }
        entry[36..].copy_from_slice(&READABLE_DATA.to_le_bytes());
        let at = headers.table + headers.count * HEADER;
        headers.bytes[at..at + HEADER].copy_from_slice(&entry);
        headers.count += 1;
        image.push(contents);
        image.align(in_file);
        address = (address + contents.len()).next_multiple_of(in_memory);
        data = data.checked_add(stored).context("making an EFI program of 4 GiB")?;
    }
    let (coff, count) = (headers.coff, headers.count as u16);
    headers.bytes[coff + 2..coff + 4].copy_from_slice(&count.to_le_bytes());
    // No symbols, and no checksum.
    headers.put(coff + 8, 0);
    headers.put(coff + 12, 0);
    headers.put(optional + 8, data);
    headers.put(optional + 56, u32::try_from(address).context("making an EFI program of 4 GiB")?);
    headers.put(optional + 64, 0);
    image.put_bytes(0, &headers.bytes[..headers_len.min(headers.bytes.len())]);
    Ok(image)
}

fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}
