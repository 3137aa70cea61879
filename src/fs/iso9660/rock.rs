//! Rock Ridge: owners, modes, names, links and nodes, in entries behind each
//! directory record, and in continuation areas where they do not fit there.

use super::SECTOR;
use super::record::{both32, time};
use crate::tree::{Inode, Kind};

/// Size of the entry that leads to a continuation.
const CONTINUE: usize = 28;
/// The longest piece of a name or target in an entry.
const PIECE: usize = 250;

/// What Rock Ridge says of itself, in the root folder.
const IDENTITY: [&[u8]; 3] = [
    b"IEEE_1282",
    b"THE IEEE 1282 PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS",
    b"PLEASE CONTACT THE IEEE STANDARDS DEPARTMENT, PISCATAWAY, NJ, USA FOR THE 1282 SPECIFICATION",
];

/// The entries of a record: those behind it and those elsewhere.
#[derive(Clone, Debug, Default)]
pub(super) struct System {
    inline: Vec<u8>,
    /// Where in the continuation area the rest is: offset and length.
    rest: Option<(u64, usize)>,
}

impl System {
    /// Returns how many bytes stand behind the record.
    pub(super) fn len(&self) -> usize {
        self.inline.len() + if self.rest.is_some() { CONTINUE } else { 0 }
    }

    /// Returns these bytes, given the first sector of the continuation area.
    pub(super) fn encode(&self, area: u32) -> Vec<u8> {
        let mut out = self.inline.clone();
        if let Some((at, len)) = self.rest {
            out.extend_from_slice(&leading_to(area, at, len));
        }
        out
    }
}

/// The continuation area: pieces of which none crosses a sector.
#[derive(Debug, Default)]
pub(super) struct Area {
    bytes: Vec<u8>,
    /// Where entries lead on within the area, to be told its first sector.
    chained: Vec<(usize, u64, usize)>,
}

impl Area {
    /// Returns how many sectors the area has.
    pub(super) fn sectors(&self) -> u64 {
        (self.bytes.len() as u64).div_ceil(SECTOR)
    }

    /// Returns the bytes, given the area's first sector.
    pub(super) fn encode(mut self, area: u32) -> Vec<u8> {
        for (at, to, len) in &self.chained {
            self.bytes[*at..at + CONTINUE].copy_from_slice(&leading_to(area, *to, *len));
        }
        self.bytes
    }

    /// Distributes entries: what fits into `room` bytes stays with the record.
    pub(super) fn distribute(&mut self, entries: Vec<Vec<u8>>, room: usize) -> System {
        let total: usize = entries.iter().map(Vec::len).sum();
        if total <= room {
            return System { inline: entries.concat(), rest: None };
        }
        let mut entries = entries.into_iter().peekable();
        let mut inline = Vec::new();
        let fits = |have: usize, next: &Vec<u8>| have + next.len() + CONTINUE <= room;
        while let Some(entry) = entries.next_if(|entry| fits(inline.len(), entry)) {
            inline.extend(entry);
        }
        let mut pieces: Vec<Vec<u8>> = vec![Vec::new()];
        for entry in entries {
            let last = pieces.last_mut().expect("there is one");
            if last.len() + entry.len() + CONTINUE > SECTOR as usize {
                pieces.push(entry);
            } else {
                last.extend(entry);
            }
        }
        System { inline, rest: Some(self.place(&pieces)) }
    }

    /// Places pieces, each of which leads to the next; returns where the first
    /// one is.
    fn place(&mut self, pieces: &[Vec<u8>]) -> (u64, usize) {
        let mut next: Option<(u64, usize)> = None;
        for piece in pieces.iter().rev() {
            let len = piece.len() + if next.is_some() { CONTINUE } else { 0 };
            let (start, sector) = (self.bytes.len(), SECTOR as usize);
            let start =
                if start % sector + len > sector { start.next_multiple_of(sector) } else { start };
            self.bytes.resize(start, 0);
            self.bytes.extend_from_slice(piece);
            if let Some((to, to_len)) = next {
                self.chained.push((self.bytes.len(), to, to_len));
                self.bytes.resize(start + len, 0);
            }
            next = Some((start as u64, len));
        }
        next.unwrap_or_default()
    }
}

fn leading_to(area: u32, at: u64, len: usize) -> Vec<u8> {
    let sector = area + (at / SECTOR) as u32;
    let offset = (at % SECTOR) as u32;
    let body = [both32(sector), both32(offset), both32(len as u32)].concat();
    entry(b"CE", &body)
}

fn entry(signature: &[u8; 2], body: &[u8]) -> Vec<u8> {
    let mut out = vec![signature[0], signature[1], (body.len() + 4) as u8, 1];
    out.extend_from_slice(body);
    out
}

/// The entries that begin the root folder.
pub(super) fn identity() -> [Vec<u8>; 2] {
    let lens = IDENTITY.map(|text| text.len() as u8);
    let body = [&lens[..], &[1], &IDENTITY.concat()].concat();
    [entry(b"SP", &[0xbe, 0xef, 0]), entry(b"ER", &body)]
}

/// The entries of an inode: under a name, or as `.` or `..` without.
pub(super) fn entries(inode: &Inode, serial: u32, links: u32, name: Option<&[u8]>) -> Vec<Vec<u8>> {
    let meta = &inode.meta;
    let mode = inode.kind.type_bits() | u32::from(meta.mode & 0o7777);
    let px = [mode, links, meta.uid, meta.gid, serial].map(both32).concat();
    let mut out = vec![entry(b"PX", &px)];
    // Only the time of modification.
    out.push(entry(b"TF", &[&[0x02][..], &time(meta.mtime)].concat()));
    let Some(name) = name else { return out };
    match &inode.kind {
        Kind::Char(major, minor) | Kind::Block(major, minor) => {
            out.push(entry(b"PN", &[both32(*major), both32(*minor)].concat()));
        }
        Kind::Symlink(target) => out.extend(link(target)),
        _ => {}
    }
    let mut pieces = name.chunks(PIECE - 1).peekable();
    while let Some(piece) = pieces.next() {
        let more = u8::from(pieces.peek().is_some());
        out.push(entry(b"NM", &[&[more][..], piece].concat()));
    }
    out
}

/// The entries of a symbolic link: its target by components.
fn link(target: &[u8]) -> Vec<Vec<u8>> {
    const ROOT: u8 = 8;
    let mut components: Vec<(u8, &[u8])> = Vec::new();
    let mut rest = target;
    if let Some(below) = target.strip_prefix(b"/") {
        components.push((ROOT, b""));
        rest = below;
    }
    if !rest.is_empty() {
        components.extend(rest.split(|byte| *byte == b'/').map(|name| match name {
            b"." => (2, &b""[..]),
            b".." => (4, &b""[..]),
            name => (0, name),
        }));
    }
    let mut records: Vec<Vec<u8>> = Vec::new();
    for (flags, name) in components {
        let mut pieces = name.chunks(PIECE - 8).peekable();
        if name.is_empty() {
            records.push(vec![flags, 0]);
        }
        while let Some(piece) = pieces.next() {
            let more = u8::from(pieces.peek().is_some());
            records.push([&[flags | more, piece.len() as u8][..], piece].concat());
        }
    }
    let mut bodies: Vec<Vec<u8>> = vec![Vec::new()];
    for record in records {
        let last = bodies.last_mut().expect("there is one");
        if last.len() + record.len() > PIECE {
            bodies.push(record);
        } else {
            last.extend(record);
        }
    }
    let count = bodies.len();
    let with_flag = |(index, body): (usize, Vec<u8>)| {
        let more = u8::from(index + 1 < count);
        entry(b"SL", &[&[more][..], &body].concat())
    };
    bodies.into_iter().enumerate().map(with_flag).collect()
}
