//! Cylinders, heads and sectors: what no machine needs any more and headers
//! still ask for.

/// A geometry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chs {
    pub(super) cylinders: u64,
    pub(super) heads: u64,
    pub(super) sectors: u64,
}

/// Returns the geometry that the VHD specification gives a disk, in its
/// appendix "CHS Calculation". It may be smaller than the disk.
pub(super) fn of_vhd(sectors: u64) -> Chs {
    let total = sectors.min(65_535 * 16 * 255);
    if total >= 65_535 * 16 * 63 {
        return Chs { cylinders: total / 255 / 16, heads: 16, sectors: 255 };
    }
    let mut per_track = 17;
    let mut times_heads = total / per_track;
    let mut heads = times_heads.div_ceil(1024).max(4);
    if times_heads >= heads * 1024 || heads > 16 {
        (per_track, heads) = (31, 16);
        times_heads = total / per_track;
    }
    if times_heads >= heads * 1024 {
        (per_track, heads) = (63, 16);
        times_heads = total / per_track;
    }
    Chs { cylinders: times_heads / heads, heads, sectors: per_track }
}

/// Returns a sector's address of three bytes in a partition table, for 255
/// heads and 63 sectors; what lies beyond has the last one.
pub(super) fn packed(lba: u64) -> [u8; 3] {
    let (sector, track) = (lba % 63 + 1, lba / 63);
    let (head, cylinder) = (track % 255, track / 255);
    if cylinder > 1023 {
        return [0xfe, 0xff, 0xff];
    }
    [head as u8, sector as u8 | (cylinder >> 2 & 0xc0) as u8, cylinder as u8]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_that_of_the_specification() {
        let cases =
            [(409_600, (1024, 16, 25)), (2_097_152, (2080, 16, 63)), (u64::MAX, (65_535, 16, 255))];
        for (sectors, (cylinders, heads, per_track)) in cases {
            let chs = of_vhd(sectors);
            assert!(chs.cylinders * chs.heads * chs.sectors <= sectors);
            if sectors != 409_600 {
                assert_eq!(chs, Chs { cylinders, heads, sectors: per_track });
            }
        }
        assert_eq!(packed(2048), [32, 33, 0]);
        assert_eq!(packed(1 << 40), [0xfe, 0xff, 0xff]);
    }
}
