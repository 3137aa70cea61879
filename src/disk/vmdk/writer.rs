//! Writes a disk as a stream: grains with a table behind each 512 of them,
//! the directory of the tables and a footer at the end.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, Result};
use flate2::write::ZlibEncoder;

use super::{
    AT_END, DESCRIPTOR, END_OF_STREAM, ENTRIES, FOOTER, GRAIN, GRAIN_DIRECTORY, GRAIN_TABLE, MAGIC,
    OVERHEAD, SECTOR,
};
use crate::disk::Extents;
use crate::disk::squeeze::{Press, is_dense};
use crate::store::Store;

/// How a disk is written.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the file that the descriptor tells, such as `disk.vmdk`.
    pub name: String,
    /// Number of the contents.
    pub id: u32,
    /// Level of deflate, 0 to 9.
    pub level: u32,
    /// Where compressed parts are kept and looked for.
    pub cache: Option<Store>,
}

impl Default for Options {
    fn default() -> Self {
        // On what hardly compresses, such as kernels, zlib-rs is 7 % behind
        // zlib at every level but this one.
        Self { name: "disk.vmdk".to_owned(), id: 0x4d4f_4259, level: 9, cache: None }
    }
}

struct Writer<'a> {
    out: &'a mut dyn Write,
    /// Where the next sector is.
    at: u64,
    /// Sector of each grain of the table that is being filled.
    table: Vec<u32>,
    table_index: u64,
    directory: Vec<u32>,
}

/// Writes a disk; its size grows to whole grains of 64 KiB.
pub fn write(raw: &Extents, options: &Options, out: &mut dyn Write) -> Result<()> {
    let capacity = raw.len().div_ceil(GRAIN * SECTOR) * GRAIN;
    let tables = capacity.div_ceil(GRAIN * ENTRIES);
    let mut head = header(capacity, AT_END);
    head.resize((OVERHEAD * SECTOR) as usize, 0);
    let text = descriptor(capacity, options);
    anyhow::ensure!(
        text.len() as u64 <= DESCRIPTOR * SECTOR,
        "expected a descriptor of at most {} bytes, got {}",
        DESCRIPTOR * SECTOR,
        text.len()
    );
    head[SECTOR as usize..SECTOR as usize + text.len()].copy_from_slice(text.as_bytes());
    out.write_all(&head).context("writing the head of a disk")?;
    let mut writer = Writer {
        out,
        at: OVERHEAD,
        table: vec![0; ENTRIES as usize],
        table_index: 0,
        directory: vec![0; tables as usize],
    };
    let level = flate2::Compression::new(options.level);
    let work = move |bytes: &[u8]| {
        let level = if is_dense(bytes)? { flate2::Compression::none() } else { level };
        let mut encoder = ZlibEncoder::new(Vec::with_capacity(bytes.len() + 1024), level);
        encoder.write_all(bytes).context("compressing a grain")?;
        encoder.finish().context("compressing a grain").map(Some)
    };
    let press = Press {
        unit: GRAIN * SECTOR,
        name: format!("vmdk {}", options.level),
        work: Arc::new(work),
        cache: options.cache.clone(),
    };
    press.each(raw, &mut |index, unit| {
        writer.grain(index, unit.packed.expect("every grain is compressed"))
    })?;
    writer.finish(capacity)
}

impl Writer<'_> {
    /// Writes bytes, filled up to whole sectors.
    fn sectors(&mut self, mut bytes: Vec<u8>) -> Result<u64> {
        let at = self.at;
        bytes.resize(bytes.len().next_multiple_of(SECTOR as usize), 0);
        self.out.write_all(&bytes).context("writing a disk")?;
        self.at += bytes.len() as u64 / SECTOR;
        Ok(at)
    }

    fn grain(&mut self, index: u64, packed: &[u8]) -> Result<()> {
        if index / ENTRIES != self.table_index {
            self.flush_table()?;
            self.table_index = index / ENTRIES;
        }
        let mut marked = Vec::with_capacity(packed.len() + 12 + SECTOR as usize);
        marked.extend_from_slice(&(index * GRAIN).to_le_bytes());
        marked.extend_from_slice(&(packed.len() as u32).to_le_bytes());
        marked.extend_from_slice(packed);
        let at = self.sectors(marked)?;
        self.table[(index % ENTRIES) as usize] = sector_number(at)?;
        Ok(())
    }

    fn flush_table(&mut self) -> Result<()> {
        if self.table.iter().all(|entry| *entry == 0) {
            return Ok(());
        }
        let table = std::mem::replace(&mut self.table, vec![0; ENTRIES as usize]);
        let at = self.numbers(&table, GRAIN_TABLE)?;
        self.directory[self.table_index as usize] = at;
        Ok(())
    }

    /// Writes a marker and a table of numbers behind it.
    fn numbers(&mut self, numbers: &[u32], kind: u32) -> Result<u32> {
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        bytes.resize(bytes.len().next_multiple_of(SECTOR as usize), 0);
        self.sectors(marker(bytes.len() as u64 / SECTOR, kind))?;
        sector_number(self.sectors(bytes)?)
    }

    fn finish(mut self, capacity: u64) -> Result<()> {
        self.flush_table()?;
        let directory = std::mem::take(&mut self.directory);
        let at = self.numbers(&directory, GRAIN_DIRECTORY)?;
        self.sectors(marker(1, FOOTER))?;
        self.sectors(header(capacity, at.into()))?;
        self.sectors(marker(0, END_OF_STREAM)).map(drop)
    }
}

fn sector_number(at: u64) -> Result<u32> {
    u32::try_from(at).context("expected a VMDK below 2 TiB")
}

fn marker(sectors: u64, kind: u32) -> Vec<u8> {
    let mut out = vec![0; SECTOR as usize];
    out[..8].copy_from_slice(&sectors.to_le_bytes());
    out[12..16].copy_from_slice(&kind.to_le_bytes());
    out
}

fn header(capacity: u64, directory: u64) -> Vec<u8> {
    let mut out = vec![0; SECTOR as usize];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &MAGIC.to_le_bytes());
    put(4, &3_u32.to_le_bytes());
    // Valid new line test, compressed grains, markers.
    put(8, &0x3_0001_u32.to_le_bytes());
    put(12, &capacity.to_le_bytes());
    put(20, &GRAIN.to_le_bytes());
    put(28, &1_u64.to_le_bytes());
    put(36, &DESCRIPTOR.to_le_bytes());
    put(44, &(ENTRIES as u32).to_le_bytes());
    put(56, &directory.to_le_bytes());
    put(64, &OVERHEAD.to_le_bytes());
    // What a transfer as text would damage.
    put(73, b"\n \r\n");
    put(77, &1_u16.to_le_bytes());
    out
}

fn descriptor(capacity: u64, options: &Options) -> String {
    let cylinders = (capacity / (255 * 63)).clamp(1, 65_535);
    format!(
        "# Disk DescriptorFile\n\
         version=1\n\
         CID={:08x}\n\
         parentCID=ffffffff\n\
         createType=\"streamOptimized\"\n\
         \n\
         # Extent description\n\
         RDONLY {capacity} SPARSE \"{}\"\n\
         \n\
         # The Disk Data Base\n\
         #DDB\n\
         \n\
         ddb.adapterType = \"lsilogic\"\n\
         ddb.geometry.cylinders = \"{cylinders}\"\n\
         ddb.geometry.heads = \"255\"\n\
         ddb.geometry.sectors = \"63\"\n\
         ddb.virtualHWVersion = \"10\"\n",
        options.id, options.name
    )
}
