//! The packages of one archive's suite, indexed on disk.
//!
//! A `Packages` file is some 50 MB of text; read once as a stream, it becomes
//! records and a table sorted by the hash of each name that a record answers
//! to, its own and those that it provides. A look-up is a binary search in
//! the file: nothing but the answer is ever in memory.
//!
//! On disk: records, each a 32-bit length and postcard; the table, 17 bytes a
//! row (hash, offset, 1 for a provided name); its row count; `MAGIC`.

use std::fs::File;
use std::io::BufRead;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::control::{Paragraph, Paragraphs};
use super::relation::{self, Alternatives, Target, is_name};
use crate::oci::Digest;
use crate::store::Out;

/// Names the format of an index among derived artefacts.
pub const KIND: &str = "debian-index-1";
const MAGIC: &[u8; 8] = b"mobydeb1";
const ROW: u64 = 17;
/// The most packages of a suite, and the longest record.
const PACKAGES_MAX: usize = 1 << 20;
const RECORD_MAX: u32 = 1 << 24;

/// What an archive says of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Pre-Depends, then Depends.
    pub depends: Vec<Alternatives>,
    /// Conflicts and Breaks.
    pub conflicts: Vec<Target>,
    /// Further names, with versions where they have any.
    pub provides: Vec<Target>,
    /// Path of the .deb below the archive.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest.
    pub digest: Digest,
    /// Address of the archive that it was found in.
    #[serde(skip)]
    pub archive: String,
}

impl Package {
    /// Says whether this package satisfies a target, by name or provision.
    pub fn satisfies(&self, target: &Target) -> bool {
        if self.name == target.name && target.accepts(&self.version) {
            return true;
        }
        let named = self.provides.iter().filter(|provided| provided.name == target.name);
        let version = |provided: &Target| provided.bound.as_ref().map(|(_, text)| text.clone());
        named.into_iter().any(|provided| target.accepts_provided(version(provided).as_deref()))
    }

    fn read(fields: &Paragraph) -> Result<Self> {
        let name = fields.need("package")?.to_owned();
        ensure!(is_name(&name), "expected a package name, got `{name}`");
        let list = |field| relation::parse(fields.get(field).unwrap_or_default());
        let flat = |field| Ok::<_, anyhow::Error>(list(field)?.concat());
        let path = fields.need("filename")?.to_owned();
        let plain = !path.starts_with('/') && path.split('/').all(|part| part != "..");
        ensure!(plain, "expected a path below the archive, got `{path}`");
        Ok(Self {
            name,
            version: fields.need("version")?.to_owned(),
            depends: [list("pre-depends")?, list("depends")?].concat(),
            conflicts: [flat("conflicts")?, flat("breaks")?].concat(),
            provides: flat("provides")?,
            path,
            size: fields.need("size")?.parse().context("reading its size")?,
            digest: format!("sha256:{}", fields.need("sha256")?).parse()?,
            archive: String::new(),
        })
    }
}

/// Writes the index of a `Packages` file.
pub fn write(packages: impl BufRead, out: &mut dyn Out) -> Result<()> {
    const WANTED: [&str; 10] = [
        "package",
        "version",
        "pre-depends",
        "depends",
        "conflicts",
        "breaks",
        "provides",
        "filename",
        "size",
        "sha256",
    ];
    let mut reader = Paragraphs::new(packages);
    let (mut rows, mut at, mut count) = (Vec::new(), 0u64, 0);
    while let Some(fields) = reader.next(|name| WANTED.contains(&name))? {
        let name = fields.get("package").unwrap_or("?").to_owned();
        let package = Package::read(&fields).with_context(|| format!("package `{name}`"))?;
        count += 1;
        ensure!(count <= PACKAGES_MAX, "expected at most {PACKAGES_MAX} packages, got more");
        rows.push((hash(&package.name), at, 0));
        let names = package.provides.iter().filter(|provided| provided.name != package.name);
        rows.extend(names.map(|provided| (hash(&provided.name), at, 1)));
        let record = postcard::to_stdvec(&package).context("encoding a package")?;
        let len = u32::try_from(record.len())?;
        ensure!(len <= RECORD_MAX, "package `{name}`: expected fewer words");
        out.write_all(&len.to_le_bytes())?;
        out.write_all(&record)?;
        at += 4 + u64::from(len);
    }
    rows.sort_unstable();
    rows.dedup();
    for (hash, offset, provided) in &rows {
        out.write_all(&hash.to_be_bytes())?;
        out.write_all(&offset.to_be_bytes())?;
        out.write_all(&[*provided])?;
    }
    out.write_all(&(rows.len() as u64).to_be_bytes())?;
    out.write_all(MAGIC)?;
    Ok(())
}

fn hash(name: &str) -> u64 {
    let digest = Digest::of(name.as_bytes());
    u64::from_be_bytes(digest.bytes()[..8].try_into().expect("8 bytes of 32"))
}

/// An index, open.
#[derive(Debug)]
pub struct Index {
    file: File,
    table: u64,
    rows: u64,
}

impl Index {
    /// Opens an index that [`write()`] made.
    pub fn open(file: File) -> Result<Self> {
        let size = file.metadata().context("reading its size")?.len();
        let end = size.checked_sub(16).context("expected an index of packages, got less")?;
        let mut tail = [0; 16];
        file.read_exact_at(&mut tail, end).context("reading its end")?;
        let (rows, magic) = tail.split_at(8);
        ensure!(magic == MAGIC, "expected an index of packages, got something else");
        let rows = u64::from_be_bytes(rows.try_into().expect("8 bytes of 16"));
        let table = rows.checked_mul(ROW).and_then(|length| end.checked_sub(length));
        let table = table.context("expected a table of fewer rows")?;
        Ok(Self { file, table, rows })
    }

    /// Finds the packages of a name, and those that provide it.
    pub fn find(&self, name: &str) -> Result<Vec<Package>> {
        let wanted = hash(name);
        let (mut low, mut high) = (0, self.rows);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.row(middle)?.0 < wanted {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let mut found = Vec::new();
        while low < self.rows {
            let (hash, offset) = self.row(low)?;
            if hash != wanted {
                break;
            }
            let package = self.package(offset)?;
            let provides = package.provides.iter().any(|provided| provided.name == name);
            if package.name == name || provides {
                found.push(package);
            }
            low += 1;
        }
        Ok(found)
    }

    fn row(&self, at: u64) -> Result<(u64, u64)> {
        let mut row = [0; ROW as usize];
        self.file.read_exact_at(&mut row, self.table + at * ROW).context("reading the index")?;
        let number = |range| u64::from_be_bytes(row_part(&row, range));
        Ok((number(0), number(8)))
    }

    fn package(&self, offset: u64) -> Result<Package> {
        let mut len = [0; 4];
        self.file.read_exact_at(&mut len, offset).context("reading the index")?;
        let len = u32::from_le_bytes(len);
        ensure!(len <= RECORD_MAX, "expected a shorter record in the index");
        let mut record = vec![0; len as usize];
        self.file.read_exact_at(&mut record, offset + 4).context("reading the index")?;
        postcard::from_bytes(&record).context("decoding a package of the index")
    }
}

fn row_part(row: &[u8; ROW as usize], from: usize) -> [u8; 8] {
    row[from..from + 8].try_into().expect("8 bytes of 17")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const SAMPLE: &str = "\
Package: a
Version: 1
Depends: b (>= 2), c | d
Pre-Depends: e
Provides: virtual (= 3), other
Filename: pool/a.deb
Size: 5
SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
Description: not kept

Package: a
Version: 2
Filename: pool/a2.deb
Size: 6
SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
";

    fn index(text: &str) -> Result<Index> {
        let mut file = tempfile::tempfile()?;
        write(text.as_bytes(), &mut file)?;
        Index::open(file)
    }

    #[test]
    fn finds_by_name_and_provision() {
        let index = index(SAMPLE).unwrap();
        let versions =
            |name| index.find(name).unwrap().into_iter().map(|p| p.version).collect::<Vec<_>>();
        assert_eq!(versions("a"), ["1", "2"]);
        assert_eq!(versions("virtual"), ["1"]);
        assert_eq!(versions("b"), Vec::<String>::new());
        let package = &index.find("other").unwrap()[0];
        assert_eq!(package.depends[0][0].name, "e");
        assert!(package.satisfies(&Target::exactly("virtual", "3")));
        assert!(!package.satisfies(&Target::exactly("other", "1")));
    }

    #[test]
    fn refuses_what_is_wrong() {
        for bad in [
            SAMPLE.replace("pool/a.deb", "../a.deb"),
            SAMPLE.replace("Package: a", "Package: A/b"),
            SAMPLE.replace("Size: 5", "Size: x"),
            SAMPLE.replace("e3b0", "zzzz"),
        ] {
            assert!(index(&bad).is_err());
        }
        for bytes in [&b""[..], b"short", &[0; 64], &[0xff; 40]] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            assert!(Index::open(file).is_err());
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[[0xff; 8], *MAGIC].concat()).unwrap();
        assert!(Index::open(file).is_err());
    }
}
