//! JSON values as text: YAML as Go's `yaml.v2` lays it out, and indented JSON.
//!
//! Lists stand at the column of their key; a text is plain where it reads as
//! the same text, a literal block where it has lines, quoted otherwise. Long
//! lines are not folded.

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

use super::node::{Meaning, Scalar};

/// Returns a value as JSON, indented by four spaces.
pub(crate) fn json(value: &Value) -> String {
    let mut out = Vec::new();
    let mut serializer =
        Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(b"    "));
    value.serialize(&mut serializer).expect("memory takes all that is written");
    String::from_utf8(out).expect("JSON is text")
}

/// Returns a value as a YAML document.
pub(crate) fn yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(object) if !object.is_empty() => block(value, 0, &mut out),
        Value::Array(items) if !items.is_empty() => block(value, 0, &mut out),
        _ => {
            scalar(value, 0, &mut out);
            out.push('\n');
        }
    }
    out
}

/// Writes the lines of a list or mapping that is not empty. The first line is
/// already indented where it follows a dash.
fn block(value: &Value, indent: usize, out: &mut String) {
    let mut first = true;
    let mut begin = |out: &mut String| {
        if !std::mem::take(&mut first) || indent == 0 || out.ends_with('\n') {
            out.push_str(&" ".repeat(indent));
        }
    };
    match value {
        Value::Array(items) => {
            for item in items {
                begin(out);
                out.push_str("- ");
                if is_block(item) {
                    block(item, indent + 2, out);
                } else {
                    scalar(item, indent + 2, out);
                    out.push('\n');
                }
            }
        }
        Value::Object(object) => {
            for (key, item) in object {
                begin(out);
                text(key, true, indent, out);
                out.push(':');
                if is_block(item) {
                    out.push('\n');
                    let deeper = if item.is_array() { indent } else { indent + 2 };
                    block(item, deeper, out);
                } else {
                    out.push(' ');
                    scalar(item, indent + 2, out);
                    out.push('\n');
                }
            }
        }
        _ => {}
    }
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Array(items) => !items.is_empty(),
        Value::Object(object) => !object.is_empty(),
        _ => false,
    }
}

/// Writes what stands on the line of its key, without the line's end.
fn scalar(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::String(value) => text(value, false, indent, out),
        other => out.push_str(&other.to_string()),
    }
}

fn text(value: &str, key: bool, indent: usize, out: &mut String) {
    let printable = value.chars().all(|c| !c.is_control() && !is_odd(c));
    if printable && is_plain(value) {
        match Scalar::plain(value.to_owned()).meaning {
            Meaning::Text if !is_old_boolean(value) => out.push_str(value),
            _ => quoted(value, out),
        }
    } else if printable && !value.is_empty() {
        out.push('\'');
        out.push_str(&value.replace('\'', "''"));
        out.push('\'');
    } else if !key && is_literal(value) {
        literal(value, indent, out);
    } else {
        quoted(value, out);
    }
}

/// Characters that YAML readers take for the end of a line, or drop.
fn is_odd(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// What YAML 1.1 took for booleans, and `yaml.v2` quotes to be safe.
fn is_old_boolean(text: &str) -> bool {
    let lower = text.to_lowercase();
    matches!(lower.as_str(), "y" | "n" | "yes" | "no" | "on" | "off" | "<<")
}

fn is_plain(text: &str) -> bool {
    let Some(first) = text.chars().next() else { return false };
    let second = text.chars().nth(1);
    let opens = match first {
        '-' | '?' | ':' => second.is_none_or(char::is_whitespace),
        c => ",[]{}#&*!|>'\"%@`= ".contains(c),
    };
    let document = text.starts_with("---") || text.starts_with("...");
    let closes = text.ends_with(' ') || text.ends_with(':');
    !opens && !document && !closes && !text.contains(": ") && !text.contains(" #")
}

/// A text of lines that a literal block holds unchanged.
fn is_literal(text: &str) -> bool {
    let plain = text.chars().all(|c| c == '\n' || (!c.is_control() && !is_odd(c)));
    let begins = !text.starts_with([' ', '\n']);
    plain && begins && text.contains('\n') && !text.lines().any(|line| line.ends_with(' '))
}

fn literal(text: &str, indent: usize, out: &mut String) {
    let body = text.trim_end_matches('\n');
    out.push('|');
    out.push_str(match text.len() - body.len() {
        0 => "-",
        1 => "",
        _ => "+",
    });
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        out.push('\n');
        if !line.is_empty() {
            out.push_str(&" ".repeat(indent));
            out.push_str(line);
        }
    }
}

fn quoted(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || is_odd(c) => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quotes_what_would_read_as_something_else() {
        for (text, written) in [
            ("a b", "a b"),
            ("0644", "\"0644\""),
            ("yes", "\"yes\""),
            ("", "\"\""),
            ("@pkg:x", "'@pkg:x'"),
            ("a: b", "'a: b'"),
            ("it's: x", "'it''s: x'"),
            ("/a:/b:ro", "/a:/b:ro"),
            ("a\tb", "\"a\\tb\""),
            ("- a", "'- a'"),
            ("-a", "-a"),
        ] {
            assert_eq!(yaml(&json!(text)), format!("{written}\n"));
        }
    }

    #[test]
    fn lays_out_as_go_does() {
        let value = json!({
            "list": ["a", {"b": 1, "c": [true, []]}, ["x", "y"]],
            "empty": {}, "none": null, "text": "one\ntwo\n", "deep": {"text": "one\n\ntwo"},
        });
        let lines = "list:\n- a\n- b: 1\n  c:\n  - true\n  - []\n- - x\n  - \"y\"\nempty: {}\n\
                     none: null\ntext: |\n  one\n  two\ndeep:\n  text: |-\n    one\n\n    two\n";
        assert_eq!(yaml(&value), lines);
    }
}
