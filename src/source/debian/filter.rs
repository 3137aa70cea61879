//! Which files of a package are kept.
//!
//! Patterns as a shell has them: `*` and `?` stay within a path's component,
//! `**` crosses, `[a-z]` and `[!a-z]` are sets. A pattern that matches a
//! folder takes in all below it.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// What no system needs to run; copyright files stay.
const NEVER: &[&str] = &[
    "usr/share/doc/**",
    "usr/share/man/**",
    "usr/share/info/**",
    "usr/share/locale/**",
    "usr/share/lintian/**",
    "usr/share/bug/**",
    "usr/share/doc-base/**",
    "usr/share/bash-completion/**",
    "usr/share/zsh/vendor-completions/**",
    "usr/share/fish/vendor_completions.d/**",
];
const COPYRIGHT: &str = "usr/share/doc/*/copyright";

/// Which files of a package are kept: those of `keep`, or all where it is
/// empty, without those of `drop` and without documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Patterns of what is kept.
    pub keep: Vec<String>,
    /// Patterns of what is not.
    pub drop: Vec<String>,
}

impl Filter {
    /// Checks that every pattern is one.
    pub fn check(&self) -> Result<()> {
        for pattern in self.keep.iter().chain(&self.drop) {
            let plain = !pattern.is_empty() && !pattern.split('/').any(|part| part == "..");
            ensure!(plain, "expected a pattern like `usr/bin/*`, got `{pattern}`");
        }
        Ok(())
    }

    /// Says whether a path, without a slash at its start, is kept.
    pub fn keeps(&self, path: &[u8]) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| takes_in(pattern, path));
        if any(&self.drop) {
            return false;
        }
        if takes_in(COPYRIGHT, path) || any(&self.keep) {
            return true;
        }
        self.keep.is_empty() && !NEVER.iter().any(|pattern| takes_in(pattern, path))
    }
}

/// Says whether a pattern matches a path or one of its parents.
pub fn takes_in(pattern: &str, path: &[u8]) -> bool {
    let pattern = pattern.trim_matches('/').as_bytes();
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    ends.chain([path.len()]).any(|end| matches(pattern, &path[..end]))
}

/// Matches by going back to the last star: time at worst the product of the
/// lengths for each kind of star.
fn matches(pattern: &[u8], path: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // For `*` and for `**`: where the pattern goes on, and from which byte of
    // the path it was last tried.
    let (mut star, mut deep): (Option<(usize, usize)>, Option<(usize, usize)>) = (None, None);
    loop {
        if pattern[p..].starts_with(b"**") {
            p += 2;
            // `a/**/b` takes in `a/b` as well.
            if pattern.get(p) == Some(&b'/') && (p == 2 || pattern[p - 3] == b'/') {
                p += 1;
            }
            (deep, star) = (Some((p, t)), None);
            continue;
        }
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            star = Some((p, t));
            continue;
        }
        if p == pattern.len() && t == path.len() {
            return true;
        }
        if let Some(next) = path.get(t).and_then(|byte| one(&pattern[p..], *byte)) {
            (p, t) = (p + next, t + 1);
            continue;
        }
        match (star, deep) {
            (Some((after, from)), _) if path.get(from).is_some_and(|byte| *byte != b'/') => {
                star = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            (_, Some((after, from))) if from < path.len() => {
                (deep, star) = (Some((after, from + 1)), None);
                (p, t) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

/// Matches one byte and returns how much of the pattern that took.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern.first()? {
        b'?' => (byte != b'/').then_some(1),
        b'[' => {
            let negated = pattern.get(1) == Some(&b'!');
            let start = if negated { 2 } else { 1 };
            let end = start + 1 + pattern.get(start + 1..)?.iter().position(|b| *b == b']')?;
            let set = &pattern[start..end];
            (in_set(set, byte) != negated && byte != b'/').then_some(end + 1)
        }
        literal => (literal == byte).then_some(1),
    }
}

fn in_set(set: &[u8], byte: u8) -> bool {
    let mut at = 0;
    while at < set.len() {
        if set.get(at + 1) == Some(&b'-') && at + 2 < set.len() {
            if (set[at]..=set[at + 2]).contains(&byte) {
                return true;
            }
            at += 3;
        } else if set[at] == byte {
            return true;
        } else {
            at += 1;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_a_shell_does() {
        for (pattern, path, found) in [
            ("usr/bin/runc", "usr/bin/runc", true),
            ("/usr/bin/", "usr/bin/runc", true),
            ("usr/bin", "usr/bin2", false),
            ("usr/*/runc", "usr/a/b/runc", false),
            ("usr/**/runc", "usr/a/b/runc", true),
            ("usr/**/runc", "usr/runc", true),
            ("**/*.so", "a/b/c.so", true),
            ("**/*.so", "c.so", true),
            ("*.so", "a/c.so", false),
            ("lib*.so.[0-9]*", "libc.so.6", true),
            ("lib*.so.[!0-9]*", "libc.so.6", false),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("**", "x/y", true),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxbxxcd", false),
            ("[", "[", false),
            ("a**b", "a/x/b", true),
        ] {
            assert_eq!(takes_in(pattern, path.as_bytes()), found, "{pattern} {path}");
        }
    }

    #[test]
    fn drops_documentation_but_copyright() {
        let all = Filter::default();
        assert!(all.keeps(b"usr/bin/x") && all.keeps(b"usr/share/doc/x/copyright"));
        assert!(!all.keeps(b"usr/share/doc/x/README") && !all.keeps(b"usr/share/man/man1/x.1.gz"));
        let some = Filter { keep: vec!["usr/bin".into()], drop: vec!["usr/bin/y".into()] };
        assert!(some.keeps(b"usr/bin/x") && !some.keeps(b"usr/bin/y") && !some.keeps(b"etc/x"));
        assert!(some.keeps(b"usr/share/doc/x/copyright"));
    }

    #[test]
    fn takes_no_long_time_over_stars() {
        let pattern = "a*".repeat(30) + "b";
        assert!(!takes_in(&pattern, &[b'a'; 3000]));
    }
}
