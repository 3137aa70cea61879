//! Extents against a plain vector of bytes.

use std::io::Cursor;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

fn all(image: &Extents) -> Vec<u8> {
    image.bytes(0, image.len() as usize).unwrap()
}

#[test]
fn leaves_out_zero_blocks() {
    let mut bytes = vec![0; 3 * BLOCK];
    bytes[BLOCK] = 1;
    let image = Extents::of_bytes(bytes.clone());
    let runs: Vec<(u64, u64)> = image.runs().map(|(at, len, _)| (at, len)).collect();
    assert_eq!(runs, [(BLOCK as u64, BLOCK as u64)]);
    assert_eq!(all(&image), bytes);
}

#[test]
fn sees_the_holes_of_a_file() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(8 << 20).unwrap();
    file.write_all_at(b"x", 4 << 20).unwrap();
    let image = Extents::of_file(&Arc::new(file)).unwrap();
    assert!(image.is_hole(0..1 << 20));
    assert!(!image.is_hole(4 << 20..(4 << 20) + 1));
    assert_eq!(image.len(), 8 << 20);
}

#[test]
fn refuses_to_read_beyond_the_end() {
    let image = Extents::zeros(10);
    assert!(image.read_exact_at(&mut [0; 4], 7).is_err());
    assert!(image.read_exact_at(&mut [0; 4], u64::MAX).is_err());
    assert!(image.slice(5..11).is_err());
}

#[test]
fn writes_long_spans_wherever_the_target_lies() {
    let plain: Vec<u8> = (0..11_000_003_u32).map(|n| (n % 251 + n / 4096 % 5) as u8).collect();
    let source = tempfile::tempfile().unwrap();
    source.write_all_at(&plain, 0).unwrap();
    let mut image = Extents::of_bytes(&b"head"[..]);
    image.put_piece(5000, 10_999_996, &span(&Arc::new(source), 7));
    image.grow(12 << 20);
    let mut expected = vec![0; 12 << 20];
    expected[..4].copy_from_slice(b"head");
    expected[5000..5000 + 10_999_996].copy_from_slice(&plain[7..]);
    let targets = [tempfile::tempfile(), tempfile::tempfile_in("/dev/shm")];
    for target in targets.into_iter().flatten() {
        image.write_file(&target).unwrap();
        let mut back = Vec::new();
        (&target).read_to_end(&mut back).unwrap();
        assert!(back == expected);
    }
}

#[test]
fn fails_where_a_span_ends_early() {
    let source = tempfile::tempfile().unwrap();
    source.set_len(20 << 20).unwrap();
    let mut image = Extents::default();
    image.put_piece(0, 21 << 20, &span(&Arc::new(source), 0));
    assert!(image.write_file(&tempfile::tempfile().unwrap()).is_err());
}

proptest! {
    #[test]
    fn holds_what_was_laid_over(puts in prop::collection::vec((0..9000_usize, 0..9000_usize, any::<bool>()), 0..12)) {
        let file = tempfile::tempfile().unwrap();
        let pattern: Vec<u8> = (0..9000_u32).map(|n| (n % 251 + 1) as u8).collect();
        file.write_all_at(&pattern, 0).unwrap();
        let file = Arc::new(file);
        let (mut image, mut plain) = (Extents::default(), Vec::new());
        for (at, len, bytes) in puts {
            plain.resize(plain.len().max(at + len), 0);
            plain[at..at + len].copy_from_slice(&pattern[..len]);
            if bytes {
                image.put_bytes(at as u64, &pattern[..len]);
            } else {
                image.put_piece(at as u64, len as u64, &span(&file, 0));
            }
        }
        prop_assert_eq!(&all(&image), &plain);
        let mut out = Cursor::new(Vec::new());
        image.copy_to(&mut out).unwrap();
        prop_assert_eq!(out.get_ref(), &plain);
        let mut streamed = Vec::new();
        image.copy_into(&mut streamed).unwrap();
        prop_assert_eq!(&streamed, &plain);
        let written = tempfile::tempfile().unwrap();
        image.write_file(&written).unwrap();
        let mut back = vec![0; plain.len()];
        written.read_exact_at(&mut back, 0).unwrap();
        prop_assert_eq!(&back, &plain);
        let half = image.len() / 2;
        let part = image.slice(half / 2..half).unwrap();
        prop_assert_eq!(&all(&part)[..], &plain[half as usize / 2..half as usize]);
    }
}
