//! The YAML tree that a manifest is decoded from: values with their marks.
//!
//! Plain scalars are told apart as LinuxKit's parser does (YAML 1.2 core
//! schema, and the octal `0644` of YAML 1.1): `yes` is text, `0644` a number.

use super::place::Mark;

/// A value and where it begins.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    pub(crate) kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
}

/// A key of a mapping and where it begins. Keys of one mapping are distinct.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) mark: Mark,
    pub(crate) name: String,
}

/// A scalar: the text as written and what it means.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) meaning: Meaning,
}

/// What a scalar means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Meaning {
    Null,
    Bool(bool),
    Int(i128),
    Float,
    Text,
}

impl Scalar {
    /// A scalar that is text, whatever it looks like.
    pub(crate) fn text(text: String) -> Self {
        Self { text, meaning: Meaning::Text }
    }

    /// A scalar without quotes, whose looks decide what it means.
    pub(crate) fn plain(text: String) -> Self {
        let meaning = match text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => Meaning::Null,
            "true" | "True" | "TRUE" => Meaning::Bool(true),
            "false" | "False" | "FALSE" => Meaning::Bool(false),
            other => integer(other).map_or_else(
                || if is_float(other) { Meaning::Float } else { Meaning::Text },
                Meaning::Int,
            ),
        };
        Self { text, meaning }
    }
}

impl Node {
    /// Says what the value is, for an error.
    pub(crate) fn describe(&self) -> String {
        match &self.kind {
            Kind::Sequence(_) => "a list".into(),
            Kind::Mapping(_) => "a mapping".into(),
            Kind::Scalar(scalar) => match scalar.meaning {
                Meaning::Null => "nothing".into(),
                Meaning::Bool(value) => format!("the boolean {value}"),
                Meaning::Int(_) | Meaning::Float => format!("the number {}", scalar.text),
                Meaning::Text => format!("`{}`", excerpt(&scalar.text)),
            },
        }
    }
}

/// Returns a text's first characters, for an error.
pub(crate) fn excerpt(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn integer(text: &str) -> Option<i128> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let (digits, radix) = match digits.get(..2) {
        Some("0x") => (&digits[2..], 16),
        Some("0o") => (&digits[2..], 8),
        Some("0b") => (&digits[2..], 2),
        Some(_) if digits.starts_with('0') => (&digits[1..], 8),
        _ => (digits, 10),
    };
    let plain: String = digits.chars().filter(|c| *c != '_').collect();
    let all_digits = plain.chars().all(|c| c.is_digit(radix));
    if plain.is_empty() || !all_digits || digits.starts_with('_') {
        return None;
    }
    let value = i128::from_str_radix(&plain, radix).ok()? * sign;
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&value).then_some(value)
}

fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return true;
    }
    if matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let plain = |b: u8| b.is_ascii_digit() || b".eE+-_".contains(&b);
    let begins = unsigned.bytes().next().is_some_and(|b| b.is_ascii_digit() || b == b'.');
    begins && unsigned.bytes().all(plain) && text.replace('_', "").parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_mean_what_linuxkit_takes_them_for() {
        for (text, meaning) in [
            ("", Meaning::Null),
            ("~", Meaning::Null),
            ("True", Meaning::Bool(true)),
            ("yes", Meaning::Text),
            ("0644", Meaning::Int(0o644)),
            ("0o17", Meaning::Int(15)),
            ("0x1F", Meaning::Int(31)),
            ("-5", Meaning::Int(-5)),
            ("1_000", Meaning::Int(1000)),
            ("0", Meaning::Int(0)),
            ("099", Meaning::Float),
            ("1.5", Meaning::Float),
            ("1e3", Meaning::Float),
            ("1.2.3", Meaning::Text),
            ("-", Meaning::Text),
            ("+", Meaning::Text),
            ("0x", Meaning::Text),
            ("1é", Meaning::Text),
            ("é", Meaning::Text),
            ("18446744073709551615", Meaning::Int(18_446_744_073_709_551_615)),
            ("18446744073709551616", Meaning::Float),
        ] {
            assert_eq!(Scalar::plain(text.into()).meaning, meaning, "{text}");
        }
    }
}
