//! A suite's signed table of contents.
//!
//! `InRelease` is a cleartext OpenPGP message (RFC 9580, section 7) of a
//! deb822 paragraph (Debian's repository format, "Release files"). Only text
//! under a good signature is read. Signatures over weak hashes are not good;
//! a key's own expiry is not looked at: an expired key signed in its time.

use std::collections::BTreeMap;
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use pgp::composed::{CleartextSignedMessage, Deserializable, SignedPublicKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::Signature;
use pgp::types::KeyDetails;

use super::apt::Archive;
use super::control::{self, Paragraph};
use crate::error::WithHint;
use crate::oci::{Descriptor, Digest};

/// What a suite consists of.
#[derive(Debug)]
pub(super) struct Release {
    fields: Paragraph,
    /// Digest and size of each file by its path below the suite.
    files: BTreeMap<String, (Digest, u64)>,
}

impl Release {
    /// Reads a signed message.
    pub(super) fn read(message: &[u8], keys: &[SignedPublicKey]) -> Result<Self> {
        let text = verified(message, keys)?;
        let paragraph = control::parse(text.as_bytes())?.into_iter().next();
        let fields = paragraph.context("expected a paragraph, found none")?;
        let mut files = BTreeMap::new();
        for line in fields.get("sha256").unwrap_or_default().lines() {
            let mut words = line.split_whitespace();
            let (Some(hash), Some(size), Some(path)) = (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let digest = format!("sha256:{hash}").parse()?;
            files.insert(path.to_owned(), (digest, size.parse().context("reading a size")?));
        }
        ensure!(!files.is_empty(), "expected SHA256 digests, found none");
        Ok(Self { fields, files })
    }

    /// Checks that this is of a suite, and not too old at `now`, in seconds
    /// since 1970. `None` is no check of time.
    pub(super) fn check(&self, suite: &str, now: Option<i64>) -> Result<()> {
        let names = [self.fields.get("suite"), self.fields.get("codename")];
        // The security archive calls `trixie-security` by the codename `trixie`.
        let of_security = names[0].is_some_and(|name| name.ends_with("-security"));
        let plain = suite.strip_suffix("-security").filter(|_| of_security);
        let matches = names.contains(&Some(suite)) || (plain.is_some() && names[1] == plain);
        let found = names.map(Option::unwrap_or_default).join("` or `");
        ensure!(matches, "expected the suite `{suite}`, found `{found}`");
        let (Some(until), Some(now)) = (self.fields.get("valid-until"), now) else {
            return Ok(());
        };
        let end = seconds(until).with_context(|| format!("expected a date, got `{until}`"))?;
        if end < now {
            return Err(anyhow::anyhow!("the suite `{suite}` was to be replaced by {until}")).hint(
                || {
                    "check this machine's clock and the mirror; MOBY_DEBIAN_EXPIRED=1 takes it \
                     as it is"
                        .to_owned()
                },
            );
        }
        Ok(())
    }

    /// Returns a file below the suite, if it lists that.
    pub(super) fn file(&self, path: &str) -> Option<Descriptor> {
        let (digest, size) = self.files.get(path)?;
        Some(Descriptor::new("application/octet-stream", *digest, *size))
    }

    /// Says whether files are there under their digest too.
    pub(super) fn by_hash(&self) -> bool {
        self.fields.get("acquire-by-hash") == Some("yes")
    }
}

/// Reads all keys that may sign an archive.
pub(super) fn read_keys(archive: &Archive) -> Result<Vec<SignedPublicKey>> {
    let mut keys = Vec::new();
    for path in &archive.keyrings {
        for file in files_of(path)? {
            let bytes = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
            keys.extend(parse_keys(&bytes));
        }
    }
    for text in &archive.keys {
        keys.extend(parse_keys(text.as_bytes()));
    }
    let shown = archive.keyrings.iter().map(|path| path.display().to_string());
    let shown = shown.collect::<Vec<_>>().join(", ");
    ensure_keys(!keys.is_empty(), &shown)?;
    Ok(keys)
}

fn ensure_keys(found: bool, places: &str) -> Result<()> {
    if found {
        return Ok(());
    }
    Err(anyhow::anyhow!("expected OpenPGP keys of Debian's archive, found none in [{places}]"))
        .hint(|| {
            "install debian-archive-keyring, or name a keyring by MOBY_DEBIAN_KEYRING".to_owned()
        })
}

fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let dir = fs::read_dir(path).with_context(|| format!("reading {}", path.display()))?;
    let mut files: Vec<PathBuf> = dir
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|file| file.extension().is_some_and(|e| e == "gpg" || e == "asc" || e == "pgp"))
        .collect();
    files.sort();
    Ok(files)
}

/// Returns the keys of a keyring, armoured or not, that can be read: one
/// strange key must not take away the others.
fn parse_keys(bytes: &[u8]) -> Vec<SignedPublicKey> {
    match SignedPublicKey::from_reader_many_buf(BufReader::new(bytes)) {
        Ok((keys, _)) => keys.filter_map(Result::ok).collect(),
        Err(_) => Vec::new(),
    }
}

/// Returns the text that one of the keys has signed.
fn verified(message: &[u8], keys: &[SignedPublicKey]) -> Result<String> {
    let message = std::str::from_utf8(message).context("expected text, found other bytes")?;
    let (signed, _) = CleartextSignedMessage::from_string(message)
        .context("expected a message with an OpenPGP signature")?;
    let text = signed.signed_text();
    for signature in signed.signatures() {
        if is_strong(signature) && keys.iter().any(|key| signs(key, signature, text.as_bytes())) {
            return Ok(text);
        }
    }
    let signers = signed.signatures().iter().flat_map(Signature::issuer_fingerprint);
    let signers = signers.map(|print| print.to_string()).collect::<Vec<_>>().join(", ");
    let known = keys.iter().map(|key| key.fingerprint().to_string()).collect::<Vec<_>>();
    bail!("no known key made its signature: signed by [{signers}], known [{}]", known.join(", "))
}

fn is_strong(signature: &Signature) -> bool {
    use HashAlgorithm as H;
    matches!(
        signature.hash_alg(),
        Some(H::Sha256 | H::Sha384 | H::Sha512 | H::Sha3_256 | H::Sha3_512)
    )
}

fn signs(key: &SignedPublicKey, signature: &Signature, text: &[u8]) -> bool {
    if signature.verify(&key.primary_key, text).is_ok() {
        return true;
    }
    key.public_subkeys.iter().any(|subkey| {
        let revoked = subkey
            .signatures
            .iter()
            .any(|binding| binding.typ() == Some(pgp::packet::SignatureType::SubkeyRevocation));
        !revoked
            && signature.verify(&subkey.key, text).is_ok()
            && subkey.verify_bindings(&key.primary_key).is_ok()
    })
}

/// Reads a date like `Sat, 21 Nov 2026 09:15:44 UTC` as seconds since 1970.
fn seconds(text: &str) -> Option<i64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, time, "UTC" | "GMT" | "+0000"] = words[..] else {
        return None;
    };
    let month = MONTHS.find(month).filter(|at| month.len() == 3 && at % 3 == 0)? as i64 / 3;
    let (day, year): (i64, i64) = (day.parse().ok()?, year.parse().ok()?);
    let mut clock = time.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let valid = (1..=31).contains(&day) && (1970..10_000).contains(&year);
    let valid = valid && (0..24).contains(&hour) && (0..60).contains(&minute);
    if !valid || !(0..=60).contains(&second) {
        return None;
    }
    // Days of the civil calendar, the year starting in March.
    let (year, month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    Some((days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_dates() {
        for (text, time) in [
            ("Thu, 01 Jan 1970 00:00:00 UTC", Some(0)),
            ("Sat, 21 Nov 2026 09:15:44 UTC", Some(1_795_252_544)),
            ("Thu, 29 Feb 2024 23:59:59 GMT", Some(1_709_251_199)),
            ("Fri, 01 Mar 2024 00:00:00 +0000", Some(1_709_251_200)),
            ("yesterday", None),
            ("Sat, 21 anF 2026 09:15:44 UTC", None),
            ("Sat, 99 Nov 2026 09:15:44 UTC", None),
        ] {
            assert_eq!(seconds(text), time, "{text}");
        }
    }
}
