//! Partition tables and virtual disks: bytes to bytes, aware of holes.
//!
//! Each is a function from [`Extents`] to [`Extents`], or, where it
//! compresses, from extents to a stream. What reads them, [`open()`], goes the
//! other way: it tells by looking what a file is and gives the disk within.

mod crc;
mod geometry;
pub mod gpt;
mod guid;
pub mod gzip;
pub mod mbr;
mod number;
mod open;
pub mod ovf;
pub mod qcow2;
mod squeeze;
mod table;
pub mod vhd;
pub mod vhdx;
pub mod vmdk;

pub use guid::Guid;
pub use open::{Kind, Opened, open, open_image};
pub use table::{Partition, Table, read};

pub use crate::fs::Extents;

/// Partitions begin and end on multiples of this many bytes, and so does
/// every disk made here, as clouds ask.
pub const ALIGNMENT: u64 = 1 << 20;

#[cfg(test)]
mod tests;
