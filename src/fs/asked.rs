//! Compressions as people ask for them: `NAME`, or `NAME:LEVEL`.

use std::ops::RangeInclusive;

use anyhow::{Context, Result, bail};

/// A compressor that can be asked for.
#[derive(Clone, Debug)]
pub struct Compressor {
    name: &'static str,
    /// Its levels, and the one that it has where none is asked for.
    levels: Option<(RangeInclusive<i32>, i32)>,
}

impl Compressor {
    /// Describes one without levels.
    pub const fn plain(name: &'static str) -> Self {
        Self { name, levels: None }
    }

    /// Describes one with levels, and the one that it has where none is asked
    /// for.
    pub const fn graded(name: &'static str, levels: RangeInclusive<i32>, usual: i32) -> Self {
        Self { name, levels: Some((levels, usual)) }
    }
}

/// Reads `NAME` or `NAME:LEVEL` as one of some compressors: its name, and its
/// level, which is 0 for one without levels.
pub fn read(text: &str, known: &[Compressor]) -> Result<(&'static str, i32)> {
    let (name, asked) = match text.split_once(':') {
        Some((name, level)) => (name, Some(level)),
        None => (text, None),
    };
    let found = known.iter().find(|compressor| compressor.name == name);
    match (found, asked) {
        (Some(Compressor { name, levels: Some((levels, usual)) }), asked) => {
            let level = asked.map_or(Some(*usual), |asked| asked.parse().ok());
            let level = level.filter(|level| levels.contains(level)).with_context(|| {
                format!("expected a level of {} to {} in `{text}`", levels.start(), levels.end())
            })?;
            Ok((name, level))
        }
        (Some(Compressor { name, levels: None }), None) => Ok((name, 0)),
        _ => {
            let names: Vec<&str> = known.iter().map(|compressor| compressor.name).collect();
            bail!("expected {}, with a level as in zstd:9, got `{text}`", one_of(&names))
        }
    }
}

/// Lists names to choose from: `a, b or c`.
pub fn one_of(names: &[&str]) -> String {
    match names {
        [some @ .., last] if !some.is_empty() => format!("{} or {last}", some.join(", ")),
        _ => names.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [Compressor; 3] = [
        Compressor::plain("none"),
        Compressor::graded("xz", 0..=9, 6),
        Compressor::graded("zstd", 1..=22, 3),
    ];

    #[test]
    fn reads_names_and_levels() {
        let taken = [("none", ("none", 0)), ("xz", ("xz", 6)), ("xz:0", ("xz", 0))];
        for (text, expected) in taken.into_iter().chain([("zstd:22", ("zstd", 22))]) {
            assert_eq!(read(text, &KNOWN).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn says_what_it_takes() {
        let told = |text| read(text, &KNOWN).unwrap_err().to_string();
        for text in ["xz:10", "xz:", "xz:-1", "xz:x", "xz:1:1", "xz:99999999999"] {
            assert_eq!(told(text), format!("expected a level of 0 to 9 in `{text}`"));
        }
        for text in ["", ":", "lz4", "none:1", "none:", "XZ"] {
            let wanted = "expected none, xz or zstd, with a level as in zstd:9, got";
            assert_eq!(told(text), format!("{wanted} `{text}`"));
        }
        assert_eq!(
            (one_of(&[]), one_of(&["a"]), one_of(&["a", "b"])),
            ("".into(), "a".into(), "a or b".into())
        );
    }
}
