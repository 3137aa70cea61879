//! Files with holes, in a file that has these holes itself: they cost no
//! space, however long they are.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::oci::Digest;
use crate::tree::{Content, Kind};

/// Makes a file of zeros but for some bytes, by their offset.
pub(crate) fn sparse(len: u64, data: &[(u64, Vec<u8>)]) -> Kind {
    Kind::File(Content::of_file(holed(len, data)).unwrap())
}

/// Makes a file too long to be read here: its digest is made up, and so only
/// equal to that of another one of the same call.
pub(crate) fn huge(len: u64, data: &[(u64, Vec<u8>)]) -> Kind {
    let digest = Digest::of(format!("{len} {data:?}").as_bytes());
    Kind::File(Content::Span { file: Arc::new(holed(len, data)), offset: 0, len, digest })
}

fn holed(len: u64, data: &[(u64, Vec<u8>)]) -> File {
    let file = tempfile::tempfile().unwrap();
    for (offset, bytes) in data {
        file.write_all_at(bytes, *offset).unwrap();
    }
    file.set_len(len).unwrap();
    file
}
