//! Lays out a disk without compression: header, tables, then the clusters
//! that are no holes, in order.

use std::collections::BTreeMap;

use anyhow::Result;

use super::{CLUSTER, COPIED, COUNTS, ENTRIES, Header, l1_entries, refcount_clusters, table};
use crate::disk::{Extents, squeeze};

pub(super) fn plan(raw: &Extents) -> Result<Extents> {
    let l1 = l1_entries(raw.len())?;
    let l1_clusters = (l1 * 8).div_ceil(CLUSTER).max(1);
    let data = squeeze::data_units(raw, CLUSTER);
    // Which L2 tables there are, with their data clusters.
    let mut l2: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for cluster in &data {
        l2.entry(cluster / ENTRIES).or_default().push(*cluster);
    }
    let others = 1 + l1_clusters + l2.len() as u64 + data.len() as u64;
    let (blocks, tables) = refcount_clusters(others);
    let refcounts_at = (1 + l1_clusters) * CLUSTER;
    let l2_first = 1 + l1_clusters + tables + blocks;
    let header = Header {
        len: raw.len(),
        l1_entries: l1,
        l1_at: CLUSTER,
        refcounts_at,
        refcount_clusters: tables,
        zstd: false,
    };
    let mut image = Extents::zeros((others + tables + blocks) * CLUSTER);
    image.put_bytes(0, header.encode());
    let first_block = refcounts_at + tables * CLUSTER;
    image.put_bytes(refcounts_at, table((0..blocks).map(|block| first_block + block * CLUSTER)));
    image.put_bytes(first_block, ones(others + tables + blocks));
    let mut l1_table = vec![0; l1 as usize];
    let mut next = l2_first + l2.len() as u64;
    for ((index, clusters), at) in l2.iter().zip(l2_first..) {
        l1_table[*index as usize] = (at * CLUSTER) | COPIED;
        let mut entries = vec![0; ENTRIES as usize];
        for cluster in clusters {
            entries[(cluster % ENTRIES) as usize] = (next * CLUSTER) | COPIED;
            let from = cluster * CLUSTER;
            image.put(next * CLUSTER, &raw.slice(from..(from + CLUSTER).min(raw.len()))?);
            next += 1;
        }
        image.put_bytes(at * CLUSTER, table(entries));
    }
    image.put_bytes(CLUSTER, table(l1_table));
    Ok(image)
}

/// Makes the refcount blocks of so many clusters, each used once.
fn ones(clusters: u64) -> Vec<u8> {
    let mut out = [0, 1].repeat(clusters as usize);
    out.resize(out.len().next_multiple_of(2 * COUNTS as usize), 0);
    out
}
