//! Initial roots as the kernel sees them: cpio archives one behind another,
//! each raw or compressed by itself, with zeros between them or not.

use std::io::{Read, Write};

use moby::tree::{Content, Tree};

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const CPIO: &[u8] = b"0707";

/// Decompresses all segments and reads them into one tree.
pub(crate) fn read(bytes: &[u8]) -> Tree {
    let plain = plain(bytes);
    let mut keep = |stream: &mut dyn Read, len: u64| {
        let mut kept = Vec::new();
        stream.take(len).read_to_end(&mut kept)?;
        Ok(Content::Bytes(kept.into()))
    };
    moby::fs::cpio::read(&mut plain.as_slice(), &mut keep).expect("an initial root")
}

/// Decompresses all segments.
pub(crate) fn plain(bytes: &[u8]) -> Vec<u8> {
    let mut rest = bytes;
    let mut out = Vec::new();
    while !rest.is_empty() {
        if rest.starts_with(GZIP) {
            let mut decoder = flate2::bufread::GzDecoder::new(&mut rest);
            decoder.read_to_end(&mut out).expect("a gzip member");
        } else if rest.starts_with(ZSTD) {
            let decoder = zstd::stream::read::Decoder::with_buffer(&mut rest).expect("a decoder");
            decoder.single_frame().read_to_end(&mut out).expect("a zstd frame");
        } else if rest.starts_with(CPIO) {
            let len = entry(rest);
            out.write_all(&rest[..len]).expect("a write to memory");
            rest = &rest[len..];
        } else {
            assert_eq!(rest[0], 0, "expected a segment, {} bytes before the end", rest.len());
            out.push(0);
            rest = &rest[1..];
        }
    }
    out
}

/// The length of the cpio entry that some bytes begin with.
fn entry(bytes: &[u8]) -> usize {
    let field = |index: usize| {
        let at = 6 + 8 * index;
        let text = std::str::from_utf8(&bytes[at..at + 8]).expect("a field of ASCII");
        usize::from_str_radix(text, 16).expect("a field of hexadecimal digits")
    };
    let (size, name) = (field(6), field(11));
    let header = (110 + name).next_multiple_of(4);
    (header + size).next_multiple_of(4).min(bytes.len())
}
