//! What a disk image looks like: the top-level key `disk`, which is moby's own.
//!
//! Formats without a disk pass it over, but for `data`, which they refuse; of
//! it, discs heed `root` and `compression` alone.

use serde_json::{Map, Value, json};

use super::node::{Kind, Meaning, Node};
use super::part::{Decoder, Part, Text, record};
use super::place::{Invalid, Place, Spanned};
use super::text::words;
use crate::fs::Compression;

record! {
    /// What a disk image looks like.
    Disk as "disk" {
        /// Size of the disk, such as `4G`, a number being MiB; as small as fits by default. `--size` goes before it.
        size: Option<Spanned<Size>> = "size",
        /// Size of a sector in bytes, 512 or 4096, which UEFI alone starts from; 512 by default.
        sector: Option<Spanned<Sector>> = "sector",
        /// Partition table; `gpt` by default.
        table: Option<Spanned<Table>> = "table",
        /// How the disk holds the root file system; `erofs` by default in `raw`, `qcow2`, `vmdk`, `vhdx`, `ova` and `iso`, else `initrd`.
        root: Option<Spanned<Root>> = "root",
        /// How a root of squashfs (`gzip`, `xz`, `zstd`) or erofs (`none`, `lz4`, `zstd`) is compressed, with a level as in `xz:9`; `zstd:3` and `lz4` by default. `--root-compression` goes before it.
        compression: Option<Spanned<Compression>> = "compression",
        /// A partition that holds /var and outlives the root: it begins with what the image has there.
        data: Option<Data> = "data",
    }

    /// A data partition.
    Data as "data" {
        /// Size in the image, such as `1G`, a number being MiB; what it holds and 64 MiB of free space by default.
        size: Option<Spanned<Size>> = "size",
        /// Grows to the end of the disk at the first boot; true by default.
        grow: Option<bool> = "grow",
        /// Label of the file system, up to 16 bytes; `data` by default.
        label: Option<Spanned<String>> = "label",
        /// The file system; `ext4` by default.
        filesystem: Option<Spanned<DataFilesystem>> = "filesystem",
    }
}

words! {
    /// A partition table.
    Table {
        /// GUID partition table.
        Gpt = "gpt",
        /// Master boot record.
        Mbr = "mbr",
    }

    /// How a disk holds the root file system.
    Root {
        /// In the initrd, unpacked into memory at boot.
        Initrd = "initrd",
        /// As a read-only erofs partition.
        Erofs = "erofs",
        /// As a read-only squashfs partition.
        Squashfs = "squashfs",
        /// As an ext4 partition, mounted read-only.
        Ext4 = "ext4",
    }

    /// The file system of a data partition.
    DataFilesystem {
        /// The fourth extended file system.
        Ext4 = "ext4",
    }
}

/// A size in bytes: `512M`, `4G`, or a number of MiB as LinuxKit's `--size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Part for Spanned<Size> {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let Kind::Scalar(scalar) = &node.kind else {
            return decoder.mismatch(node, "a size like `4G`", "");
        };
        let Some(bytes) = size(&scalar.text) else {
            return decoder.mismatch(node, "a size like `4G`", "");
        };
        let written = scalar.text.clone();
        Some(Self { value: Size(bytes), at: decoder.place(node.mark), written })
    }

    fn schema(_: &mut Map<String, Value>) -> Value {
        json!({"type": ["string", "integer"], "pattern": "^[0-9]+[KMGT]?$"})
    }

    fn encode(&self) -> Value {
        self.written.as_str().into()
    }
}

fn size(text: &str) -> Option<u64> {
    let (digits, unit) = match text.char_indices().last()? {
        (at, 'K' | 'k') => (&text[..at], 1 << 10),
        (at, 'M' | 'm') => (&text[..at], 1 << 20),
        (at, 'G' | 'g') => (&text[..at], 1 << 30),
        (at, 'T' | 't') => (&text[..at], 1_u64 << 40),
        _ => (text, 1 << 20),
    };
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    let amount = digits.parse::<u64>().ok().filter(|amount| plain && *amount > 0)?;
    amount.checked_mul(unit)
}

impl Text for Compression {
    fn read(text: &str, at: &Place) -> Result<Self, Invalid> {
        text.parse().map_err(|error| at.invalid(format!("{error:#}")))
    }

    fn schema() -> Value {
        json!({"type": "string", "pattern": "^(none|lz4|(gzip|xz|zstd)(:[0-9]+)?)$"})
    }
}

/// The size of a sector in bytes: 512 or 4096.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sector(pub u32);

impl Part for Spanned<Sector> {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        match &node.kind {
            Kind::Scalar(scalar) if matches!(scalar.meaning, Meaning::Int(512 | 4096)) => {
                let value = Sector(if scalar.meaning == Meaning::Int(512) { 512 } else { 4096 });
                let at = decoder.place(node.mark);
                Some(Self { value, at, written: value.0.to_string() })
            }
            _ => decoder.mismatch(node, "512 or 4096", ""),
        }
    }

    fn schema(_: &mut Map<String, Value>) -> Value {
        json!({"enum": [512, 4096]})
    }

    fn encode(&self) -> Value {
        self.value.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes() {
        for (text, bytes) in [
            ("1024", Some(1 << 30)),
            ("4G", Some(4 << 30)),
            ("512M", Some(512 << 20)),
            ("0", None),
            ("G", None),
            ("-1G", None),
            ("+1G", None),
            ("99999999999999T", None),
            ("1é", None),
        ] {
            assert_eq!(size(text), bytes, "{text}");
        }
    }
}
