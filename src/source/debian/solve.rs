//! Which packages a set of names comes to.
//!
//! Deterministic and simple, as apt is by default: for each dependency, one
//! that is chosen already will do; else the first alternative that can be
//! installed, a package of that name before one that provides it, the highest
//! version before lower ones. A choice that proves impossible is undone.
//! `Recommends` and `Essential` count for nothing.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Result, bail, ensure};

use super::index::Package;
use super::relation::Target;
use super::version;

/// How deep dependencies may go, and how many choices may be tried.
const DEPTH_MAX: usize = 400;
const STEPS_MAX: usize = 50_000;

/// Finds the packages of a name and those that provide it.
pub type Find<'a> = dyn Fn(&str) -> Result<Vec<Package>> + 'a;

/// Returns the packages that `wanted` comes to, each after those it depends
/// on. A dependency on a name of `exclude` counts as met.
pub fn solve(wanted: &[Target], exclude: &[String], find: &Find<'_>) -> Result<Vec<Arc<Package>>> {
    let exclude = exclude.iter().map(String::as_str).collect();
    let mut solver = Solver { find, exclude, known: BTreeMap::new(), steps: 0 };
    let mut chosen = Chosen::default();
    // What was asked for by name is chosen before anything may stand in.
    for target in wanted {
        let mut chain = Vec::new();
        match solver.meet(std::slice::from_ref(target), &mut chosen, &mut chain)? {
            Ok(()) => {}
            Err(problem) => bail!("{problem}"),
        }
    }
    Ok(chosen.order)
}

#[derive(Clone, Default)]
struct Chosen {
    packages: BTreeMap<String, Arc<Package>>,
    /// Dependencies first.
    order: Vec<Arc<Package>>,
}

struct Solver<'a> {
    find: &'a Find<'a>,
    exclude: BTreeSet<&'a str>,
    known: BTreeMap<String, Vec<Arc<Package>>>,
    steps: usize,
}

/// Why something cannot be installed, in one sentence.
type Problem = String;

impl Solver<'_> {
    /// Chooses what meets one dependency. The outer error is one of reading.
    fn meet(
        &mut self,
        group: &[Target],
        chosen: &mut Chosen,
        chain: &mut Vec<String>,
    ) -> Result<Result<(), Problem>> {
        self.steps += 1;
        ensure!(
            self.steps < STEPS_MAX,
            "expected dependencies that can be solved in {STEPS_MAX} steps"
        );
        let met = |target: &Target| chosen.packages.values().any(|have| have.satisfies(target));
        let left_out = |target: &Target| self.exclude.contains(target.name.as_str());
        if group.iter().any(|target| left_out(target) || met(target)) {
            return Ok(Ok(()));
        }
        let mut problems = Vec::new();
        for target in group {
            let candidates = self.candidates(target)?;
            if candidates.is_empty() {
                problems.push(self.missing(target)?);
            }
            for candidate in candidates {
                let before = chosen.clone();
                match self.choose(candidate, chosen, chain)? {
                    Ok(()) => return Ok(Ok(())),
                    Err(problem) => problems.push(problem),
                }
                *chosen = before;
            }
        }
        // The first is of what would have been preferred.
        let problem = problems.into_iter().next().unwrap_or_default();
        Ok(Err(with_chain(&problem, chain)))
    }

    fn choose(
        &mut self,
        package: Arc<Package>,
        chosen: &mut Chosen,
        chain: &mut Vec<String>,
    ) -> Result<Result<(), Problem>> {
        ensure!(chain.len() < DEPTH_MAX, "expected dependencies at most {DEPTH_MAX} deep");
        if let Some(problem) = conflict(&package, chosen) {
            return Ok(Err(problem));
        }
        chosen.packages.insert(package.name.clone(), Arc::clone(&package));
        chain.push(package.name.clone());
        for group in &package.depends {
            if let Err(problem) = self.meet(group, chosen, chain)? {
                chain.pop();
                return Ok(Err(problem));
            }
        }
        chain.pop();
        chosen.order.push(package);
        Ok(Ok(()))
    }

    /// Returns what can meet a target, the preferred first.
    fn candidates(&mut self, target: &Target) -> Result<Vec<Arc<Package>>> {
        let mut found = self.find(&target.name)?.to_vec();
        found.retain(|package| {
            package.satisfies(target) && !self.exclude.contains(package.name.as_str())
        });
        found.sort_by(|a, b| {
            let real = |package: &Package| package.name != target.name;
            let newest = version::compare(&b.version, &a.version);
            real(a).cmp(&real(b)).then_with(|| a.name.cmp(&b.name)).then(newest)
        });
        found.dedup_by(|a, b| a.name == b.name && a.version == b.version);
        Ok(found)
    }

    fn find(&mut self, name: &str) -> Result<&[Arc<Package>]> {
        if !self.known.contains_key(name) {
            let found = (self.find)(name)?.into_iter().map(Arc::new).collect();
            self.known.insert(name.to_owned(), found);
        }
        Ok(&self.known[name])
    }

    fn missing(&mut self, target: &Target) -> Result<Problem> {
        let mut versions: Vec<String> = self
            .find(&target.name)?
            .iter()
            .filter(|package| package.name == target.name)
            .map(|package| package.version.clone())
            .collect();
        versions.sort_by(|a, b| version::compare(b, a));
        versions.dedup();
        Ok(if versions.is_empty() {
            format!("the archive has no package `{target}`")
        } else {
            format!("the archive has no `{target}`, only version {}", versions.join(", "))
        })
    }
}

fn conflict(package: &Package, chosen: &Chosen) -> Option<Problem> {
    let against = |one: &Package, other: &Package| {
        one.name != other.name && one.conflicts.iter().any(|target| other.satisfies(target))
    };
    chosen.packages.values().find_map(|have| {
        if have.name == package.name
            && version::compare(&have.version, &package.version) != Ordering::Equal
        {
            let (a, b) = (&have.version, &package.version);
            return Some(format!("`{}` is wanted in versions {a} and {b}", have.name));
        }
        let clash = against(package, have) || against(have, package);
        clash.then(|| format!("`{}` conflicts with `{}`", package.name, have.name))
    })
}

fn with_chain(problem: &str, chain: &[String]) -> Problem {
    if chain.is_empty() || problem.contains("needed by") {
        return problem.to_owned();
    }
    format!("{problem}, needed by {}", chain.join(" -> "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;
    use crate::source::debian::relation;

    /// Packages from lines `name version; depends; conflicts; provides`.
    fn archive(text: &str) -> Vec<Package> {
        let line = |line: &str| {
            let mut parts = line.split(';').map(str::trim);
            let (name, version) = parts.next().unwrap().split_once(' ').unwrap();
            let mut list = || relation::parse(parts.next().unwrap_or("")).unwrap();
            Package {
                name: name.into(),
                version: version.into(),
                depends: list(),
                conflicts: list().concat(),
                provides: list().concat(),
                path: String::new(),
                size: 0,
                digest: Digest::of(b""),
                archive: String::new(),
            }
        };
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(line).collect()
    }

    fn run(text: &str, wanted: &str, exclude: &[&str]) -> Result<String> {
        let all = archive(text);
        let find = |name: &str| {
            let named = |p: &&Package| {
                p.name == name || p.provides.iter().any(|provided| provided.name == name)
            };
            Ok(all.iter().filter(named).cloned().collect())
        };
        let wanted = relation::parse(wanted)?.concat();
        let exclude: Vec<String> = exclude.iter().map(|name| (*name).to_owned()).collect();
        let solved = solve(&wanted, &exclude, &find)?;
        let show = |p: &Arc<Package>| format!("{}={}", p.name, p.version);
        Ok(solved.iter().map(show).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn solves() {
        for (archive, wanted, exclude, expected) in [
            ("a 1; b\n b 1", "a", &[][..], "b=1 a=1"),
            ("a 1; b\n b 1; a", "a", &[], "b=1 a=1"),
            ("a 1\n a 2~rc1\n a 1.9", "a", &[], "a=2~rc1"),
            ("a 1\n a 2", "a (= 1)", &[], "a=1"),
            ("a 1; b | c\n c 1", "a", &[], "c=1 a=1"),
            ("a 1; b | c\n b 1; gone\n c 1", "a", &[], "c=1 a=1"),
            ("a 1; b | c\n b 1\n c 1", "c, a", &[], "c=1 a=1"),
            ("a 1; mail\n z 1;;; mail\n y 1;;; mail", "a", &[], "y=1 a=1"),
            ("a 1; mail\n mail 1\n b 1;;; mail", "a", &[], "mail=1 a=1"),
            ("a 1; v (>= 2)\n b 1;;; v\n c 1;;; v (= 2)", "a", &[], "c=1 a=1"),
            ("a 1; b, c\n b 1", "a", &["c"], "b=1 a=1"),
            ("a 1; b\n b 2; x\n b 1", "a", &[], "b=1 a=1"),
            ("a 1; v\n v 1; gone\n c 1;;; v", "a", &[], "c=1 a=1"),
            ("a 1; v\n b 1;; v; v", "a", &[], "b=1 a=1"),
            ("a 1; b | c\n b 1;; a\n c 1", "a", &[], "c=1 a=1"),
        ] {
            assert_eq!(run(archive, wanted, exclude).unwrap(), expected, "{archive}");
        }
    }

    #[test]
    fn tells_what_is_missing_and_for_whom() {
        for (archive, wanted, expected) in [
            ("", "a", "the archive has no package `a`"),
            ("a 1", "a (>= 2)", "the archive has no `a (>= 2)`, only version 1"),
            (
                "a 1; b\n b 1; c | d\n d 1; e",
                "a",
                "the archive has no package `c`, needed by a -> b",
            ),
            ("a 1; b, c\n b 1\n c 1;; b", "a", "`c` conflicts with `b`, needed by a"),
            ("a 1\n a 2", "a (= 1), a (= 2)", "`a` is wanted in versions 1 and 2"),
        ] {
            assert_eq!(run(archive, wanted, &[]).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn gives_up_in_bounded_time() {
        let deep: String = (0..1000).map(|n| format!("p{n} 1; p{}\n", n + 1)).collect();
        assert!(run(&deep, "p0", &[]).unwrap_err().to_string().contains("deep"));
        // Each level doubles the choices, and none works.
        let wide: String =
            (0..40).map(|n| format!("a{n} 1; a{0} | b{0}\nb{n} 1; a{0} | b{0}\n", n + 1)).collect();
        assert!(run(&wide, "a0", &[]).is_err());
    }
}
