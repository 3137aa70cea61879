//! The kernel's command line.

use std::fs;

/// The words of `/proc/cmdline`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cmdline {
    words: Vec<(String, Option<String>)>,
}

impl Cmdline {
    /// Reads the running kernel's; empty where `/proc` is not there.
    pub fn load() -> Self {
        Self::parse(&fs::read_to_string("/proc/cmdline").unwrap_or_default())
    }

    /// Splits at blanks outside of double quotes, as the kernel does.
    pub fn parse(text: &str) -> Self {
        let mut quoted = false;
        let words = text.split(|c: char| {
            quoted ^= c == '"';
            c.is_ascii_whitespace() && !quoted
        });
        let words = words.filter(|word| !word.is_empty()).map(|word| {
            let word = word.replace('"', "");
            match word.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (word, None),
            }
        });
        Self { words: words.collect() }
    }

    /// Gives the value of the last `key=value`.
    pub fn value(&self, key: &str) -> Option<&str> {
        let last = self.words.iter().rev().find(|(word, value)| word == key && value.is_some());
        last.and_then(|(_, value)| value.as_deref())
    }

    /// Tells whether `key` stands alone.
    pub fn has(&self, key: &str) -> bool {
        self.words.iter().any(|(word, value)| word == key && value.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_values() {
        let line =
            Cmdline::parse("console=ttyS0 rw dyndbg=\"file a +p\" modules=a,b modules=c x=\n");
        assert_eq!(line.value("console"), Some("ttyS0"));
        assert_eq!(line.value("dyndbg"), Some("file a +p"));
        assert_eq!(line.value("modules"), Some("c"));
        assert_eq!(line.value("x"), Some(""));
        assert_eq!(line.value("rw"), None);
        assert!(line.has("rw") && !line.has("ro"));
    }
}
