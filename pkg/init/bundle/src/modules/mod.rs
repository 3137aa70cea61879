//! The index of kernel modules, `/lib/modules/VER/moby.modules`.
//!
//! Debian ships no `modules.dep`; what a module needs and which devices it serves stand in
//! its own `.modinfo` section ([`info()`]). Reading thousands of files at boot is slow, so the
//! kernel's package is built with an index ([`format()`]), and init reads that alone. The text:
//!
//! ```text
//! moby-modules 1
//! kernel/drivers/net/virtio_net.ko virtio_net net_failover - -
//!  virtio:d00000001v*
//! ```
//!
//! A line for each module, sorted by name: its file below `/lib/modules/VER`, its name, and
//! three comma-separated lists: what it depends on, what is loaded softly before it and after
//! it; `-` is an empty list. Lines that begin with a space are the aliases of the module above
//! them, patterns with `*`, `?` and `[...]`. In names `-` is written `_`, as the kernel does.
//!
//! Kernels from elsewhere bring depmod's files, which [`from_depmod`] turns into this text.

mod depmod;
mod info;
mod pattern;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

pub use depmod::from_depmod;
pub use info::{ModuleInfo, info, name};

/// The first line of an index.
const HEADER: &str = "moby-modules 1";

/// Writes the index of `modules`.
pub fn format(modules: &[ModuleInfo]) -> String {
    let mut sorted: Vec<&ModuleInfo> = modules.iter().collect();
    sorted.sort_by(|a, b| (&a.name, &a.path).cmp(&(&b.name, &b.path)));
    let mut text = format!("{HEADER}\n");
    for module in sorted {
        let lists = [&module.depends, &module.before, &module.after].map(|list| joined(list));
        let [depends, before, after] = lists;
        writeln!(text, "{} {} {depends} {before} {after}", module.path, module.name)
            .expect("writing into a string cannot fail");
        let aliases: BTreeSet<&String> = module.aliases.iter().collect();
        for alias in aliases {
            writeln!(text, " {alias}").expect("writing into a string cannot fail");
        }
    }
    text
}

fn joined(list: &[String]) -> String {
    if list.is_empty() { "-".to_owned() } else { list.join(",") }
}

/// A parsed index, borrowing its text.
#[derive(Debug, Default)]
pub struct Index<'a> {
    modules: BTreeMap<&'a str, Module<'a>>,
    /// Aliases by their key (see [`pattern::key`]): (pattern, module).
    aliases: BTreeMap<&'a str, Vec<(&'a str, &'a str)>>,
}

/// One module of an [`Index`].
#[derive(Debug, Clone, Copy)]
pub struct Module<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its file below `/lib/modules/VER`.
    pub path: &'a str,
    depends: &'a str,
    before: &'a str,
    after: &'a str,
}

impl<'a> Index<'a> {
    /// Reads an index; an error names the line.
    pub fn parse(text: &'a str) -> Result<Self, String> {
        let mut lines = text.lines().enumerate();
        match lines.next() {
            Some((_, HEADER)) => {}
            other => {
                let found = other.map_or("", |(_, line)| line);
                return Err(format!("line 1: expected `{HEADER}`, found `{found}`"));
            }
        }
        let mut index = Self::default();
        let mut current = None;
        for (number, line) in lines {
            if let Some(alias) = line.strip_prefix(' ') {
                let Some(module) = current else {
                    return Err(format!("line {}: an alias before any module", number + 1));
                };
                index.aliases.entry(pattern::key(alias)).or_default().push((alias, module));
                continue;
            }
            let fields: Vec<&str> = line.split(' ').collect();
            let [path, name, depends, before, after] = fields[..] else {
                return Err(format!(
                    "line {}: expected 5 fields, found {}",
                    number + 1,
                    fields.len()
                ));
            };
            index.modules.insert(name, Module { name, path, depends, before, after });
            current = Some(name);
        }
        Ok(index)
    }

    /// Tells the number of modules.
    pub fn len(&self) -> usize {
        self.modules.len()
    }

    /// Tells whether there is no module.
    pub fn is_empty(&self) -> bool {
        self.modules.is_empty()
    }

    /// Lists the modules that `wanted`, a name or a device's modalias, stands for.
    pub fn find(&self, wanted: &str) -> Vec<&'a str> {
        let name = wanted.replace('-', "_");
        if let Some((name, _)) = self.modules.get_key_value(name.as_str()) {
            return vec![name];
        }
        let mut found: Vec<&str> = Vec::new();
        for key in [pattern::key(wanted), ""] {
            for (alias, module) in self.aliases.get(key).into_iter().flatten() {
                if !found.contains(module) && pattern::matches(alias, wanted) {
                    found.push(module);
                }
            }
        }
        found
    }

    /// Lists `name` and all that it needs, in the order of loading, without those in `loaded`.
    /// A need that no module has (built in, or an alias of nothing) is passed over.
    pub fn plan(&self, name: &str, loaded: &BTreeSet<String>) -> Vec<Module<'a>> {
        let mut plan = Vec::new();
        self.visit(name, loaded, &mut plan, &mut BTreeSet::new());
        plan
    }

    fn visit(
        &self,
        name: &str,
        loaded: &BTreeSet<String>,
        plan: &mut Vec<Module<'a>>,
        seen: &mut BTreeSet<&'a str>,
    ) {
        let Some(module) = self.modules.get(name) else { return };
        if loaded.contains(name) || !seen.insert(module.name) {
            return;
        }
        let list = |text: &'a str| text.split(',').filter(|name| !name.is_empty() && *name != "-");
        for need in list(module.before) {
            for found in self.find(need) {
                self.visit(found, loaded, plan, seen);
            }
        }
        for need in list(module.depends) {
            self.visit(need, loaded, plan, seen);
        }
        plan.push(*module);
        for need in list(module.after) {
            for found in self.find(need) {
                self.visit(found, loaded, plan, seen);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(name: &str, depends: &[&str], aliases: &[&str]) -> ModuleInfo {
        let own = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        ModuleInfo {
            name: name.into(),
            path: format!("kernel/{name}.ko"),
            depends: own(depends),
            aliases: own(aliases),
            ..ModuleInfo::default()
        }
    }

    #[test]
    fn writes_reads_finds_and_plans() {
        let mut net = module("virtio_net", &["net_failover"], &["virtio:d00000001v*"]);
        net.before = vec!["crc-any".into()];
        let text = format(&[
            net,
            module("net_failover", &["failover"], &[]),
            module("failover", &[], &[]),
            module("crc", &[], &["crc-any", "crc-any"]),
            module("overlay", &[], &["fs-overlay"]),
        ]);
        assert!(
            text.contains("kernel/virtio_net.ko virtio_net net_failover crc-any -\n virtio:"),
            "{text}"
        );
        let index = Index::parse(&text).unwrap();
        assert_eq!(index.len(), 5);
        assert_eq!(index.find("virtio:d00000001v00001AF4"), ["virtio_net"]);
        assert_eq!(index.find("net-failover"), ["net_failover"]);
        assert_eq!(index.find("fs-overlay"), ["overlay"]);
        assert!(index.find("pci:v0").is_empty());
        let names = |loaded: &[&str]| -> Vec<&str> {
            let loaded = loaded.iter().map(ToString::to_string).collect();
            index.plan("virtio_net", &loaded).iter().map(|module| module.name).collect()
        };
        assert_eq!(names(&[]), ["crc", "failover", "net_failover", "virtio_net"]);
        assert_eq!(names(&["net_failover", "crc"]), ["virtio_net"]);
    }

    #[test]
    fn rings_end() {
        let text = format(&[module("a", &["b"], &[]), module("b", &["a"], &[])]);
        let index = Index::parse(&text).unwrap();
        assert_eq!(index.plan("a", &BTreeSet::new()).len(), 2);
    }

    #[test]
    fn bad_text_names_its_line() {
        for (text, line) in [
            ("", "line 1:"),
            ("moby-modules 2\n", "line 1:"),
            ("moby-modules 1\n alias\n", "line 2:"),
            ("moby-modules 1\na b c\n", "line 2:"),
        ] {
            let error = Index::parse(text).unwrap_err();
            assert!(error.starts_with(line), "{error}");
        }
    }
}
