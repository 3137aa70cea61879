//! Where the parts of a volume lie: reserved sectors, two tables, the root
//! folder of FAT12 and FAT16, and the clusters.

use anyhow::{Result, ensure};

use super::{Bits, Options};

/// The cluster sizes that are tried, in bytes.
const CLUSTERS: [u32; 7] = [512, 1024, 2048, 4096, 8192, 16384, 32768];
/// Smaller clusters would let files begin off the sectors of a CD.
const PREFERRED: u32 = 2048;

impl Bits {
    /// Returns the least and the most clusters of the kind.
    pub(super) fn clusters(self) -> (u64, u64) {
        match self {
            Self::Twelve => (1, 4084),
            Self::Sixteen => (4085, 65_524),
            Self::ThirtyTwo => (65_525, 0x0fff_fff4),
        }
    }

    /// Returns the bits of an entry.
    pub(super) fn width(self) -> u64 {
        match self {
            Self::Twelve => 12,
            Self::Sixteen => 16,
            Self::ThirtyTwo => 32,
        }
    }

    /// Returns the entry that ends a chain.
    pub(super) fn end_of_chain(self) -> u32 {
        match self {
            Self::Twelve => 0xfff,
            Self::Sixteen => 0xffff,
            Self::ThirtyTwo => 0x0fff_ffff,
        }
    }
}

/// The layout of a volume, in sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) bits: Bits,
    /// Bytes of a sector.
    pub(super) sector: u32,
    /// Sectors of a cluster.
    pub(super) cluster: u32,
    pub(super) reserved: u32,
    /// Sectors of one of the two tables.
    pub(super) table: u32,
    /// Entries of the root folder of FAT12 and FAT16, else 0.
    pub(super) root: u32,
    pub(super) clusters: u32,
}

impl Geometry {
    /// Returns the first sector of the first cluster.
    pub(super) fn data(&self) -> u64 {
        u64::from(self.reserved) + 2 * u64::from(self.table) + u64::from(self.root_sectors())
    }

    pub(super) fn root_sectors(&self) -> u32 {
        self.root * 32 / self.sector
    }

    /// Returns the number of sectors of the volume.
    pub(super) fn total(&self) -> u64 {
        self.data() + u64::from(self.clusters) * u64::from(self.cluster)
    }

    /// Returns the bytes of a cluster.
    pub(super) fn cluster_bytes(&self) -> u64 {
        u64::from(self.cluster) * u64::from(self.sector)
    }

    /// Returns where a cluster lies in bytes; they are counted from 2.
    pub(super) fn offset(&self, cluster: u32) -> u64 {
        self.data() * u64::from(self.sector) + u64::from(cluster - 2) * self.cluster_bytes()
    }

    /// Lays out `clusters` clusters with the first one on a multiple of its
    /// size.
    fn lay(bits: Bits, sector: u32, cluster: u32, root: u32, clusters: u64) -> Option<Self> {
        let root = if bits == Bits::ThirtyTwo { 0 } else { root };
        let bytes = ((clusters + 2) * bits.width()).div_ceil(8);
        let table = u32::try_from(bytes.div_ceil(u64::from(sector))).ok()?;
        let least = if bits == Bits::ThirtyTwo { 32 } else { 1 };
        let clusters = u32::try_from(clusters).ok()?;
        let mut all = Self { bits, sector, cluster, reserved: least, table, root, clusters };
        let unit = u64::from(cluster);
        all.reserved += (all.data().next_multiple_of(unit) - all.data()) as u32;
        u32::try_from(all.total()).ok().map(|_| all)
    }

    /// Lays out as many clusters as fit into `total` sectors.
    fn fill(bits: Bits, sector: u32, cluster: u32, root: u32, total: u64) -> Option<Self> {
        let (least, most) = bits.clusters();
        let mut clusters = (total / u64::from(cluster)).min(most);
        while clusters >= least {
            let all = Self::lay(bits, sector, cluster, root, clusters)?;
            let over = all.total().saturating_sub(total);
            if over == 0 {
                return Some(all);
            }
            clusters = clusters.checked_sub(over.div_ceil(u64::from(cluster)))?;
        }
        None
    }
}

/// What a volume has to hold.
pub(super) struct Need<'a> {
    /// Entries of the root folder.
    pub(super) root_entries: u64,
    /// Tells the clusters needed: bytes of a cluster, whether the root
    /// folder lies in clusters too.
    pub(super) clusters: &'a dyn Fn(u64, bool) -> u64,
}

/// Chooses the layout, that of the options as far as given; none fits where
/// the files are too large.
pub(super) fn choose(options: &Options, need: &Need<'_>) -> Result<Option<Geometry>> {
    ensure!(
        matches!(options.sector, 512 | 4096),
        "expected sectors of 512 or 4096 bytes for FAT, got {}",
        options.sector
    );
    let kinds = match options.bits {
        Some(bits) => vec![bits],
        None => vec![Bits::Twelve, Bits::Sixteen, Bits::ThirtyTwo],
    };
    let per_sector = u64::from(options.sector / 32);
    let root = need.root_entries.next_multiple_of(per_sector).max(512);
    for bits in kinds {
        let fixed_root = bits != Bits::ThirtyTwo;
        if fixed_root && root > 65_520 {
            continue;
        }
        for cluster in cluster_sizes(bits, options, need) {
            let needed = (need.clusters)(u64::from(cluster), !fixed_root);
            let sectors = cluster / options.sector;
            let (least, most) = bits.clusters();
            let all = match options.size {
                Some(size) => {
                    let total = size / u64::from(options.sector);
                    Geometry::fill(bits, options.sector, sectors, root as u32, total)
                }
                None if needed <= most => {
                    let count = needed.max(least);
                    Geometry::lay(bits, options.sector, sectors, root as u32, count)
                }
                None => None,
            };
            if let Some(all) = all.filter(|all| u64::from(all.clusters) >= needed) {
                return Ok(Some(all));
            }
        }
    }
    Ok(None)
}

/// Returns the sizes of clusters to try, the best first.
fn cluster_sizes(bits: Bits, options: &Options, need: &Need<'_>) -> Vec<u32> {
    let possible = CLUSTERS.into_iter().filter(|size| *size >= options.sector);
    let (small, large): (Vec<u32>, Vec<u32>) = possible.partition(|size| *size < PREFERRED);
    if bits != Bits::ThirtyTwo {
        return large.into_iter().chain(small.into_iter().rev()).collect();
    }
    // The larger, the shorter the table; but 65,525 of them have to be.
    let (least, _) = bits.clusters();
    let bytes = options.size.unwrap_or_else(|| (need.clusters)(4096, true) * 4096);
    let wanted = if bytes > 32 << 30 {
        32768
    } else if bytes > 8 << 30 {
        16384
    } else {
        4096
    };
    let all = large.into_iter().chain(small);
    let mut sizes: Vec<u32> =
        all.filter(|size| *size <= wanted && bytes / u64::from(*size) >= least).collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    if !sizes.contains(&options.sector) {
        sizes.push(options.sector);
    }
    sizes
}
