//! Fuzzes the index of a tar layer: the first bytes of any image that are read.

/// Reads an input.
pub(crate) fn run(data: &[u8]) {
    let mut rest = data;
    let Ok(entries) = moby::store::read_entries(&mut rest) else { return };
    for entry in entries {
        if let moby::store::EntryKind::File { offset, len, .. } = entry.kind {
            let end = offset.checked_add(len).expect("a file ends within 2^64 bytes");
            assert!(end <= data.len() as u64, "a file of bytes {offset}..{end} of {}", data.len());
        }
    }
}
