//! Version numbers and their order.
//!
//! Follows Debian Policy 4.7, section 5.6.12 "Version": epoch, upstream
//! version, revision; runs of digits compare as numbers, `~` sorts before
//! everything and even before the end.

use std::cmp::Ordering;

/// How a dependency bounds a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// `<<`
    Earlier,
    /// `<=`
    AtMost,
    /// `=`
    Exactly,
    /// `>=`
    AtLeast,
    /// `>>`
    Later,
}

impl Relation {
    /// Reads an operator; `<` and `>` are the old spellings of `<=` and `>=`.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "<<" => Self::Earlier,
            "<=" | "<" => Self::AtMost,
            "=" => Self::Exactly,
            ">=" | ">" => Self::AtLeast,
            ">>" => Self::Later,
            _ => return None,
        })
    }

    /// Returns the operator as a dependency spells it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Earlier => "<<",
            Self::AtMost => "<=",
            Self::Exactly => "=",
            Self::AtLeast => ">=",
            Self::Later => ">>",
        }
    }

    /// Says whether `version` is within `bound`.
    pub fn holds(self, version: &str, bound: &str) -> bool {
        let order = compare(version, bound);
        match self {
            Self::Earlier => order == Ordering::Less,
            Self::AtMost => order != Ordering::Greater,
            Self::Exactly => order == Ordering::Equal,
            Self::AtLeast => order != Ordering::Less,
            Self::Later => order == Ordering::Greater,
        }
    }
}

/// Compares two versions. Any text has its place in the order.
pub fn compare(a: &str, b: &str) -> Ordering {
    let ((epoch_a, up_a, rev_a), (epoch_b, up_b, rev_b)) = (split(a), split(b));
    let epoch = compare_numbers(epoch_a.as_bytes(), epoch_b.as_bytes());
    epoch.then_with(|| compare_part(up_a, up_b)).then_with(|| compare_part(rev_a, rev_b))
}

fn split(version: &str) -> (&str, &str, &str) {
    let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, upstream, revision)
}

/// Compares by turns a run of other characters and a run of digits.
fn compare_part(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while !a.is_empty() || !b.is_empty() {
        let (text_a, rest_a) = run(a, |byte| !byte.is_ascii_digit());
        let (text_b, rest_b) = run(b, |byte| !byte.is_ascii_digit());
        let (digits_a, rest_a) = run(rest_a, u8::is_ascii_digit);
        let (digits_b, rest_b) = run(rest_b, u8::is_ascii_digit);
        let order = compare_text(text_a, text_b).then_with(|| compare_numbers(digits_a, digits_b));
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    Ordering::Equal
}

fn run(bytes: &[u8], belongs: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().position(|byte| !belongs(byte)).unwrap_or(bytes.len()))
}

fn compare_text(a: &[u8], b: &[u8]) -> Ordering {
    // The end sorts after `~` and before all else; letters before the rest.
    let rank = |byte: Option<&u8>| match byte {
        Some(b'~') => -1,
        None => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    };
    let length = a.len().max(b.len());
    let orders = (0..length).map(|at| rank(a.get(at)).cmp(&rank(b.get(at))));
    orders.fold(Ordering::Equal, Ordering::then)
}

fn compare_numbers(a: &[u8], b: &[u8]) -> Ordering {
    let zeros = |digits: &[u8]| digits.iter().take_while(|digit| **digit == b'0').count();
    let (a, b) = (&a[zeros(a)..], &b[zeros(b)..]);
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_as_policy_says() {
        // Each is earlier than the next.
        let rising = [
            "1.0~~",
            "1.0~~a",
            "1.0~",
            "1.0~rc1",
            "1.0",
            "1.0-0.1",
            "1.0-1~bpo",
            "1.0-1",
            "1.0-1+b1",
            "1.0-1.1",
            "1.0-10",
            "1.0a",
            "1.0a1",
            "1.0+git",
            "1.0.1",
            "1.2",
            "1.10",
            "1.10z",
            "1.10.0",
            "2",
            "10",
            "1:0.1",
            "2:0",
        ];
        for (at, earlier) in rising.iter().enumerate() {
            for later in &rising[at + 1..] {
                assert_eq!(compare(earlier, later), Ordering::Less, "{earlier} {later}");
                assert_eq!(compare(later, earlier), Ordering::Greater, "{later} {earlier}");
            }
        }
        for (a, b) in
            [("1.0", "0:1.0"), ("1.0-0", "1.0"), ("1.00", "1.0"), ("01-1", "1-01"), ("", "0")]
        {
            assert_eq!(compare(a, b), Ordering::Equal, "{a} {b}");
        }
    }

    #[test]
    fn agrees_with_dpkg() {
        let versions = ["1.1.15+ds1-2+b4", "1.1.15+ds1-2", "1.7.24~ds1-6", "6.12.9-1", "6.12.10-1"];
        for a in versions {
            for b in versions {
                let ran = std::process::Command::new("dpkg")
                    .args(["--compare-versions", a, "lt", b])
                    .status();
                let Ok(status) = ran else {
                    eprintln!("skipped: dpkg is not installed");
                    return;
                };
                assert_eq!(compare(a, b) == Ordering::Less, status.success(), "{a} {b}");
            }
        }
    }

    #[test]
    fn bounds_versions() {
        for (relation, version, bound, holds) in [
            ("<<", "1", "2", true),
            ("<<", "2", "2", false),
            ("<=", "2", "2", true),
            ("=", "2", "2.0", false),
            (">=", "2.0", "2", true),
            (">>", "2", "2", false),
        ] {
            let relation = Relation::parse(relation).unwrap();
            assert_eq!(relation.holds(version, bound), holds, "{version} {bound}");
        }
        assert_eq!(Relation::parse("=>"), None);
    }
}
