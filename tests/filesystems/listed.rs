//! What the guest listed, taken apart.
//!
//! Names hold any bytes, line ends too: a record goes on to the next mark.

use std::collections::BTreeMap;

/// Begins a record.
const MARK: &[u8] = b"\n@@ ";

/// Something that the guest saw, under one of its names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Type and permissions.
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) len: u64,
    pub(crate) mtime: i64,
    pub(crate) device: (u32, u32),
    pub(crate) links: u64,
    pub(crate) inode: u64,
    pub(crate) target: Option<Vec<u8>>,
    /// Hexadecimal digits of its SHA-256.
    pub(crate) contents: Option<String>,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// All that is on a disk, by path from its root.
pub(crate) type List = BTreeMap<Vec<u8>, Seen>;

/// Takes the guest's disk apart: the lists by name, and the kernel's log.
pub(crate) fn parse(bytes: &[u8]) -> (BTreeMap<String, List>, String) {
    let end = find(bytes, b"\n@@ end\n").expect("the list is whole");
    let bytes = [b"\n", &bytes[..end]].concat();
    let mut lists: BTreeMap<String, List> = BTreeMap::new();
    let mut name = String::new();
    let mut log = String::new();
    for record in split(&bytes, MARK) {
        if let Some(rest) = record.strip_prefix(b"disk ") {
            let end = find(rest, b"\n").unwrap_or(rest.len());
            name = String::from_utf8(rest[..end].to_vec()).unwrap();
            // What went wrong stands behind.
            log += &String::from_utf8_lossy(&rest[end..]);
        } else if let Some(rest) = record.strip_prefix(b"log\n") {
            log += &String::from_utf8_lossy(rest);
        } else if !record.is_empty() {
            let list = lists.entry(name.clone()).or_default();
            read(record, list).unwrap_or_else(|| panic!("{name}: {}", record.escape_ascii()));
        }
    }
    (lists, log)
}

fn read(record: &[u8], list: &mut List) -> Option<()> {
    if let Some(rest) = record.strip_prefix(b"contents") {
        return contents(rest, list);
    }
    if let Some(rest) = record.strip_prefix(b"attributes") {
        return attributes(rest, list);
    }
    if let Some(rest) = record.strip_prefix(b"-> ") {
        return target(rest, list);
    }
    let mut words = record.splitn(10, |byte| *byte == b' ');
    let mut word = || words.next().and_then(|word| std::str::from_utf8(word).ok());
    let mut seen = Seen { mode: u32::from_str_radix(word()?, 16).ok()?, ..Seen::default() };
    seen.owner = (word()?.parse().ok()?, word()?.parse().ok()?);
    seen.len = word()?.parse().ok()?;
    seen.mtime = word()?.parse().ok()?;
    let mut hex = || u32::from_str_radix(word()?, 16).ok();
    seen.device = (hex()?, hex()?);
    (seen.links, seen.inode) = (word()?.parse().ok()?, word()?.parse().ok()?);
    list.insert(path(words.next()?).to_vec(), seen);
    Some(())
}

/// The path without the `./` that find begins with.
fn path(found: &[u8]) -> &[u8] {
    if found == b"." { b"" } else { found.strip_prefix(b"./").unwrap_or(found) }
}

/// `'./NAME' -> 'TARGET'`: the names are known by now.
fn target(quoted: &[u8], list: &mut List) -> Option<()> {
    let bare = quoted.strip_prefix(b"'./")?;
    let arrow = b"' -> '";
    for at in (0..bare.len()).filter(|at| bare[*at..].starts_with(arrow)) {
        if let Some(seen) = list.get_mut(&bare[..at]) {
            seen.target = Some(bare[at + arrow.len()..].strip_suffix(b"'")?.to_vec());
            return Some(());
        }
    }
    None
}

/// Lines of `DIGEST  ./NAME`.
fn contents(bytes: &[u8], list: &mut List) -> Option<()> {
    let bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
    let begins = |at: usize| {
        let line = &bytes[at..];
        line.len() > 68
            && line[..64].iter().all(u8::is_ascii_hexdigit)
            && line[64..].starts_with(b"  ./")
    };
    let starts: Vec<usize> =
        (0..bytes.len()).filter(|at| (*at == 0 || bytes[at - 1] == b'\n') && begins(*at)).collect();
    for (nth, start) in starts.iter().enumerate() {
        let end = starts.get(nth + 1).map_or(bytes.len(), |next| next - 1);
        let name = bytes[start + 68..end].to_vec();
        // The last one may have the line's end with it.
        let known = list.contains_key(&name);
        let name = if known { &name[..] } else { name.strip_suffix(b"\n")? };
        let digest = std::str::from_utf8(&bytes[*start..start + 64]).ok()?;
        list.get_mut(name)?.contents = Some(digest.to_owned());
    }
    Some(())
}

/// `# file: NAME` and lines of `ATTRIBUTE=0xHEX` behind it.
fn attributes(bytes: &[u8], list: &mut List) -> Option<()> {
    let mut name = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        if let Some(file) = line.strip_prefix(b"# file: ") {
            name = path(&unescaped(file)).to_vec();
            continue;
        }
        let (attribute, value) = match line.iter().rposition(|byte| *byte == b'=') {
            Some(equals) => (&line[..equals], &line[equals + 1..]),
            None => (line, &b""[..]),
        };
        let value = hex::decode(value.strip_prefix(b"0x").unwrap_or(value)).ok()?;
        list.get_mut(&name)?.xattrs.insert(unescaped(attribute), value);
    }
    Some(())
}

/// Undoes `\ooo`.
fn unescaped(mut text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let [first, rest @ ..] = text {
        let digits = rest.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match escaped.filter(|_| *first == b'\\') {
            Some(byte) => {
                out.push(byte);
                text = &rest[3..];
            }
            None => {
                out.push(*first);
                text = rest;
            }
        }
    }
    out
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn split<'a>(bytes: &'a [u8], by: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    let mut rest = bytes;
    while let Some(at) = find(rest, by) {
        parts.push(&rest[..at]);
        rest = &rest[at + by.len()..];
    }
    parts.push(rest);
    parts
}
