//! Fuzzes what makes a layer of a Debian package, and the readers of the
//! archive's own texts: control files and relations between packages.
//!
//! A layer that comes out is one that the store can read, and so is an index.

use std::io::{Cursor, Write};

use moby::source::debian::index::{self, Index};
use moby::source::debian::{Filter, control, relation, unpack};

/// Reads an input.
pub(crate) fn run(data: &[u8]) {
    drop(control::parse(data));
    if let Ok(text) = std::str::from_utf8(data) {
        drop(relation::parse(text));
    }
    let mut kept = Cursor::new(Vec::new());
    if index::write(data, &mut kept).is_ok() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(kept.get_ref()).expect("room for an index");
        let index = Index::open(file).expect("the index that was made");
        index.find("a").expect("the packages of the index that was made");
    }
    let mut layer = Vec::new();
    if unpack::write_layer(&crate::input::file(data), &Filter::default(), &mut layer).is_ok() {
        let read = moby::store::read_entries(&mut layer.as_slice());
        read.unwrap_or_else(|error| panic!("reading the layer that was made: {error:#}"));
    }
}
