//! Writing a manifest: as it was read, and in the shape of LinuxKit's dump.
//!
//! `metadata: yaml|json` must be what LinuxKit writes. There each struct of Go
//! has its own rules for what is absent, and those of the OCI runtime
//! specification come out in YAML with all their fields, in lower case: the
//! tables below say so. What LinuxKit loses on the way (the camelCase keys of
//! `resources`) is kept.

use serde_json::{Map, Value, json};

use super::part::Part;
use super::{Manifest, Metadata, emit};
use crate::oci::Reference;

impl Manifest {
    /// Returns the merged manifest as YAML that reads as the same manifest.
    ///
    /// `name` says how a reference is written: a package by its tag, say.
    pub fn to_yaml(&self, name: &dyn Fn(&Reference) -> String) -> String {
        emit::yaml(&self.named(name))
    }

    /// Returns the merged manifest as LinuxKit writes it into images.
    pub fn metadata(&self, form: Metadata, name: &dyn Fn(&Reference) -> String) -> String {
        let mut value = self.named(name);
        for (i, volume) in self.volumes.iter().enumerate() {
            // Of all images only those of volumes are left as written.
            if let Some(image) = &volume.image
                && matches!(image.value, Reference::Image(_))
            {
                value["volumes"][i]["image"] = image.written.as_str().into();
            }
        }
        let value = shaped(&value, MANIFEST, form);
        match form {
            Metadata::Yaml => emit::yaml(&value),
            Metadata::Json => emit::json(&value),
        }
    }

    /// Returns the manifest as JSON, its references written by `name`.
    fn named(&self, name: &dyn Fn(&Reference) -> String) -> Value {
        let mut value = self.encode();
        if let Some(image) = self.kernel.as_ref().and_then(|kernel| kernel.image.as_ref()) {
            value["kernel"]["image"] = name(image).into();
        }
        for (i, image) in self.init.iter().enumerate() {
            value["init"][i] = name(image).into();
        }
        let services: Vec<_> = self.services.iter().map(|service| &service.container).collect();
        for (section, containers) in [
            ("onboot", self.onboot.iter().collect()),
            ("onshutdown", self.onshutdown.iter().collect()),
            ("services", services),
        ] {
            for (i, container) in containers.iter().enumerate() {
                value[section][i]["image"] = name(&container.image).into();
            }
        }
        for (i, volume) in self.volumes.iter().enumerate() {
            if let Some(image) = &volume.image {
                value["volumes"][i]["image"] = name(image).into();
            }
        }
        value
    }
}

/// A field of one of Go's structs: name, when it is written, parts.
struct Field(&'static str, When, &'static [Field]);

/// When a field is written, and as what when it is absent.
#[derive(Clone, Copy, PartialEq)]
enum When {
    /// Only when it is there.
    Given,
    /// Only when it is there and not empty (`omitempty` of a plain type).
    Filled,
    /// Always.
    Always(Zero),
    /// In YAML always and in lower case, in JSON only when it is not empty.
    Untagged(Zero),
    /// Always, and in YAML in lower case.
    Bare(Zero),
    /// In JSON always, in YAML when it is not empty.
    Struct,
}

/// What stands for an absent field.
#[derive(Clone, Copy, PartialEq)]
enum Zero {
    Null,
    False,
    Number,
    Text,
    /// `null` in JSON, `[]` in YAML.
    List,
    Map,
}

impl Zero {
    fn value(self, form: Metadata) -> Value {
        match self {
            Self::List if form == Metadata::Yaml => json!([]),
            Self::Null | Self::List => Value::Null,
            Self::False => json!(false),
            Self::Number => json!(0),
            Self::Text => json!(""),
            Self::Map => json!({}),
        }
    }
}

/// Returns a value with its fields as Go writes them. What no table names,
/// moby's own keys, follows as it is.
fn shaped(value: &Value, fields: &[Field], form: Metadata) -> Value {
    let object = match value {
        Value::Array(items) => {
            return items.iter().map(|item| shaped(item, fields, form)).collect();
        }
        Value::Object(object) if !fields.is_empty() => object,
        other => return other.clone(),
    };
    let mut out = Map::new();
    for Field(name, when, parts) in fields {
        let found = object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        let found = found.map(|(_, value)| shaped(value, parts, form));
        let filled = found.clone().filter(|value| !is_empty(value));
        let lower = || name.to_lowercase();
        let (name, value) = match (*when, form) {
            (When::Given, _) => ((*name).to_owned(), found),
            (When::Filled, _) | (When::Untagged(_), Metadata::Json) => ((*name).into(), filled),
            (When::Struct, Metadata::Yaml) => ((*name).into(), filled),
            (When::Struct, Metadata::Json) => {
                ((*name).into(), Some(found.unwrap_or_else(|| shaped(&json!({}), parts, form))))
            }
            (When::Untagged(zero) | When::Bare(zero), Metadata::Yaml) => {
                (lower(), Some(found.unwrap_or_else(|| zero.value(form))))
            }
            (When::Always(Zero::Map), _) => {
                ((*name).into(), Some(found.unwrap_or_else(|| shaped(&json!({}), parts, form))))
            }
            (When::Always(zero) | When::Bare(zero), _) => {
                ((*name).into(), Some(found.unwrap_or_else(|| zero.value(form))))
            }
        };
        if let Some(value) = value {
            out.insert(name, value);
        }
    }
    let known = |key: &str| fields.iter().any(|Field(name, ..)| key.eq_ignore_ascii_case(name));
    let own = object.iter().filter(|(key, _)| !known(key) && *key != "trust");
    out.extend(own.map(|(key, value)| (key.clone(), value.clone())));
    out.into()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(object) => object.is_empty(),
    }
}

use When::{Always, Bare, Filled, Given, Struct, Untagged};
use Zero::{False, List, Null, Number, Text};

const MANIFEST: &[Field] = &[
    Field("kernel", Always(Zero::Map), KERNEL),
    Field("init", Always(List), &[]),
    Field("onboot", Always(List), IMAGE),
    Field("onshutdown", Always(List), IMAGE),
    Field("services", Always(List), IMAGE),
    Field("files", Always(List), FILE),
    Field("volumes", Always(List), VOLUME),
];

const KERNEL: &[Field] = &[
    Field("image", Always(Text), &[]),
    Field("cmdline", Filled, &[]),
    Field("binary", Filled, &[]),
    Field("tar", Given, &[]),
    Field("ucode", Given, &[]),
];

const FILE: &[Field] = &[
    Field("path", Always(Text), &[]),
    Field("directory", Always(False), &[]),
    Field("symlink", Filled, &[]),
    Field("contents", Given, &[]),
    Field("source", Filled, &[]),
    Field("metadata", Filled, &[]),
    Field("optional", Always(False), &[]),
    Field("mode", Filled, &[]),
    Field("uid", Given, &[]),
    Field("gid", Given, &[]),
];

const VOLUME: &[Field] = &[
    Field("name", Always(Text), &[]),
    Field("image", Filled, &[]),
    Field("readonly", Filled, &[]),
    Field("format", Filled, &[]),
    Field("platforms", Filled, &[]),
];

const IMAGE: &[Field] = &[
    Field("name", Always(Text), &[]),
    Field("image", Always(Text), &[]),
    Field("capabilities", Given, &[]),
    Field("capabilities.add", Given, &[]),
    Field("ambient", Given, &[]),
    Field("mounts", Given, MOUNT),
    Field("binds", Given, &[]),
    Field("binds.add", Given, &[]),
    Field("devices", Given, DEVICE),
    Field("tmpfs", Given, &[]),
    Field("command", Given, &[]),
    Field("env", Given, &[]),
    Field("cwd", Filled, &[]),
    Field("net", Filled, &[]),
    Field("pid", Filled, &[]),
    Field("ipc", Filled, &[]),
    Field("uts", Filled, &[]),
    Field("userns", Filled, &[]),
    Field("hostname", Filled, &[]),
    Field("readonly", Given, &[]),
    Field("maskedPaths", Given, &[]),
    Field("readonlyPaths", Given, &[]),
    Field("uid", Given, &[]),
    Field("gid", Given, &[]),
    Field("additionalGids", Given, &[]),
    Field("noNewPrivileges", Given, &[]),
    Field("oomScoreAdj", Given, &[]),
    Field("rootfsPropagation", Given, &[]),
    Field("cgroupsPath", Given, &[]),
    Field("resources", Given, RESOURCES),
    Field("sysctl", Given, &[]),
    Field("rlimits", Given, &[]),
    Field("uidMappings", Given, ID_MAPPING),
    Field("gidMappings", Given, ID_MAPPING),
    Field("annotations", Given, &[]),
    Field("runtime", Given, RUNTIME),
];

const DEVICE: &[Field] = &[
    Field("path", Always(Text), &[]),
    Field("type", Always(Text), &[]),
    Field("major", Always(Number), &[]),
    Field("minor", Always(Number), &[]),
    Field("mode", Filled, &[]),
];

const RUNTIME: &[Field] = &[
    Field("cgroups", Given, &[]),
    Field("mounts", Given, MOUNT),
    Field("mkdir", Given, &[]),
    Field("interfaces", Given, INTERFACE),
    Field("bindNS", Struct, &[]),
    Field("namespace", Given, &[]),
];

const INTERFACE: &[Field] = &[
    Field("name", Filled, &[]),
    Field("add", Filled, &[]),
    Field("peer", Filled, &[]),
    Field("createInRoot", Always(False), &[]),
];

const MOUNT: &[Field] = &[
    Field("destination", Bare(Text), &[]),
    Field("type", Untagged(Text), &[]),
    Field("source", Untagged(Text), &[]),
    Field("options", Untagged(List), &[]),
    Field("uidMappings", Untagged(List), ID_MAPPING),
    Field("gidMappings", Untagged(List), ID_MAPPING),
];

const ID_MAPPING: &[Field] = &[
    Field("containerID", Bare(Number), &[]),
    Field("hostID", Bare(Number), &[]),
    Field("size", Bare(Number), &[]),
];

const RESOURCES: &[Field] = &[
    Field("devices", Untagged(List), DEVICE_RULE),
    Field("memory", Untagged(Null), MEMORY),
    Field("cpu", Untagged(Null), CPU),
    Field("pids", Untagged(Null), &[Field("limit", Bare(Number), &[])]),
    Field("blockIO", Untagged(Null), BLOCK_IO),
    Field("hugepageLimits", Untagged(List), HUGEPAGE_LIMIT),
    Field("network", Untagged(Null), NETWORK),
    Field("rdma", Untagged(Zero::Map), &[]),
    Field("unified", Untagged(Zero::Map), &[]),
];

const DEVICE_RULE: &[Field] = &[
    Field("allow", Bare(False), &[]),
    Field("type", Untagged(Text), &[]),
    Field("major", Untagged(Null), &[]),
    Field("minor", Untagged(Null), &[]),
    Field("access", Untagged(Text), &[]),
];

const MEMORY: &[Field] = &[
    Field("limit", Untagged(Null), &[]),
    Field("reservation", Untagged(Null), &[]),
    Field("swap", Untagged(Null), &[]),
    Field("kernel", Untagged(Null), &[]),
    Field("kernelTCP", Untagged(Null), &[]),
    Field("swappiness", Untagged(Null), &[]),
    Field("disableOOMKiller", Untagged(Null), &[]),
    Field("useHierarchy", Untagged(Null), &[]),
    Field("checkBeforeUpdate", Untagged(Null), &[]),
];

const CPU: &[Field] = &[
    Field("shares", Untagged(Null), &[]),
    Field("quota", Untagged(Null), &[]),
    Field("burst", Untagged(Null), &[]),
    Field("period", Untagged(Null), &[]),
    Field("realtimeRuntime", Untagged(Null), &[]),
    Field("realtimePeriod", Untagged(Null), &[]),
    Field("cpus", Untagged(Text), &[]),
    Field("mems", Untagged(Text), &[]),
    Field("idle", Untagged(Null), &[]),
];

const BLOCK_IO: &[Field] = &[
    Field("weight", Untagged(Null), &[]),
    Field("leafWeight", Untagged(Null), &[]),
    Field("weightDevice", Untagged(List), WEIGHT_DEVICE),
    Field("throttleReadBpsDevice", Untagged(List), THROTTLE_DEVICE),
    Field("throttleWriteBpsDevice", Untagged(List), THROTTLE_DEVICE),
    Field("throttleReadIOPSDevice", Untagged(List), THROTTLE_DEVICE),
    Field("throttleWriteIOPSDevice", Untagged(List), THROTTLE_DEVICE),
];

const WEIGHT_DEVICE: &[Field] = &[
    Field("major", Bare(Number), &[]),
    Field("minor", Bare(Number), &[]),
    Field("weight", Untagged(Null), &[]),
    Field("leafWeight", Untagged(Null), &[]),
];

const THROTTLE_DEVICE: &[Field] = &[
    Field("major", Bare(Number), &[]),
    Field("minor", Bare(Number), &[]),
    Field("rate", Bare(Number), &[]),
];

const HUGEPAGE_LIMIT: &[Field] =
    &[Field("pageSize", Bare(Text), &[]), Field("limit", Bare(Number), &[])];

const NETWORK: &[Field] = &[
    Field("classID", Untagged(Null), &[]),
    Field(
        "priorities",
        Untagged(List),
        &[Field("name", Bare(Text), &[]), Field("priority", Bare(Number), &[])],
    ),
];
