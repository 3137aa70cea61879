//! Fuzzes what makes a layer of a Debian package, and the readers of the
//! archive's own texts: control files and relations between packages.
//!
//! A layer that comes out is one that the store can read.

#![no_main]

use moby::source::debian::{Filter, control, relation, unpack};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    drop(control::parse(data));
    if let Ok(text) = std::str::from_utf8(data) {
        drop(relation::parse(text));
    }
    let mut layer = Vec::new();
    if unpack::write_layer(&moby_fuzz::file(data), &Filter::default(), &mut layer).is_ok() {
        let read = moby::store::read_entries(&mut layer.as_slice());
        read.unwrap_or_else(|error| panic!("reading the layer that was made: {error:#}"));
    }
});
