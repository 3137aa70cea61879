//! CRC-32C as ext4 uses it: chained, without the final inversion.
//!
//! Follows RFC 3720, appendix B.4 (polynomial 0x1EDC6F41, reflected), and
//! "ext4 Data Structures and Algorithms", section "Checksums".

const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Eight tables let eight bytes be taken at once.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0u32; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

/// Goes on from `crc` over more bytes.
pub(super) fn crc32c(mut crc: u32, bytes: &[u8]) -> u32 {
    let (eights, rest) = bytes.as_chunks::<8>();
    for eight in eights {
        let [a, b, c, d, e, f, g, h] = *eight;
        let low = crc ^ u32::from_le_bytes([a, b, c, d]);
        let [a, b, c, d] = low.to_le_bytes();
        let tops = [h, g, f, e, d, c, b, a];
        crc = 0;
        for (table, byte) in TABLES.iter().zip(tops) {
            crc ^= table[usize::from(byte)];
        }
    }
    for byte in rest {
        crc = (crc >> 8) ^ TABLES[0][usize::from(crc as u8 ^ byte)];
    }
    crc
}

/// What the checksums of one file system, or of one inode, start from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed(u32);

impl Seed {
    /// Makes the seed of a file system.
    pub(super) fn of_volume(uuid: &[u8; 16]) -> Self {
        Self(crc32c(!0, uuid))
    }

    /// Makes the seed of one inode's own structures.
    pub(super) fn of_inode(self, number: u32, generation: u32) -> Self {
        let crc = crc32c(self.0, &number.to_le_bytes());
        Self(crc32c(crc, &generation.to_le_bytes()))
    }

    /// Sums up parts that follow each other.
    pub(super) fn sum(self, parts: &[&[u8]]) -> u32 {
        parts.iter().fold(self.0, |crc, part| crc32c(crc, part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_standard_check_value() {
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
        // RFC 3720, B.4: 32 bytes of zeros, of ones, and ascending.
        assert_eq!(!crc32c(!0, &[0; 32]), 0x8a91_36aa);
        assert_eq!(!crc32c(!0, &[0xff; 32]), 0x62a8_ab43);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(!crc32c(!0, &ascending), 0x46dd_794e);
    }

    #[test]
    fn chains_at_any_cut() {
        let bytes: Vec<u8> = (0..100).collect();
        for cut in 0..bytes.len() {
            let (a, b) = bytes.split_at(cut);
            assert_eq!(crc32c(crc32c(5, a), b), crc32c(5, &bytes));
        }
    }
}
