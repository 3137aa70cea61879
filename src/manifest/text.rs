//! The values that a manifest writes as one text: images, binds, limits …
//!
//! Each follows LinuxKit's grammar. `bind` is `source:destination[:options]`,
//! `tmpfs` is `destination[:options]`, options being separated by commas;
//! an rlimit is `name,soft,hard`; a mode is octal digits.

use serde_json::{Map, Value, json};

use super::node::{Kind, Meaning, Node, Scalar};
use super::part::{Decoder, Part, Text};
use super::place::{Invalid, Place, Spanned};
use super::suggest::nearest;
use crate::oci::{Platform, Reference};

impl Text for Reference {
    fn read(text: &str, at: &Place) -> Result<Self, Invalid> {
        let reference = text.parse().map_err(|error| at.invalid(format!("{error:#}")))?;
        match reference {
            Self::Package(dir) => below(&dir, at).map(Self::Package),
            Self::Layout(dir) => below(&dir, at).map(Self::Layout),
            Self::Archive(file) => below(&file, at).map(Self::Archive),
            other => Ok(other),
        }
    }
}

/// Resolves a path relative to the folder of the manifest.
fn below(path: &str, at: &Place) -> Result<String, Invalid> {
    if path.is_empty() {
        return Err(at.invalid("expected a path after the `:`"));
    }
    if path.starts_with('/') {
        return Ok(path.to_owned());
    }
    let Some(folder) = &at.source.folder else {
        let message = "a relative path works only in a manifest that is a local file";
        return Err(at.invalid(message));
    };
    // Only `.` is dropped: what `..` leads to depends on symbolic links.
    let plain: std::path::PathBuf = folder.join(path).components().collect();
    match plain.to_str() {
        Some("") => Ok(".".into()),
        Some(path) => Ok(path.to_owned()),
        None => Err(at.invalid("the path to the manifest is not UTF-8")),
    }
}

impl Text for Platform {
    fn read(text: &str, at: &Place) -> Result<Self, Invalid> {
        text.parse().map_err(|error| at.invalid(format!("{error:#}")))
    }
}

/// A bind mount, `source:destination[:option,option…]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// What is bound: a path of the host, or the name of a volume.
    pub source: String,
    /// Where in the container.
    pub destination: String,
    /// Mount options, or `None` where none are given.
    pub options: Option<Vec<String>>,
}

impl Text for Bind {
    fn read(text: &str, at: &Place) -> Result<Self, Invalid> {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, destination, options) = match parts[..] {
            [source, destination] => (source, destination, None),
            [source, destination, options] => (source, destination, Some(split(options))),
            _ => {
                let message = format!("expected `source:destination[:options]`, got `{text}`");
                return Err(at.invalid(message));
            }
        };
        if source.is_empty() || destination.is_empty() {
            let message = format!("expected a source and a destination, got `{text}`");
            return Err(at.invalid(message));
        }
        Ok(Self { source: source.into(), destination: destination.into(), options })
    }

    fn schema() -> Value {
        json!({"type": "string", "pattern": "^[^:]+:[^:]+(:[^:]*)?$"})
    }
}

/// A `tmpfs` mount, `destination[:option,option…]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    /// Where in the container.
    pub destination: String,
    /// Mount options, or `None` where none are given.
    pub options: Option<Vec<String>>,
}

impl Text for Tmpfs {
    fn read(text: &str, at: &Place) -> Result<Self, Invalid> {
        let (destination, options) = match text.split_once(':') {
            Some((destination, options)) => (destination, Some(options)),
            None => (text, None),
        };
        if destination.is_empty() || options.is_some_and(|options| options.contains(':')) {
            return Err(at.invalid(format!("expected `destination[:options]`, got `{text}`")));
        }
        Ok(Self { destination: destination.into(), options: options.map(split) })
    }

    fn schema() -> Value {
        json!({"type": "string", "pattern": "^[^:]+(:[^:]*)?$"})
    }
}

fn split(options: &str) -> Vec<String> {
    options.split(',').map(str::to_owned).collect()
}

/// The permission bits of a file or device: octal digits in quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub u16);

impl Text for Mode {
    fn read(text: &str, at: &Place) -> Result<Self, Invalid> {
        let octal = !text.is_empty() && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
        match u16::from_str_radix(text, 8) {
            Ok(bits) if octal && bits <= 0o7777 => Ok(Self(bits)),
            _ => Err(at.invalid(format!("expected octal digits like \"0644\", got `{text}`"))),
        }
    }

    fn schema() -> Value {
        json!({"type": "string", "pattern": "^[0-7]+$"})
    }
}

/// A limit on a process's use of a resource, `name,soft,hard`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// The limit by its full name, such as `RLIMIT_NOFILE`.
    pub kind: &'static str,
    /// The limit in force; `u64::MAX` is `unlimited`.
    pub soft: u64,
    /// What the process may raise it to; `u64::MAX` is `unlimited`.
    pub hard: u64,
}

const RLIMITS: [&str; 16] = [
    "RLIMIT_CPU",
    "RLIMIT_FSIZE",
    "RLIMIT_DATA",
    "RLIMIT_STACK",
    "RLIMIT_CORE",
    "RLIMIT_RSS",
    "RLIMIT_NPROC",
    "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_AS",
    "RLIMIT_LOCKS",
    "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
];

impl Text for Rlimit {
    fn read(text: &str, at: &Place) -> Result<Self, Invalid> {
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        let [name, soft, hard] = parts[..] else {
            return Err(at.invalid(format!("expected `name,soft,hard`, got `{text}`")));
        };
        let upper = name.to_uppercase();
        let short = upper.strip_prefix("RLIMIT_").unwrap_or(&upper);
        let short_of = |kind: &&'static str| &kind["RLIMIT_".len()..];
        let Some(kind) = RLIMITS.iter().find(|kind| short_of(kind) == short) else {
            let known = RLIMITS.map(|kind| kind["RLIMIT_".len()..].to_lowercase());
            let suggestion = nearest(short, known.iter().map(String::as_str));
            return Err(at.invalid(format!("unknown limit `{name}`")).suggest(suggestion));
        };
        let amount = |text: &str| match text {
            _ if text.eq_ignore_ascii_case("unlimited") => Ok(u64::MAX),
            _ => text
                .parse()
                .map_err(|_| at.invalid(format!("expected a number or `unlimited`, got `{text}`"))),
        };
        Ok(Self { kind, soft: amount(soft)?, hard: amount(hard)? })
    }
}

/// A Linux capability, or all, or none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// `all`: every one of [`CAPABILITIES`].
    All,
    /// `none`: the empty set.
    None,
    /// One of [`CAPABILITIES`].
    One(&'static str),
}

/// Every capability by its number, as of Linux 5.9.
pub const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

impl Text for Capability {
    fn read(text: &str, at: &Place) -> Result<Self, Invalid> {
        if let Some(name) = CAPABILITIES.iter().find(|name| **name == text) {
            return Ok(Self::One(name));
        }
        match text.to_lowercase().as_str() {
            "all" => Ok(Self::All),
            "none" => Ok(Self::None),
            lower => {
                let full = format!("cap_{}", lower.trim_start_matches("cap_"));
                let suggestion = nearest(&full, CAPABILITIES);
                Err(at.invalid(format!("unknown capability `{text}`")).suggest(suggestion))
            }
        }
    }

    fn schema() -> Value {
        let all = ["all", "none", "ALL", "NONE"].into_iter().chain(CAPABILITIES);
        json!({"enum": all.collect::<Vec<_>>()})
    }
}

/// A user or group: a number, or the name of a container of the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Id {
    /// The number itself.
    Number(u32),
    /// The number that the container of this name got; "" and `root` are 0.
    Name(String),
}

impl Part for Spanned<Id> {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let value = match &node.kind {
            Kind::Scalar(Scalar { meaning: Meaning::Int(_), .. }) => {
                Id::Number(u32::decode(node, decoder)?)
            }
            Kind::Scalar(Scalar { meaning: Meaning::Text, text }) => Id::Name(text.clone()),
            _ => return decoder.mismatch(node, "a number or a name", ""),
        };
        let written = match &value {
            Id::Number(number) => number.to_string(),
            Id::Name(name) => name.clone(),
        };
        Some(Self { value, at: decoder.place(node.mark), written })
    }

    fn schema(_: &mut Map<String, Value>) -> Value {
        json!({"type": ["integer", "string"], "minimum": 0, "maximum": u32::MAX})
    }

    fn encode(&self) -> Value {
        match &self.value {
            Id::Number(number) => (*number).into(),
            Id::Name(name) => name.as_str().into(),
        }
    }
}

/// Declares enumerations that are written as one of a few words.
macro_rules! words {
    ($(
        $(#[doc = $about:literal])*
        $name:ident { $( $(#[doc = $doc:literal])* $variant:ident = $word:literal, )* }
    )*) => {$(
        $(#[doc = $about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $( $(#[doc = $doc])* $variant, )* }

        impl $name {
            const WORDS: &[&'static str] = &[$($word),*];

            /// Returns the word that stands for it in a manifest.
            pub fn word(self) -> &'static str {
                match self { $( Self::$variant => $word, )* }
            }
        }

        impl $crate::manifest::part::Text for $name {
            fn read(
                text: &str,
                at: &$crate::manifest::Place,
            ) -> Result<Self, $crate::manifest::Invalid> {
                match text {
                    $( $word => Ok(Self::$variant), )*
                    _ => Err($crate::manifest::text::no_such_word(text, Self::WORDS, at)),
                }
            }

            fn schema() -> serde_json::Value {
                serde_json::json!({"enum": Self::WORDS})
            }
        }
    )*};
}

pub(crate) use words;

/// Tells that a text is none of the words that are allowed.
pub(crate) fn no_such_word(text: &str, words: &[&str], at: &Place) -> Invalid {
    let listed = words.join("`, `");
    at.invalid(format!("expected one of `{listed}`, got `{text}`"))
        .suggest(nearest(text, words.iter().copied()))
}
