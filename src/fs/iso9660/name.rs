//! Identifiers: upper case of up to 31 characters for the standard, UCS-2 of
//! up to 64 units for Joliet; unique in a folder and the same each time.

use std::collections::{BTreeMap, BTreeSet};

/// The most characters of an identifier, without the version.
const PLAIN_LIMIT: usize = 30;
/// The most characters of an extension that is kept apart.
const EXTENSION_LIMIT: usize = 8;
/// The most units of an identifier of Joliet.
const JOLIET_LIMIT: usize = 64;

/// Returns the identifier of each name of a folder, given whether it is a
/// folder itself.
pub(super) fn plain(names: &[(&[u8], bool)]) -> Vec<Vec<u8>> {
    let mut used = Used::default();
    names
        .iter()
        .map(|(name, folder)| {
            let (base, extension) = match name.iter().rposition(|byte| *byte == b'.') {
                Some(dot) if dot > 0 && !folder => (&name[..dot], &name[dot + 1..]),
                _ => (*name, &[][..]),
            };
            let extension = allowed(extension, EXTENSION_LIMIT);
            let room = PLAIN_LIMIT - extension.len();
            let base = allowed(base, room);
            let unique = used.unique(base, &extension, room, &|number| number.into_bytes());
            if *folder { unique } else { [&unique[..], b".", &extension, b";1"].concat() }
        })
        .collect()
}

fn allowed(name: &[u8], most: usize) -> Vec<u8> {
    let upper = name.iter().take(most).map(u8::to_ascii_uppercase);
    upper.map(|byte| if byte.is_ascii_alphanumeric() { byte } else { b'_' }).collect()
}

/// Returns the identifier of each name for Joliet, as bytes.
pub(super) fn joliet(names: &[(&[u8], bool)]) -> Vec<Vec<u8>> {
    let mut used = Used::default();
    names
        .iter()
        .map(|(name, _)| {
            let text = String::from_utf8_lossy(name);
            let units: Vec<u16> = text
                .chars()
                .map(|c| if c < ' ' || "*/:;?\\".contains(c) { '_' } else { c })
                .map(|c| u16::try_from(u32::from(c)).unwrap_or(u16::from(b'_')))
                .take(JOLIET_LIMIT)
                .collect();
            let number = |number: String| number.encode_utf16().collect();
            let unique = used.unique(units, &[], JOLIET_LIMIT, &number);
            unique.into_iter().flat_map(u16::to_be_bytes).collect()
        })
        .collect()
}

/// The identifiers of a folder that are taken.
struct Used<T> {
    taken: BTreeSet<(Vec<T>, Vec<T>)>,
    next: BTreeMap<(Vec<T>, Vec<T>), u32>,
}

impl<T> Default for Used<T> {
    fn default() -> Self {
        Self { taken: BTreeSet::new(), next: BTreeMap::new() }
    }
}

impl<T: Ord + Clone> Used<T> {
    /// Returns `base`, or where it is taken its beginning and a number.
    fn unique(
        &mut self,
        base: Vec<T>,
        extension: &[T],
        room: usize,
        number: &dyn Fn(String) -> Vec<T>,
    ) -> Vec<T> {
        let extension = extension.to_vec();
        if self.taken.insert((base.clone(), extension.clone())) {
            return base;
        }
        // One counter for all that are cut to the same beginning.
        let stem = base[..base.len().min(room.saturating_sub(10))].to_vec();
        let counter = self.next.entry((stem.clone(), extension.clone())).or_insert(0);
        loop {
            let candidate = [stem.clone(), number(format!("_{counter}"))].concat();
            *counter += 1;
            if self.taken.insert((candidate.clone(), extension.clone())) {
                return candidate;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_unique() {
        let long = b"a-very-long-name-of-a-file-that-goes-on-and-on.conf.d";
        let names: &[(&[u8], bool)] = &[
            (b"isolinux.bin", false),
            (b"kernel", false),
            (b"KERNEL", false),
            (b"boot.d", true),
            (long, false),
            (long, false),
        ];
        let texts: Vec<String> =
            plain(names).into_iter().map(|name| String::from_utf8(name).unwrap()).collect();
        assert_eq!(
            texts,
            [
                "ISOLINUX.BIN;1",
                "KERNEL.;1",
                "KERNEL_0.;1",
                "BOOT_D",
                "A_VERY_LONG_NAME_OF_A_FILE_TH.D;1",
                "A_VERY_LONG_NAME_OF_0.D;1"
            ]
        );
        let distinct: BTreeSet<Vec<u8>> = joliet(names).into_iter().collect();
        assert_eq!(distinct.len(), names.len());
    }
}
