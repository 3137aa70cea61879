//! The index out of depmod's text files, which other kernels bring.
//!
//! `modules.dep` has a line `FILE: FILE ...` for each module, its needs all the way down;
//! `modules.alias` has `alias PATTERN NAME`, `modules.softdep` has `softdep NAME pre: ...`.

use std::collections::BTreeMap;

use super::info::{self, ModuleInfo, underscored};

/// Turns depmod's files into the text of an index; missing files are empty.
pub fn from_depmod(dep: &str, alias: &str, softdep: &str) -> String {
    let mut modules: BTreeMap<String, ModuleInfo> = BTreeMap::new();
    for line in dep.lines() {
        let Some((file, needs)) = line.split_once(':') else { continue };
        let Some(name) = info::name(file) else { continue };
        let depends = needs.split_whitespace().filter_map(info::name).collect();
        let module = ModuleInfo {
            name: name.clone(),
            path: file.to_owned(),
            depends,
            ..ModuleInfo::default()
        };
        modules.insert(name, module);
    }
    for line in alias.lines() {
        if let ["alias", pattern, name] = line.split_whitespace().collect::<Vec<_>>()[..]
            && let Some(module) = modules.get_mut(&underscored(name))
        {
            module.aliases.push(pattern.to_owned());
        }
    }
    for line in softdep.lines() {
        let mut words = line.splitn(3, ' ');
        if let (Some("softdep"), Some(name), Some(list)) =
            (words.next(), words.next(), words.next())
            && let Some(module) = modules.get_mut(&underscored(name))
        {
            info::soft(list, module);
        }
    }
    super::format(&modules.into_values().collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::super::Index;
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn depmods_files() {
        let text = from_depmod(
            "kernel/net/b-c.ko: kernel/net/a.ko\nkernel/net/a.ko:\n# odd line\n",
            "# Aliases\nalias pci:v1* b-c\nalias x gone\n",
            "softdep a post: d\n",
        );
        let index = Index::parse(&text).unwrap();
        let [name] = index.find("pci:v12")[..] else { panic!("{text}") };
        let plan: Vec<_> =
            index.plan(name, &BTreeSet::new()).iter().map(|module| module.path).collect();
        assert_eq!(plan, ["kernel/net/a.ko", "kernel/net/b-c.ko"]);
    }
}
