//! File systems and archives on disk: a [`Tree`](crate::tree::Tree) to bytes.
//!
//! Each format has a folder or file of its own with a writer, and a reader
//! good enough to list, dump and extract what the writer makes.

pub mod asked;
mod calendar;
mod claims;
mod composed;
mod compression;
mod contents;
mod device;
pub mod erofs;
pub mod ext4;
pub mod extents;
pub mod fat;
mod hole;
pub mod iso9660;
mod largest;
mod order;
pub(crate) mod ordered;
#[cfg(test)]
pub(crate) mod sample;
pub mod squashfs;
mod stream;
mod target;
#[cfg(test)]
mod tests;
mod unpacked;
mod window;

pub use composed::Composed;
pub use compression::Compression;
pub use extents::{Extents, Piece};
pub use largest::{Folder, largest, too_large};
pub mod cpio;
pub mod tar;
