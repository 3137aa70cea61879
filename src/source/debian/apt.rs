//! Where Debian's archives are, as the host's own apt is configured.
//!
//! Reads `sources.list` and `sources.list.d/` (sources.list(5), one-line and
//! deb822 style). The host may run another suite than the one wanted: what
//! counts is the address of an archive that carries Debian's suites, and the
//! keys that sign it. Entries of other makers are passed over.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::control;
use crate::env;
use crate::error::WithHint;

/// Names that suites of Debian go by.
const SUITES: &[&str] = &[
    "stable",
    "oldstable",
    "oldoldstable",
    "testing",
    "unstable",
    "sid",
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
];
/// Where Debian keeps its keys.
const KEYRINGS: &[&str] = &[
    "usr/share/keyrings/debian-archive-keyring.pgp",
    "usr/share/keyrings/debian-archive-keyring.gpg",
    "etc/apt/trusted.gpg.d",
];

/// An archive: where it is and who signs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// Address, without a slash at its end: below it lies `dists/`.
    pub base: String,
    /// Files of OpenPGP keys, or folders of such.
    pub keyrings: Vec<PathBuf>,
    /// Keys that were written into the configuration itself.
    pub keys: Vec<String>,
}

/// Debian's archives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archives {
    /// The archive of all suites.
    pub main: Archive,
    /// The archive of security updates.
    pub security: Option<Archive>,
}

/// What is set for moby itself, above the host's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Override {
    /// Address of the archive.
    pub mirror: Option<String>,
    /// Address of the security archive; absent beside a `mirror`, there is
    /// none.
    pub security: Option<String>,
    /// A file or folder of OpenPGP keys that alone are trusted.
    pub keyring: Option<PathBuf>,
}

impl Override {
    /// Reads `MOBY_DEBIAN_MIRROR`, `MOBY_DEBIAN_SECURITY_MIRROR`,
    /// `MOBY_DEBIAN_KEYRING`.
    pub fn from_env() -> Self {
        Self {
            mirror: env::var("MOBY_DEBIAN_MIRROR"),
            security: env::var("MOBY_DEBIAN_SECURITY_MIRROR"),
            keyring: env::var("MOBY_DEBIAN_KEYRING").map(PathBuf::from),
        }
    }
}

/// Finds Debian's archives in the configuration below `root`, normally `/`.
pub fn find(root: &Path, own: &Override) -> Result<Archives> {
    let standard: Vec<PathBuf> =
        KEYRINGS.iter().map(|path| root.join(path)).filter(|path| path.exists()).collect();
    let archive = |base: &str| Archive {
        base: base.trim_end_matches('/').to_owned(),
        keyrings: own.keyring.clone().map_or_else(|| standard.clone(), |path| vec![path]),
        keys: Vec::new(),
    };
    if let Some(mirror) = &own.mirror {
        let security = own.security.as_deref().map(archive);
        return Ok(Archives { main: archive(mirror), security });
    }
    let entries = read_all(root)?;
    let host = |entry: &Entry, security: bool| {
        let of_debian = |suite: &String| {
            let plain = suite.split(['-', '/']).next().unwrap_or_default();
            let ending = suite.contains("-security") || suite.ends_with("/updates");
            SUITES.contains(&plain) && ending == security
        };
        entry.suites.iter().any(of_debian)
    };
    let complete = |entry: &Entry| {
        let mut found = archive(&entry.base);
        if own.keyring.is_none() {
            found.keyrings.extend(entry.keyrings.iter().cloned());
            found.keys.extend(entry.keys.iter().cloned());
        }
        found
    };
    let main = entries.iter().find(|entry| host(entry, false));
    let main = main
        .with_context(|| {
            let dir = root.join("etc/apt");
            format!("expected an archive of Debian's in {}, found none", dir.display())
        })
        .hint(|| "name one with --debian-mirror ADDRESS or MOBY_DEBIAN_MIRROR".to_owned())?;
    let security = own.security.as_deref().map(archive);
    let security =
        security.or_else(|| entries.iter().find(|entry| host(entry, true)).map(complete));
    Ok(Archives { main: complete(main), security })
}

#[derive(Debug, Default)]
struct Entry {
    base: String,
    suites: Vec<String>,
    keyrings: Vec<PathBuf>,
    keys: Vec<String>,
}

fn read_all(root: &Path) -> Result<Vec<Entry>> {
    let apt = root.join("etc/apt");
    let mut files = vec![apt.join("sources.list")];
    if let Ok(dir) = fs::read_dir(apt.join("sources.list.d")) {
        let mut found: Vec<PathBuf> = dir.filter_map(|entry| Some(entry.ok()?.path())).collect();
        found.sort();
        files.extend(found);
    }
    let mut entries = Vec::new();
    for file in files {
        let ending = file.extension().and_then(|ending| ending.to_str());
        let Ok(text) = fs::read(&file) else {
            continue;
        };
        let read = match ending {
            Some("sources") => read_deb822(&text, root),
            Some("list") => Ok(read_lines(&String::from_utf8_lossy(&text), root)),
            _ => continue,
        };
        entries.extend(read.with_context(|| format!("reading {}", file.display()))?);
    }
    entries.retain(|entry| {
        ["http:", "https:", "file:"].iter().any(|scheme| entry.base.starts_with(scheme))
    });
    Ok(entries)
}

fn read_deb822(text: &[u8], root: &Path) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for paragraph in control::parse(text)? {
        let off = paragraph.get("enabled").is_some_and(|value| value == "no");
        if off || !paragraph.words("types").any(|kind| kind == "deb") {
            continue;
        }
        let signed_by = paragraph.get("signed-by").unwrap_or_default();
        for base in paragraph.words("uris") {
            let mut entry = Entry { base: base.to_owned(), ..Entry::default() };
            entry.suites = paragraph.words("suites").map(str::to_owned).collect();
            if signed_by.contains("BEGIN PGP") {
                // A line of one dot stands for an empty one.
                let lines = signed_by.lines().map(|line| if line == "." { "" } else { line });
                entry.keys.push(lines.collect::<Vec<_>>().join("\n"));
            } else {
                entry.keyrings = paths(signed_by, root);
            }
            entries.push(entry);
        }
    }
    Ok(entries)
}

/// `deb [signed-by=PATH] ADDRESS SUITE COMPONENT …`
fn read_lines(text: &str, root: &Path) -> Vec<Entry> {
    let entry = |line: &str| {
        let rest = line.split('#').next()?.trim().strip_prefix("deb")?;
        let rest = rest.starts_with([' ', '\t']).then(|| rest.trim())?;
        let (options, rest) = match rest.strip_prefix('[') {
            Some(inside) => inside.split_once(']')?,
            None => ("", rest),
        };
        let mut words = rest.split_whitespace();
        let (base, suite) = (words.next()?.to_owned(), words.next()?.to_owned());
        let signed = options.split_whitespace().find_map(|word| word.strip_prefix("signed-by="));
        let keyrings = paths(signed.unwrap_or_default(), root);
        Some(Entry { base, suites: vec![suite], keyrings, keys: Vec::new() })
    };
    text.lines().filter_map(entry).collect()
}

/// Keyrings named by path; fingerprints, which may stand there too, pick from
/// the standard ones and are passed over.
fn paths(text: &str, root: &Path) -> Vec<PathBuf> {
    let words = text.split([',', ' ', '\n']).map(str::trim);
    let absolute = words.filter_map(|word| word.strip_prefix('/'));
    absolute.map(|path| root.join(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("etc/apt/sources.list.d")).unwrap();
        for (name, text) in files {
            fs::write(dir.path().join("etc/apt").join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn reads_both_styles() {
        let lines = "# deb http://no/ bookworm main\ndeb-src http://no/ bookworm main\n\
            deb [arch=amd64 signed-by=/k.gpg] http://a/debian/ bookworm main # note\n\
            deb http://a/security bookworm-security main\n";
        let deb822 = "Types: deb\nURIs: http://a/debian/\nSuites: bookworm bookworm-updates\n\
            Components: main\nSigned-By: /k.gpg\n\n\
            Types: deb-src\nURIs: http://no/\nSuites: bookworm\n\n\
            Types: deb\nEnabled: no\nURIs: http://no/\nSuites: bookworm\n\n\
            Types: deb\nURIs: http://a/security\nSuites: bookworm-security\n";
        let other = "deb https://other/apt other-bookworm main\n";
        for files in [
            [("sources.list", lines), ("sources.list.d/a.list", other)],
            [("sources.list.d/a.list", other), ("sources.list.d/debian.sources", deb822)],
        ] {
            let dir = host(&files);
            let found = find(dir.path(), &Override::default()).unwrap();
            assert_eq!(found.main.base, "http://a/debian");
            assert_eq!(found.main.keyrings, [dir.path().join("k.gpg")]);
            assert_eq!(found.security.unwrap().base, "http://a/security");
        }
    }

    #[test]
    fn prefers_its_own_configuration() {
        let dir = host(&[("sources.list", "deb http://a/debian bookworm main\n")]);
        let own = Override { mirror: Some("http://b/".into()), ..Override::default() };
        let found = find(dir.path(), &own).unwrap();
        assert_eq!((found.main.base.as_str(), found.security), ("http://b", None));
        let error = find(host(&[]).path(), &Override::default()).unwrap_err();
        assert!(crate::error::hint(&error).unwrap().contains("MOBY_DEBIAN_MIRROR"));
    }

    #[test]
    fn reads_keys_that_stand_in_the_entry() {
        let text = "Types: deb\nURIs: http://a\nSuites: stable\nSigned-By:\n \
            -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n -----END PGP PUBLIC KEY BLOCK-----\n";
        let dir = host(&[("sources.list.d/x.sources", text)]);
        let found = find(dir.path(), &Override::default()).unwrap();
        assert!(found.main.keys[0].starts_with("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc"));
    }
}
