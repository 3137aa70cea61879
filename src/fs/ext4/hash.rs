//! The hash that orders names in a directory: half MD4, unsigned bytes.
//!
//! Three rounds of MD4 (RFC 1320) of eight steps each instead of sixteen,
//! over pieces of 32 bytes, padded with the name's length.

const ROUND_2: u32 = 0x5a82_7999;
const ROUND_3: u32 = 0x6ed9_eba1;
/// The largest hash marks the end of a directory and is never a name's.
const END: u32 = 0xffff_fffe;

/// A name's place in a hashed directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hash {
    /// What the index compares; its lowest bit is 0.
    pub(super) major: u32,
    /// Orders names of one `major`.
    pub(super) minor: u32,
}

/// Hashes a name.
pub(super) fn half_md4(name: &[u8], seed: &[u8; 16]) -> Hash {
    let (words, _) = seed.as_chunks::<4>();
    let mut state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    if seed != &[0; 16] {
        for (word, bytes) in state.iter_mut().zip(words) {
            *word = u32::from_le_bytes(*bytes);
        }
    }
    let mut rest = name;
    while !rest.is_empty() {
        transform(&mut state, &piece(rest));
        rest = &rest[rest.len().min(32)..];
    }
    let major = state[1] & !1;
    Hash { major: if major == END { END - 2 } else { major }, minor: state[2] }
}

/// The next 32 bytes as words, big-endian, padded with the length of all
/// that is left.
fn piece(rest: &[u8]) -> [u32; 8] {
    let len = rest.len() as u32;
    let pad = len | len << 8;
    let pad = pad | pad << 16;
    let mut words = [pad; 8];
    for (word, bytes) in words.iter_mut().zip(rest[..rest.len().min(32)].chunks(4)) {
        *word = bytes.iter().fold(pad, |word, byte| (word << 8).wrapping_add(u32::from(*byte)));
    }
    words
}

type Mix = fn(u32, u32, u32) -> u32;

fn transform(state: &mut [u32; 4], words: &[u32; 8]) {
    let choose: Mix = |x, y, z| z ^ (x & (y ^ z));
    let majority: Mix = |x, y, z| (x & y).wrapping_add((x ^ y) & z);
    let parity: Mix = |x, y, z| x ^ y ^ z;
    let rounds: [(Mix, u32, [usize; 8], [u32; 4]); 3] = [
        (choose, 0, [0, 1, 2, 3, 4, 5, 6, 7], [3, 7, 11, 19]),
        (majority, ROUND_2, [1, 3, 5, 7, 0, 2, 4, 6], [3, 5, 9, 13]),
        (parity, ROUND_3, [3, 7, 2, 6, 1, 5, 0, 4], [3, 9, 11, 15]),
    ];
    let [mut a, mut b, mut c, mut d] = *state;
    for (mix, constant, order, shifts) in rounds {
        for (step, index) in order.into_iter().enumerate() {
            let sum = a.wrapping_add(mix(b, c, d)).wrapping_add(words[index]);
            let turned = sum.wrapping_add(constant).rotate_left(shifts[step % 4]);
            // The four registers change places at each step.
            (a, b, c, d) = (d, turned, b, c);
        }
    }
    for (word, add) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(add);
    }
}
