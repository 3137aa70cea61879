//! Paragraphs of fields, as Debian's control files hold them.
//!
//! Reads as a stream, a paragraph at a time. Follows deb822(5) and Debian
//! Policy 4.7, section 5.1: `Name: value`, lines that start with a space go
//! on, an empty line ends a paragraph, `#` starts a comment line.

use std::collections::BTreeMap;
use std::io::{BufRead, Read};

use anyhow::{Context, Result, bail, ensure};

/// The longest line and the longest paragraph, in bytes.
const LINE_MAX: usize = 1 << 20;
const PARAGRAPH_MAX: usize = 16 << 20;

/// One paragraph. Field names are kept in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paragraph {
    fields: BTreeMap<String, String>,
}

impl Paragraph {
    /// Returns a field's value without the spaces at its ends; the lines of a
    /// long one stand one under another.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|value| value.trim())
    }

    /// Returns a field that must be there.
    pub fn need(&self, name: &str) -> Result<&str> {
        self.get(name).with_context(|| format!("expected a field `{name}`, found none"))
    }

    /// Returns the words of a field, none where it is absent.
    pub fn words(&self, name: &str) -> impl Iterator<Item = &str> {
        self.get(name).unwrap_or_default().split_whitespace()
    }
}

/// Reads paragraphs one after another.
#[derive(Debug)]
pub struct Paragraphs<R> {
    from: R,
    line: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Paragraphs<R> {
    /// Starts at the first line of `from`.
    pub fn new(from: R) -> Self {
        Self { from, line: Vec::new(), number: 0 }
    }

    /// Reads the next paragraph, or `None` at the end. `wanted` says which
    /// fields to keep, by their lower-case names.
    pub fn next(&mut self, wanted: impl Fn(&str) -> bool) -> Result<Option<Paragraph>> {
        let mut found = Paragraph::default();
        let (mut seen, mut size) = (false, 0);
        let mut current: Option<String> = None;
        while self.read_line()? {
            let line = String::from_utf8_lossy(&self.line);
            let line = line.trim_end();
            if line.is_empty() {
                if seen {
                    return Ok(Some(found));
                }
                continue;
            }
            if line.starts_with('#') {
                continue;
            }
            size += line.len();
            ensure!(size <= PARAGRAPH_MAX, "line {}: the paragraph is too long", self.number);
            if line.starts_with([' ', '\t']) {
                ensure!(seen, "line {}: expected a field, found its next line", self.number);
                if let Some(value) = current.as_ref().and_then(|name| found.fields.get_mut(name)) {
                    value.push('\n');
                    value.push_str(line.trim_start());
                }
                continue;
            }
            let Some((name, value)) = line.split_once(':') else {
                bail!("line {}: expected `Name: value`", self.number);
            };
            seen = true;
            let name = name.to_ascii_lowercase();
            current = wanted(&name).then(|| name.clone());
            if current.is_some() {
                found.fields.insert(name, value.trim().to_owned());
            }
        }
        Ok(seen.then_some(found))
    }

    fn read_line(&mut self) -> Result<bool> {
        self.line.clear();
        let limit = LINE_MAX as u64 + 1;
        let read = (&mut self.from).take(limit).read_until(b'\n', &mut self.line);
        let length = read.with_context(|| format!("reading line {}", self.number + 1))?;
        self.number += 1;
        ensure!(length <= LINE_MAX, "line {}: longer than {LINE_MAX} bytes", self.number);
        Ok(length > 0)
    }
}

/// Reads all paragraphs of a text, with all fields.
pub fn parse(text: &[u8]) -> Result<Vec<Paragraph>> {
    let mut reader = Paragraphs::new(text);
    let mut all = Vec::new();
    while let Some(paragraph) = reader.next(|_| true)? {
        all.push(paragraph);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_paragraphs() {
        let text =
            b"\n# note\nPackage: a\nDescription: one\n two\n .\n\nPackage:b\nEmpty:\n x y\n\n\n";
        let all = parse(text).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].get("description"), Some("one\ntwo\n."));
        assert_eq!(all[1].get("package"), Some("b"));
        assert_eq!(all[1].words("empty").collect::<Vec<_>>(), ["x", "y"]);
        assert!(all[1].need("version").is_err());
    }

    #[test]
    fn keeps_only_what_is_wanted() {
        let mut reader = Paragraphs::new(&b"A: 1\nB: 2\n 3\nC: 4\n"[..]);
        let found = reader.next(|name| name == "c").unwrap().unwrap();
        assert_eq!((found.get("b"), found.get("c")), (None, Some("4")));
        assert!(reader.next(|_| true).unwrap().is_none());
    }

    #[test]
    fn refuses_what_is_no_paragraph() {
        for bad in [&b" x\n"[..], b"novalue\n", &vec![b'a'; LINE_MAX + 2]] {
            assert!(parse(bad).is_err());
        }
    }
}
