//! The software bill of materials: every package of every image, and where in
//! the tree it stands.
//!
//! Follows SPDX 2.3 (JSON). Made of the statements that images bring along,
//! and of the package databases of Debian and Alpine found in them. Nothing
//! in it depends on clock or chance: its name is a digest of its contents.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::{Assembly, Named, regular};
use crate::oci::Digest;
use crate::tree::{Kind, Tree, join};

/// The largest package database or statement that is read, in bytes.
const TEXT_MAX: u64 = 64 << 20;
/// Where distributions keep one record for each package.
const DATABASES: [(&str, &str); 2] =
    [("var/lib/dpkg/status", "deb/debian"), ("lib/apk/db/installed", "apk/alpine")];
/// Where images without a package manager keep one file for each package.
const STATUS_DIR: &str = "var/lib/dpkg/status.d";
/// When everything that moby generates was made.
const CREATED: &str = "2017-04-18T16:30:00Z";

/// What the bill of materials is to be.
#[derive(Clone, Debug)]
pub struct Sbom {
    /// Its path in the tree.
    pub path: String,
}

/// What one document says.
#[derive(Debug, Default)]
struct Bill {
    /// By identifier, so that a package of several images stands apart.
    packages: BTreeMap<String, Value>,
    files: BTreeMap<String, Value>,
    relationships: Vec<Value>,
}

impl Assembly<'_> {
    /// Adds the bill of materials, if one is asked for.
    pub(super) fn add_sbom(&mut self) -> Result<()> {
        let Some(sbom) = self.inputs.sbom else {
            return Ok(());
        };
        let mut bill = Bill::default();
        for (prefix, named) in &self.inventory {
            bill.add_image(prefix, named, self.inputs.store)
                .with_context(|| format!("listing the packages of {}", named.name))?;
        }
        let text = bill.document()?;
        let path = sbom.path.trim_start_matches('/').to_owned();
        self.add_bytes(&path, text, 0)
    }
}

impl Bill {
    fn add_image(
        &mut self,
        prefix: &str,
        named: &Named,
        store: &crate::store::Store,
    ) -> Result<()> {
        for digest in &named.statements {
            let bytes = store.read(digest, TEXT_MAX)?;
            let statement: Value = serde_json::from_slice(&bytes)
                .with_context(|| format!("reading statement {digest}"))?;
            self.add_statement(prefix, &statement["predicate"]);
        }
        for (path, kind) in DATABASES {
            if let Some((_, database)) = regular(&named.image.tree, path.as_bytes()) {
                self.add_records(prefix, path, kind, &database.gather(TEXT_MAX)?);
            }
        }
        for (path, text) in status_files(&named.image.tree)? {
            self.add_records(prefix, &path, DATABASES[0].1, &text);
        }
        Ok(())
    }

    /// Takes over a document of SPDX, its paths moved below `prefix`.
    fn add_statement(&mut self, prefix: &str, document: &Value) {
        let list = |key: &str| document[key].as_array().cloned().unwrap_or_default();
        for mut package in list("packages") {
            moved(&mut package, "packageFileName", prefix);
            let id = text(&package, "SPDXID");
            self.packages.entry(format!("{id} {prefix}")).or_insert(package);
        }
        for mut file in list("files") {
            moved(&mut file, "fileName", prefix);
            let name = text(&file, "fileName");
            self.files.entry(name).or_insert(file);
        }
        for relationship in list("relationships") {
            if !self.relationships.contains(&relationship) {
                self.relationships.push(relationship);
            }
        }
    }

    /// Adds the packages of a database: fields `Package`/`P` and `Version`/`V`
    /// of records between empty lines.
    fn add_records(&mut self, prefix: &str, path: &str, kind: &str, database: &[u8]) {
        let database = String::from_utf8_lossy(database);
        for record in database.split("\n\n") {
            let field = |names: [&str; 2]| {
                let named = |line: &'_ str| -> Option<String> {
                    let (name, value) = line.split_once(':')?;
                    names.contains(&name).then(|| value.trim().to_owned())
                };
                record.lines().find_map(named)
            };
            let (Some(name), Some(version)) = (field(["Package", "P"]), field(["Version", "V"]))
            else {
                continue;
            };
            self.add_package(prefix, path, kind, &name, &version);
        }
    }

    fn add_package(&mut self, prefix: &str, path: &str, kind: &str, name: &str, version: &str) {
        let seed = format!("{prefix}\0{kind}\0{name}\0{version}");
        let id = format!("SPDXRef-Package-{}-{}", plain(name), Digest::of(seed.as_bytes()).short());
        let package = json!({
            "name": name,
            "SPDXID": id,
            "versionInfo": version,
            "packageFileName": under(prefix, path),
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": false,
            "externalRefs": [{
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": format!("pkg:{kind}/{name}@{version}"),
            }],
        });
        if self.packages.insert(format!("{id} {prefix}"), package).is_none() {
            self.relationships.push(json!({
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relatedSpdxElement": id,
                "relationshipType": "DESCRIBES",
            }));
        }
    }

    fn document(self) -> Result<Vec<u8>> {
        let packages: Vec<Value> = self.packages.into_values().collect();
        let files: Vec<Value> = self.files.into_values().collect();
        let body = json!([packages, files, self.relationships]);
        let digest = Digest::of(body.to_string().as_bytes());
        let mut document = Map::new();
        document.insert("spdxVersion".into(), "SPDX-2.3".into());
        document.insert("dataLicense".into(), "CC0-1.0".into());
        document.insert("SPDXID".into(), "SPDXRef-DOCUMENT".into());
        document.insert("name".into(), "sbom".into());
        document
            .insert("documentNamespace".into(), format!("urn:moby:sbom:{}", digest.hex()).into());
        let tool = concat!("Tool: moby-", env!("CARGO_PKG_VERSION"));
        document.insert("creationInfo".into(), json!({"creators": [tool], "created": CREATED}));
        document.insert("packages".into(), packages.into());
        document.insert("files".into(), files.into());
        document.insert("relationships".into(), self.relationships.into());
        serde_json::to_vec(&document).context("writing the bill of materials")
    }
}

fn status_files(tree: &Tree) -> Result<Vec<(String, Vec<u8>)>> {
    let Some(dir) = tree.lookup(STATUS_DIR.as_bytes()) else {
        return Ok(Vec::new());
    };
    let mut all = Vec::new();
    for (name, entry) in tree.entries(dir).into_iter().flatten() {
        if let Kind::File(content) = &tree.get(entry.id).kind {
            let path = join(STATUS_DIR.as_bytes(), name);
            all.push((String::from_utf8_lossy(&path).into_owned(), content.gather(TEXT_MAX)?));
        }
    }
    Ok(all)
}

fn under(prefix: &str, path: &str) -> String {
    let joined = join(prefix.as_bytes(), path.trim_start_matches('/').as_bytes());
    String::from_utf8_lossy(&joined).into_owned()
}

fn moved(value: &mut Value, key: &str, prefix: &str) {
    if let Some(path) = value[key].as_str().map(|path| under(prefix, path)) {
        value[key] = path.into();
    }
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

/// Identifiers of SPDX have letters, digits, dots and hyphens.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_kinds_of_database() {
        let mut bill = Bill::default();
        bill.add_records(
            "",
            "a",
            "deb/debian",
            b"Package: libc6\nVersion: 2.41-12\n\nPackage: x\n",
        );
        bill.add_records("c/lower", "b", "apk/alpine", b"P:musl\nV:1.2.4\n\n");
        let document: Value = serde_json::from_slice(&bill.document().unwrap()).unwrap();
        let names: Vec<&str> = document["packages"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|p| p["name"].as_str())
            .collect();
        assert_eq!(names, ["libc6", "musl"]);
        assert_eq!(document["packages"][1]["packageFileName"], "c/lower/b");
        assert_eq!(document["relationships"].as_array().unwrap().len(), 2);
    }
}
