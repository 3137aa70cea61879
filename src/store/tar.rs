//! Reads a tar stream member by member, with the place of each one's bytes.
//!
//! Reads ustar, GNU and PAX (POSIX.1-2017, "pax Interchange Format"). The tar
//! crate's own iteration splits PAX records at line ends and so cannot read
//! file capabilities, whose bytes may well be one; its header type serves.
//! GNU sparse members are told apart by their type and left to the caller.

use std::io::{self, Read};

use anyhow::{Context, Result, bail, ensure};

const BLOCK: usize = 512;
/// The most that the records of one member may take, in bytes.
const RECORDS_MAX: u64 = 1 << 20;

/// A member of an archive.
pub(super) struct Member {
    /// The header of the member itself.
    pub(super) header: ::tar::Header,
    /// The path, wherever the archive keeps it.
    pub(super) path: Vec<u8>,
    /// The target of a link.
    pub(super) target: Vec<u8>,
    /// The PAX records, the later of a key above the former.
    pub(super) records: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where its bytes begin in the stream.
    pub(super) offset: u64,
    /// How many bytes it has.
    pub(super) size: u64,
}

impl Member {
    /// Returns the last PAX record of a key.
    pub(super) fn record(&self, key: &str) -> Option<&[u8]> {
        let found = self.records.iter().rev().find(|(known, _)| known == key.as_bytes());
        found.map(|(_, value)| value.as_slice())
    }

    /// Returns a number out of a PAX record, or else out of the header.
    pub(super) fn number(&self, key: &str, field: io::Result<u64>) -> u64 {
        let record = self.record(key).and_then(|value| std::str::from_utf8(value).ok());
        record.and_then(|text| text.parse().ok()).or(field.ok()).unwrap_or(0)
    }
}

/// Reads members in order.
pub(super) struct Members<'a> {
    stream: &'a mut dyn Read,
    position: u64,
    /// Bytes of the present member, and of its padding, not read yet.
    body: u64,
    padding: u64,
}

impl<'a> Members<'a> {
    pub(super) fn new(stream: &'a mut dyn Read) -> Self {
        Self { stream, position: 0, body: 0, padding: 0 }
    }

    /// Returns the next member. What was not read of the last one is skipped.
    pub(super) fn next(&mut self) -> Result<Option<Member>> {
        let mut records = Vec::new();
        let (mut long_name, mut long_target) = (None, None);
        loop {
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let kind = header.entry_type();
            if kind.is_pax_local_extensions() {
                records.extend(parse_records(&self.gather()?)?);
            } else if kind.is_gnu_longname() {
                long_name = Some(until_nul(self.gather()?));
            } else if kind.is_gnu_longlink() {
                long_target = Some(until_nul(self.gather()?));
            } else if !kind.is_pax_global_extensions() {
                return self.member(header, records, long_name, long_target).map(Some);
            }
        }
    }

    fn member(
        &mut self,
        header: ::tar::Header,
        records: Vec<(Vec<u8>, Vec<u8>)>,
        long_name: Option<Vec<u8>>,
        long_target: Option<Vec<u8>>,
    ) -> Result<Member> {
        let path = long_name.unwrap_or_else(|| header.path_bytes().into_owned());
        let target = header.link_name_bytes().map(|target| target.into_owned());
        let target = long_target.or(target).unwrap_or_default();
        let mut member =
            Member { header, path, target, records, offset: self.position, size: self.body };
        if let Some(path) = member.record("path").map(<[u8]>::to_vec) {
            member.path = path;
        }
        if let Some(target) = member.record("linkpath").map(<[u8]>::to_vec) {
            member.target = target;
        }
        if member.record("size").is_some() {
            member.size = member.number("size", Ok(0));
            self.expect(member.size);
        }
        Ok(member)
    }

    /// Reads the next header; the body that follows is expected.
    fn header(&mut self) -> Result<Option<::tar::Header>> {
        self.skip()?;
        let mut block = [0; BLOCK];
        if !self.fill(&mut block)? || block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let header = ::tar::Header::from_byte_slice(&block).clone();
        let stated = header.cksum().context("expected a tar header, got something else")?;
        ensure!(stated == checksum(&block), "expected a tar header with its checksum, got another");
        let size = header.entry_size().context("reading a member's size")?;
        // Links and nodes have no bytes, whatever size they state.
        let kind = header.entry_type();
        let bare = kind.is_hard_link()
            || kind.is_symlink()
            || kind.is_dir()
            || kind.is_fifo()
            || kind.is_character_special()
            || kind.is_block_special();
        self.expect(if bare { 0 } else { size });
        Ok(Some(header))
    }

    fn expect(&mut self, size: u64) {
        self.body = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    fn fill(&mut self, block: &mut [u8]) -> Result<bool> {
        let mut have = 0;
        while have < block.len() {
            match self.stream.read(&mut block[have..]).context("reading a tar header")? {
                0 if have == 0 => return Ok(false),
                0 => bail!("expected a whole tar header, got {have} bytes"),
                n => have += n,
            }
        }
        self.position += block.len() as u64;
        Ok(true)
    }

    fn skip(&mut self) -> Result<()> {
        io::copy(self, &mut io::sink()).context("reading a member's bytes")?;
        ensure!(
            self.body == 0,
            "expected {} more bytes of a member: the archive is cut",
            self.body
        );
        let mut rest = (&mut *self.stream).take(self.padding);
        // A last member without its padding is all there.
        self.position += io::copy(&mut rest, &mut io::sink()).context("reading padding")?;
        self.padding = 0;
        Ok(())
    }

    fn gather(&mut self) -> Result<Vec<u8>> {
        ensure!(
            self.body <= RECORDS_MAX,
            "expected at most {RECORDS_MAX} bytes of records, got {}",
            self.body
        );
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).context("reading records")?;
        Ok(bytes)
    }
}

/// Reads the present member's bytes.
impl Read for Members<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = usize::try_from(self.body).unwrap_or(usize::MAX).min(buf.len());
        let n = self.stream.read(&mut buf[..n])?;
        self.body -= n as u64;
        self.position += n as u64;
        Ok(n)
    }
}

/// The sum of a header's bytes, its own field counting as blanks.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    sum(&block[..148]) + 8 * u32::from(b' ') + sum(&block[156..])
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

/// Reads records, each `LENGTH KEY=VALUE\n`; the values may be any bytes.
fn parse_records(mut bytes: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let blank = bytes.iter().take(20).position(|byte| *byte == b' ');
        let blank = blank.context("expected the length of a PAX record")?;
        let len = std::str::from_utf8(&bytes[..blank]).ok().and_then(|text| text.parse().ok());
        let len: usize = len.context("expected the length of a PAX record")?;
        ensure!(blank + 2 < len && len <= bytes.len(), "expected a whole PAX record");
        ensure!(bytes[len - 1] == b'\n', "expected a line's end behind a PAX record");
        let record = &bytes[blank + 1..len - 1];
        let equals = record.iter().position(|byte| *byte == b'=');
        let equals = equals.context("expected a key and a value in a PAX record")?;
        records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
        bytes = &bytes[len..];
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_records_of_any_bytes() {
        let records = parse_records(b"9 k=\n=\0x\n13 path=ab/c\n").unwrap();
        assert_eq!(records[0], (b"k".to_vec(), b"\n=\0x".to_vec()));
        assert_eq!(records[1], (b"path".to_vec(), b"ab/c".to_vec()));
        for bad in
            [&b"x"[..], b"5 k=v", b"99 k=v\n", b"0 k=v\n", b"4 k\n", b"6 k=vv\n", b"-1 k=v\n"]
        {
            assert!(parse_records(bad).is_err(), "{bad:?}");
        }
    }
}
