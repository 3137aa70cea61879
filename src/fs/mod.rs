//! File systems and archives on disk: a [`Tree`](crate::tree::Tree) to bytes.
//!
//! Each format has a folder or file of its own with a writer, and a reader
//! good enough to list, dump and extract what the writer makes.

mod largest;

pub use largest::{Folder, largest, too_large};
