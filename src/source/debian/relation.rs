//! What packages say of one another: dependencies, conflicts, provisions.
//!
//! Follows Debian Policy 4.7, chapter 7: `a (>= 1) | b, c:any`. Restrictions
//! by architecture and profile (`[amd64]`, `<!nocheck>`) belong to source
//! packages and are refused.

use std::fmt;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::version::Relation;

/// One package that is asked for, with a bound on its version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Name of the package, or of what packages provide.
    pub name: String,
    /// Operator and version, `>=` and `1.2`.
    pub bound: Option<(String, String)>,
}

impl Target {
    /// Asks for a package in any version.
    pub fn any(name: &str) -> Self {
        Self { name: name.into(), bound: None }
    }

    /// Asks for a package in one version.
    pub fn exactly(name: &str, version: &str) -> Self {
        Self { name: name.into(), bound: Some(("=".into(), version.into())) }
    }

    /// Says whether a version of that name will do.
    pub fn accepts(&self, version: &str) -> bool {
        match &self.bound {
            None => true,
            Some((operator, bound)) => {
                Relation::parse(operator).is_some_and(|relation| relation.holds(version, bound))
            }
        }
    }

    /// Says whether a provision `name (= version)` will do. One without a
    /// version satisfies no bound.
    pub fn accepts_provided(&self, version: Option<&str>) -> bool {
        match (&self.bound, version) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(_), Some(version)) => self.accepts(version),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.bound {
            None => f.write_str(&self.name),
            Some((operator, version)) => write!(f, "{} ({operator} {version})", self.name),
        }
    }
}

/// Targets of which any one will do, the first being preferred.
pub type Alternatives = Vec<Target>;

/// Reads a comma-separated list, each entry with its alternatives.
pub fn parse(text: &str) -> Result<Vec<Alternatives>> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    entries.map(|entry| entry.split('|').map(parse_target).collect()).collect()
}

fn parse_target(text: &str) -> Result<Target> {
    let text = text.trim();
    let (name, bound) = match text.split_once('(') {
        None => (text, None),
        Some((name, rest)) => {
            let inside = rest.trim_end().strip_suffix(')').unwrap_or_default().trim();
            let end = inside.find(|c: char| !"<>=".contains(c)).unwrap_or(inside.len());
            let (operator, version) = inside.split_at(end);
            let known = Relation::parse(operator);
            ensure!(
                known.is_some() && !version.trim().is_empty(),
                "expected a bound like `(>= 1.0)` in `{text}`"
            );
            let operator = known.map_or("=", Relation::text);
            (name.trim(), Some((operator.to_owned(), version.trim().to_owned())))
        }
    };
    // Which architecture's package it is makes no difference to a set of one.
    let name = name.split(':').next().unwrap_or_default();
    ensure!(is_name(name), "expected a package name in `{text}`");
    Ok(Target { name: name.into(), bound })
}

/// Says whether a text can be the name of a package: it becomes a part of
/// paths and addresses.
pub fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-._".contains(&b);
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    first && text.len() <= 200 && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_dependencies() {
        let read = parse("libc6 (>= 2.38), a | b:any (<< 2~), c:native (= 1),").unwrap();
        let printed: Vec<Vec<String>> =
            read.iter().map(|group| group.iter().map(ToString::to_string).collect()).collect();
        assert_eq!(printed, [vec!["libc6 (>= 2.38)"], vec!["a", "b (<< 2~)"], vec!["c (= 1)"]]);
        assert_eq!(parse("").unwrap(), Vec::<Alternatives>::new());
        for bad in ["a (1)", "a (>= )", "A b", "../x", "a [amd64]", "| a"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn accepts_versions_and_provisions() {
        let target = &parse("a (>= 2)").unwrap()[0][0];
        assert!(target.accepts("2") && !target.accepts("1"));
        assert!(target.accepts_provided(Some("3")) && !target.accepts_provided(None));
        assert!(Target::any("a").accepts_provided(None));
    }
}
