//! Patterns of module aliases: `*`, `?` and `[a-z]`, as fnmatch(3) without flags.

/// Gives the part by which aliases and modaliases are put together: up to and with the first
/// colon (the bus), the whole where there is none, and nothing where a wildcard comes before.
pub(super) fn key(text: &str) -> &str {
    let wild = text.find(['*', '?', '[']).unwrap_or(text.len());
    match text.find(':') {
        Some(colon) if colon < wild => &text[..=colon],
        _ if wild == text.len() => text,
        _ => "",
    }
}

/// Tells whether `text` matches `pattern` as a whole.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last star did not match: one byte further.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match one(&pattern[p..], text[t]) {
            Step::Star => {
                star = Some((p + 1, t));
                p += 1;
            }
            Step::Took(length) => {
                p += length;
                t += 1;
            }
            Step::No => match star {
                None => return false,
                Some((after, at)) => {
                    star = Some((after, at + 1));
                    p = after;
                    t = at + 1;
                }
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

enum Step {
    Star,
    /// One byte matched; the pattern's item is so long.
    Took(usize),
    No,
}

fn one(pattern: &[u8], byte: u8) -> Step {
    match pattern.first() {
        None => Step::No,
        Some(b'*') => Step::Star,
        Some(b'?') => Step::Took(1),
        Some(b'[') => class(pattern, byte),
        Some(literal) if *literal == byte => Step::Took(1),
        Some(_) => Step::No,
    }
}

fn class(pattern: &[u8], byte: u8) -> Step {
    let Some(end) = pattern.iter().position(|byte| *byte == b']') else { return Step::No };
    let (mut inside, negated) = match &pattern[1..end] {
        [b'!' | b'^', rest @ ..] => (rest, true),
        rest => (rest, false),
    };
    let mut hit = false;
    while let [first, rest @ ..] = inside {
        if let [b'-', last, rest @ ..] = rest {
            hit |= (*first..=*last).contains(&byte);
            inside = rest;
        } else {
            hit |= *first == byte;
            inside = rest;
        }
    }
    if hit == negated { Step::No } else { Step::Took(end + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matching() {
        for (pattern, text, expected) in [
            ("virtio:d00000001v*", "virtio:d00000001v00001AF4", true),
            ("virtio:d00000001v*", "virtio:d00000002v00001AF4", false),
            ("pci:v*d*sv*sd*bc01sc06i01*", "pci:v00008086d2922sv00001AF4sd1100bc01sc06i01", true),
            ("pci:v*d*sv*sd*bc01sc06i01*", "pci:v00008086d2922sv00001AF4sd1100bc01sc06i02", false),
            ("a*b", "aXbXb", true),
            ("a*b", "aXbX", false),
            ("a?c", "abc", true),
            ("a[0-9]c", "a5c", true),
            ("a[0-9]c", "axc", false),
            ("a[!0-9]c", "axc", true),
            ("a[", "a[", false),
            ("", "", true),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn keys() {
        for (text, expected) in [
            ("pci:v1", "pci:"),
            ("fs-overlay", "fs-overlay"),
            ("net-pf-*:x", ""),
            ("of:N*T*", "of:"),
        ] {
            assert_eq!(key(text), expected);
        }
    }
}
