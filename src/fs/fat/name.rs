//! Names: each has a short alias of 8 and 3 characters and, unless it is
//! that already, a long name in UTF-16.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};

/// A short name: 8 characters and 3, padded with spaces.
pub(super) type Short = [u8; 11];

/// The characters that a short name may have besides letters and digits.
const SHORT_SIGNS: &[u8] = b"$%'-_@~`!(){}^#&";
/// The characters that no name may have.
const FORBIDDEN: &str = "\"*/:<>?\\|";

/// A name as a folder holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) short: Short,
    /// UTF-16 units, empty where the short name says it all.
    pub(super) long: Vec<u16>,
}

impl Name {
    /// Returns the number of records of 32 bytes.
    pub(super) fn records(&self) -> usize {
        1 + self.long.len().div_ceil(13)
    }
}

/// Gives every name of a folder its alias, the same ones each time.
pub(super) fn assign(names: &[&[u8]]) -> Result<Vec<Name>> {
    let mut used: BTreeSet<Short> = BTreeSet::new();
    let mut folded: BTreeMap<String, &[u8]> = BTreeMap::new();
    for name in names {
        let text = check(name)?;
        if let Some(other) = folded.insert(text.to_lowercase(), name) {
            anyhow::bail!(
                "FAT cannot hold both `{}` and `{text}`: it does not tell capitals from small letters",
                String::from_utf8_lossy(other)
            );
        }
        used.extend(exact(name));
    }
    let mut next: BTreeMap<Short, u32> = BTreeMap::new();
    let mut assigned = Vec::with_capacity(names.len());
    for name in names {
        if let Some(short) = exact(name) {
            assigned.push(Name { short, long: Vec::new() });
            continue;
        }
        let text = check(name)?;
        // In capitals it may be short enough to need no number.
        let capitals = exact(text.to_ascii_uppercase().as_bytes());
        let short = match capitals.filter(|short| used.insert(*short)) {
            Some(short) => short,
            None => alias(text, &mut used, &mut next)?,
        };
        assigned.push(Name { short, long: text.encode_utf16().collect() });
    }
    Ok(assigned)
}

/// Checks that FAT can hold a name and returns it as text.
fn check(name: &[u8]) -> Result<&str> {
    let shown = String::from_utf8_lossy(name);
    let Ok(text) = std::str::from_utf8(name) else {
        anyhow::bail!("FAT cannot hold `{shown}`: the name is not UTF-8");
    };
    let bad = text.chars().find(|c| *c < ' ' || *c == '\x7f' || FORBIDDEN.contains(*c));
    if let Some(bad) = bad {
        anyhow::bail!("FAT cannot hold `{shown}`: the name has {bad:?}");
    }
    ensure!(
        !text.ends_with(['.', ' ']),
        "FAT cannot hold `{shown}`: the name ends in a dot or a space"
    );
    let units = text.encode_utf16().count();
    ensure!(units <= 255, "FAT cannot hold `{shown}`: the name has {units} of at most 255 units");
    Ok(text)
}

/// Returns the short name that is the very name, if there is one.
fn exact(name: &[u8]) -> Option<Short> {
    let (base, extension) = match name.iter().position(|b| *b == b'.') {
        Some(dot) => (&name[..dot], &name[dot + 1..]),
        None => (name, &[][..]),
    };
    let plain = |part: &[u8]| part.iter().all(|b| is_short(*b));
    let dotted = name.contains(&b'.');
    let fits = (1..=8).contains(&base.len()) && extension.len() <= 3;
    if !fits || !plain(base) || !plain(extension) || (dotted && extension.is_empty()) {
        return None;
    }
    Some(padded(base, extension))
}

fn is_short(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || SHORT_SIGNS.contains(&byte)
}

fn padded(base: &[u8], extension: &[u8]) -> Short {
    let mut short = [b' '; 11];
    short[..base.len()].copy_from_slice(base);
    short[8..8 + extension.len()].copy_from_slice(extension);
    short
}

/// Makes `LONGNA~1.EXT`, with the next number that is free.
fn alias(text: &str, used: &mut BTreeSet<Short>, next: &mut BTreeMap<Short, u32>) -> Result<Short> {
    let trimmed = text.trim_start_matches(['.', ' ']);
    let (base, extension) = match trimmed.rfind('.') {
        Some(dot) if dot > 0 => (&trimmed[..dot], &trimmed[dot + 1..]),
        _ => (trimmed, ""),
    };
    let mut base = plain(base, 6);
    let extension = plain(extension, 3);
    if base.is_empty() {
        base.push(b'_');
    }
    let stem = padded(&base, &extension);
    let number = next.entry(stem).or_insert(1);
    loop {
        let tail = format!("~{number}");
        ensure!(tail.len() <= 8, "expected fewer than 10,000,000 names like `{text}` in a folder");
        let keep = base.len().min(8 - tail.len());
        let short = padded(&[&base[..keep], tail.as_bytes()].concat(), &extension);
        *number += 1;
        if used.insert(short) {
            return Ok(short);
        }
    }
}

/// Returns up to `most` characters that a short name may have.
fn plain(text: &str, most: usize) -> Vec<u8> {
    let wanted = text.chars().filter(|c| !matches!(c, ' ' | '.'));
    let bytes = wanted.map(|c| {
        let upper = c.to_ascii_uppercase();
        u8::try_from(upper).ok().filter(|b| is_short(*b)).unwrap_or(b'_')
    });
    bytes.take(most).collect()
}

/// Returns the checksum that ties long names to their alias.
pub(super) fn checksum(short: &Short) -> u8 {
    short.iter().fold(0, |sum: u8, byte| sum.rotate_right(1).wrapping_add(*byte))
}

/// Returns the name that a short one stands for.
pub(super) fn spoken(short: &Short) -> Vec<u8> {
    let trim = |part: &[u8]| part.trim_ascii_end().to_vec();
    let (base, extension) = (trim(&short[..8]), trim(&short[8..]));
    if extension.is_empty() { base } else { [base, extension].join(&b'.') }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shorts(names: &[&str]) -> Vec<String> {
        let names: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
        let assigned = assign(&names).unwrap();
        assigned.iter().map(|name| String::from_utf8(spoken(&name.short)).unwrap()).collect()
    }

    #[test]
    fn makes_aliases() {
        let names = [
            "BOOTX64.EFI",
            "a long name.txt",
            "a long nape.text",
            ".config",
            "é.ß",
            "LONGNA~1.TXT",
            "ALONGN~1.TXT",
            "ldlinux.sys",
        ];
        let wanted = [
            "BOOTX64.EFI",
            "ALONGN~2.TXT",
            "ALONGN~1.TEX",
            "CONFIG~1",
            "_~1._",
            "LONGNA~1.TXT",
            "ALONGN~1.TXT",
            "LDLINUX.SYS",
        ];
        // The alias that is some other file's very name is left to that one.
        assert_eq!(shorts(&names)[1..], wanted[1..]);
    }

    #[test]
    fn numbers_many_of_one_stem() {
        let names: Vec<String> = (0..20_000).map(|n| format!("module-{n}.ko")).collect();
        let names: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
        let assigned = assign(&names).unwrap();
        let distinct: BTreeSet<Short> = assigned.iter().map(|name| name.short).collect();
        assert_eq!(distinct.len(), names.len());
        // The first ten are short enough in capitals.
        assert_eq!(spoken(&assigned[9].short), b"MODULE-9.KO");
        assert_eq!(spoken(&assigned[19_999].short), b"MO~19990.KO");
    }

    #[test]
    fn refuses_what_fat_cannot_hold() {
        for bad in [&b"a:b"[..], b"a\xff", b"dot.", b"line\n", b"sp ", "é".repeat(256).as_bytes()]
        {
            assert!(assign(&[bad]).is_err(), "{bad:?}");
        }
        assert!(assign(&[b"readme", b"README"]).is_err());
    }
}
