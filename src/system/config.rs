//! From a manifest's entry, an image's label and an image's config to the
//! OCI runtime configuration of a container.
//!
//! Follows LinuxKit's docs/yaml.md for what each field defaults to. Putting
//! the result into the tree is [`super::bundle`]'s.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::layered::Layered;
use super::spec::{
    Capabilities, Device, IdMapping, Linux, Mount, Namespace, Process, Rlimit, Root, Spec, User,
    VERSION,
};
use super::users::Users;
use crate::manifest::part::Part;
use crate::manifest::{self, CAPABILITIES, Capability, ImageConfig, Spanned};
use crate::oci;

/// The label by which an image says how it wants to be run.
const LABEL: &str = "org.mobyproject.config";
/// Read, write, make nodes: all that a device rule can allow.
const ACCESS: &str = "rwm";

/// Where a volume lies in the image, by its name.
pub(super) type Volumes<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads the label of an image; without one, nothing is given.
pub(super) fn label(config: &oci::Config, image: &str) -> Result<ImageConfig> {
    match config.config.labels.get(LABEL).filter(|text| !text.is_empty()) {
        Some(text) => manifest::parse_label(text, image)
            .with_context(|| format!("reading the label {LABEL} of {image}")),
        None => Ok(ImageConfig::default()),
    }
}

/// Makes the runtime configuration of a container.
pub(super) fn spec(
    layered: Layered<'_>,
    image: &oci::Process,
    volumes: Volumes<'_>,
    users: &Users,
) -> Result<Spec> {
    let readonly = layered.get(|c| c.readonly.as_ref()).copied().unwrap_or_default();
    Ok(Spec {
        oci_version: VERSION,
        process: process(layered, image, users)?,
        root: Root { path: moby_bundle::path::ROOTFS, readonly },
        hostname: layered.word(|c| &c.hostname).unwrap_or_default().to_owned(),
        mounts: mounts(layered, readonly, volumes)?,
        annotations: layered.get(|c| c.annotations.as_ref()).cloned().unwrap_or_default(),
        linux: linux(layered),
    })
}

fn process(layered: Layered<'_>, image: &oci::Process, users: &Users) -> Result<Process> {
    let command = || [image.entrypoint.as_slice(), &image.cmd].concat();
    let words = |list: &[Spanned<String>]| list.iter().map(|word| word.value.clone()).collect();
    let workdir = Some(image.working_dir.as_str()).filter(|dir| !dir.is_empty());
    let groups = layered.list(|c| &c.additional_gids).iter();
    Ok(Process {
        user: User {
            uid: users.id(layered.get(|c| c.uid.as_ref()))?,
            gid: users.id(layered.get(|c| c.gid.as_ref()))?,
            additional_gids: groups.map(|gid| users.id(Some(gid))).collect::<Result<_, _>>()?,
        },
        args: layered.get(|c| c.command.as_ref()).cloned().unwrap_or_else(command),
        env: layered.get(|c| c.env.as_deref()).map_or_else(|| image.env.clone(), words),
        cwd: layered.word(|c| &c.cwd).or(workdir).unwrap_or("/").to_owned(),
        capabilities: capabilities(layered),
        rlimits: layered.list(|c| &c.rlimits).iter().map(rlimit).collect(),
        no_new_privileges: layered.get(|c| c.no_new_privileges.as_ref()).copied().unwrap_or(false),
        oom_score_adj: layered.get(|c| c.oom_score_adj.as_ref()).copied(),
    })
}

fn rlimit(limit: &Spanned<manifest::Rlimit>) -> Rlimit {
    Rlimit { kind: limit.kind.to_string(), hard: limit.hard, soft: limit.soft }
}

fn capabilities(layered: Layered<'_>) -> Capabilities {
    let effective = expand(layered.added(|c| &c.capabilities, |c| &c.capabilities_add));
    let ambient = expand(layered.list(|c| &c.ambient).iter().collect());
    let both: BTreeSet<&str> = effective.iter().chain(&ambient).copied().collect();
    let bounding: Vec<&str> = both.into_iter().collect();
    Capabilities {
        inheritable: bounding.clone(),
        permitted: bounding.clone(),
        bounding,
        effective,
        ambient,
    }
}

fn expand(given: Vec<&Spanned<Capability>>) -> Vec<&'static str> {
    let one = |capability: &Spanned<Capability>| match capability.value {
        Capability::All => CAPABILITIES.to_vec(),
        Capability::None => Vec::new(),
        Capability::One(name) => vec![name],
    };
    given.into_iter().flat_map(one).collect()
}

/// The mounts by destination: the defaults, then what `tmpfs`, `binds` and
/// `mounts` put in their place. Sorted, a mount comes before those below it.
fn mounts(layered: Layered<'_>, readonly: bool, volumes: Volumes<'_>) -> Result<Vec<Mount>> {
    let mut all = default_mounts(readonly);
    for tmpfs in layered.list(|c| &c.tmpfs) {
        all.push(mount(&tmpfs.destination, "tmpfs", "tmpfs", tmpfs.options.as_deref()));
    }
    for bind in layered.added(|c| &c.binds, |c| &c.binds_add) {
        let source = volumes(&bind.source).unwrap_or_else(|| bind.source.clone());
        let mut made = mount(&bind.destination, "bind", &source, bind.options.as_deref());
        let further: &[&str] = match bind.options {
            Some(_) => &["rbind"],
            None => &["rw", "rbind", "rshared"],
        };
        made.options.extend(further.iter().map(ToString::to_string));
        all.push(made);
    }
    for given in layered.list(|c| &c.mounts) {
        let complete = given.complete()?;
        let volume = (complete.kind == "bind").then(|| volumes(complete.source)).flatten();
        let source = volume.as_deref().unwrap_or(complete.source);
        let options = given.options.as_deref();
        let mut made = mount(complete.destination, complete.kind, source, options);
        made.uid_mappings = mappings(given.uid_mappings.as_deref());
        made.gid_mappings = mappings(given.gid_mappings.as_deref());
        all.push(made);
    }
    let by_destination: BTreeMap<String, Mount> =
        all.into_iter().map(|mount| (mount.destination.clone(), mount)).collect();
    Ok(by_destination.into_values().collect())
}

fn default_mounts(readonly: bool) -> Vec<Mount> {
    let made = |destination: &str, kind: &str, source: &str, options: &str, ro: bool| {
        let mut options: Vec<String> = options.split(',').map(str::to_owned).collect();
        options.extend(ro.then(|| "ro".to_owned()));
        mount(destination, kind, source, Some(&options))
    };
    vec![
        made("/proc", "proc", "proc", "nosuid,nodev,noexec,relatime", false),
        made("/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k", readonly),
        made(
            "/dev/pts",
            "devpts",
            "devpts",
            "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620",
            false,
        ),
        made("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev", readonly),
        made("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid,noexec,nodev,relatime", true),
    ]
}

fn mount(destination: &str, kind: &str, source: &str, options: Option<&[String]>) -> Mount {
    Mount {
        destination: destination.to_owned(),
        kind: kind.to_owned(),
        source: source.to_owned(),
        options: options.unwrap_or_default().to_vec(),
        uid_mappings: Vec::new(),
        gid_mappings: Vec::new(),
    }
}

fn mappings(given: Option<&[manifest::IdMapping]>) -> Vec<IdMapping> {
    let one = |mapping: &manifest::IdMapping| IdMapping {
        container_id: mapping.container_id.unwrap_or_default(),
        host_id: mapping.host_id.unwrap_or_default(),
        size: mapping.size.unwrap_or_default(),
    };
    given.unwrap_or_default().iter().map(one).collect()
}

fn linux(layered: Layered<'_>) -> Linux {
    let word = |word: Option<&Spanned<String>>| word.map(|w| w.value.clone()).unwrap_or_default();
    let (devices, rules) = devices(layered);
    Linux {
        uid_mappings: mappings(layered.get(|c| c.uid_mappings.as_deref())),
        gid_mappings: mappings(layered.get(|c| c.gid_mappings.as_deref())),
        sysctl: layered.get(|c| c.sysctl.as_ref()).cloned().unwrap_or_default(),
        resources: resources(layered, rules),
        cgroups_path: word(layered.get(|c| c.cgroups_path.as_ref())),
        namespaces: namespaces(layered),
        devices,
        rootfs_propagation: word(layered.get(|c| c.rootfs_propagation.as_ref())),
        masked_paths: layered.list(|c| &c.masked_paths).to_vec(),
        readonly_paths: layered.list(|c| &c.readonly_paths).to_vec(),
    }
}

/// The namespaces: the host's by default, but a new one for processes and,
/// always, for mounts.
fn namespaces(layered: Layered<'_>) -> Vec<Namespace> {
    let table = [
        ("network", layered.word(|c| &c.net).unwrap_or("host")),
        ("ipc", layered.word(|c| &c.ipc).unwrap_or("host")),
        ("uts", layered.word(|c| &c.uts).unwrap_or("host")),
        ("pid", layered.word(|c| &c.pid).unwrap_or("new")),
        ("user", layered.word(|c| &c.userns).unwrap_or("host")),
        ("mount", "new"),
    ];
    let asked = table.into_iter().filter(|(_, word)| !matches!(*word, "host" | "root"));
    let made = |(kind, word): (&'static str, &str)| {
        // `none` means a network without interfaces: a new namespace.
        let fresh = word == "new" || (kind == "network" && word == "none");
        Namespace { kind, path: if fresh { String::new() } else { word.to_owned() } }
    };
    asked.map(made).collect()
}

/// The device nodes, and the rules that let the container use them.
fn devices(layered: Layered<'_>) -> (Vec<Device>, Vec<Value>) {
    let (mut nodes, mut rules) = (Vec::new(), Vec::new());
    for device in layered.list(|c| &c.devices) {
        let path = device.path.as_ref().map(|path| path.value.clone()).unwrap_or_default();
        let kind = device.kind.as_ref().map(|kind| kind.value.word()).unwrap_or_default();
        let mut rule = Map::new();
        rule.insert("allow".into(), true.into());
        if !kind.is_empty() {
            rule.insert("type".into(), kind.into());
        }
        if path != "all" {
            let (major, minor) = (device.major.unwrap_or(0), device.minor.unwrap_or(0));
            rule.insert("major".into(), major.into());
            rule.insert("minor".into(), minor.into());
            let file_mode = device.mode.as_ref().map(|mode| mode.value.0).unwrap_or_default();
            nodes.push(Device { path, kind: kind.to_owned(), major, minor, file_mode });
        }
        rule.insert("access".into(), ACCESS.into());
        rules.push(Value::Object(rule));
    }
    (nodes, rules)
}

fn resources(layered: Layered<'_>, rules: Vec<Value>) -> Value {
    let given = layered.get(|c| c.resources.as_ref()).map(Part::encode);
    let mut all = match given {
        Some(Value::Object(all)) => all,
        _ => Map::new(),
    };
    // The manifest's spelling is LinuxKit's, the specification's is not.
    if let Some(block) = all.shift_remove("blockio") {
        all.insert("blockIO".into(), block);
    }
    if !rules.is_empty()
        && let Value::Array(devices) = all.entry("devices").or_insert_with(|| json!([]))
    {
        devices.extend(rules);
    }
    // The specification wants a word on each rule, even if it is no.
    let devices = all.get_mut("devices").and_then(Value::as_array_mut);
    for rule in devices.into_iter().flatten().filter_map(Value::as_object_mut) {
        rule.entry("allow").or_insert(Value::Bool(false));
    }
    Value::Object(all)
}
