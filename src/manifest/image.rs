//! The fields of an image: in a manifest, and in the label of an image.
//!
//! Follows LinuxKit's docs/yaml.md, "Image specification", and OCI Runtime
//! Specification 1.2 for mounts, devices and mappings. The defaults that an
//! absent field stands for are the assembly's business.

use std::collections::BTreeMap;

use super::part::{Decoder, empty_record, record};
use super::place::{Invalid, Spanned};
use super::resource::Resources;
use super::text::{Bind, Capability, Id, Mode, Rlimit, Tmpfs, words};

record! {
    /// How a container of an image is run. What is absent is taken from the
    /// image's label `org.mobyproject.config`, then from its OCI config.
    ImageConfig as "imageConfig" check check_image {
        /// Capabilities of the container, such as `CAP_NET_ADMIN`; or `all`, or `none`.
        capabilities: Option<Vec<Spanned<Capability>>> = "capabilities",
        /// Capabilities added to those of the image's label.
        capabilities_add: Option<Vec<Spanned<Capability>>> = "capabilities.add",
        /// Ambient capabilities, which programs of other users than root keep.
        ambient: Option<Vec<Spanned<Capability>>> = "ambient",
        /// Mounts in full. One at the place of a default mount replaces it.
        mounts: Option<Vec<Mount>> = "mounts",
        /// Bind mounts, `source:destination[:options]`. The source is a path or a volume.
        binds: Option<Vec<Spanned<Bind>>> = "binds",
        /// Bind mounts added to those of the image's label.
        binds_add: Option<Vec<Spanned<Bind>>> = "binds.add",
        /// Device nodes that the container may use.
        devices: Option<Vec<Device>> = "devices",
        /// File systems in memory, `destination[:options]`.
        tmpfs: Option<Vec<Spanned<Tmpfs>>> = "tmpfs",
        /// The command, instead of the image's entry point and command.
        command: Option<Vec<String>> = "command",
        /// The environment, `NAME=value`, instead of the image's.
        env: Option<Vec<Spanned<String>>> = "env",
        /// Working folder.
        cwd: Option<Spanned<String>> = "cwd",
        /// Network namespace: `host`, `new`, `none` or a path.
        net: Option<Spanned<String>> = "net",
        /// Process namespace: `host`, `new` or a path.
        pid: Option<Spanned<String>> = "pid",
        /// IPC namespace: `host`, `new` or a path.
        ipc: Option<Spanned<String>> = "ipc",
        /// Host name namespace: `host`, `new` or a path.
        uts: Option<Spanned<String>> = "uts",
        /// User namespace: `host`, `new` or a path.
        userns: Option<Spanned<String>> = "userns",
        /// Host name inside the container.
        hostname: Option<Spanned<String>> = "hostname",
        /// Makes the root file system read-only.
        readonly: Option<bool> = "readonly",
        /// Paths that are hidden from the container.
        masked_paths: Option<Vec<String>> = "maskedPaths",
        /// Paths that the container can only read.
        readonly_paths: Option<Vec<String>> = "readonlyPaths",
        /// User: a number, or the name of a container whose number to take.
        uid: Option<Spanned<Id>> = "uid",
        /// Group: a number, or the name of a container whose number to take.
        gid: Option<Spanned<Id>> = "gid",
        /// Further groups, by number or name.
        additional_gids: Option<Vec<Spanned<Id>>> = "additionalGids",
        /// Forbids the process to gain privileges, by setuid programs for instance.
        no_new_privileges: Option<bool> = "noNewPrivileges",
        /// Adjusts how soon the kernel ends the process when memory is short, -1000 to 1000.
        oom_score_adj: Option<i32> = "oomScoreAdj",
        /// How mounts propagate: `private`, `slave`, `shared` and their `r` forms.
        rootfs_propagation: Option<Spanned<String>> = "rootfsPropagation",
        /// Path of the control group.
        cgroups_path: Option<Spanned<String>> = "cgroupsPath",
        /// Limits on memory, CPU, devices and more.
        resources: Option<Resources> = "resources",
        /// Kernel parameters, set inside the container's namespaces.
        sysctl: Option<BTreeMap<String, String>> = "sysctl",
        /// Limits of the process, `name,soft,hard`, such as `nofile,100,unlimited`.
        rlimits: Option<Vec<Spanned<Rlimit>>> = "rlimits",
        /// Users of the container in a user namespace.
        uid_mappings: Option<Vec<IdMapping>> = "uidMappings",
        /// Groups of the container in a user namespace.
        gid_mappings: Option<Vec<IdMapping>> = "gidMappings",
        /// Notes for programs, passed on to the OCI config.
        annotations: Option<BTreeMap<String, String>> = "annotations",
        /// What init does on the host before it starts the container.
        runtime: Option<Runtime> = "runtime",
    }

    /// A mount. What is absent is guessed where that is safe: see `complete`.
    Mount as "mount" {
        /// Where in the container.
        destination: Option<Spanned<String>> = "destination",
        /// Type of the file system, such as `tmpfs`, `bind` or `ext4`.
        kind: Option<Spanned<String>> = "type",
        /// What is mounted: a device, a path or a volume.
        source: Option<Spanned<String>> = "source",
        /// Mount options.
        options: Option<Vec<String>> = "options",
        /// Users of an idmapped mount.
        uid_mappings: Option<Vec<IdMapping>> = "uidmappings",
        /// Groups of an idmapped mount.
        gid_mappings: Option<Vec<IdMapping>> = "gidmappings",
    }

    /// A device node, or with the path `all` every device of a type.
    Device as "device" check check_device {
        /// Path of the node; `all` for every device of the type.
        path: Option<Spanned<String>> = "path",
        /// `c` character, `b` block, `u` unbuffered, `p` pipe, `a` all of them.
        kind: Option<Spanned<DeviceKind>> = "type",
        /// Major number.
        major: Option<i64> = "major",
        /// Minor number.
        minor: Option<i64> = "minor",
        /// Permission bits, octal in quotes.
        mode: Option<Spanned<Mode>> = "mode",
    }

    /// A range of ids of the container and the host's that they stand for.
    IdMapping as "idMapping" {
        /// First id in the container.
        container_id: Option<u32> = "containerID",
        /// First id of the host.
        host_id: Option<u32> = "hostID",
        /// How many ids.
        size: Option<u32> = "size",
    }

    /// What init does on the host before it starts the container.
    Runtime as "runtime" {
        /// Control groups to create.
        cgroups: Option<Vec<String>> = "cgroups",
        /// Mounts to make on the host.
        mounts: Option<Vec<Mount>> = "mounts",
        /// Folders to create on the host.
        mkdir: Option<Vec<String>> = "mkdir",
        /// Network interfaces to create or to move into the container.
        interfaces: Option<Vec<Interface>> = "interfaces",
        /// Paths to bind the container's namespaces to.
        bind_ns: Option<Namespaces> = "bindNS",
        /// The containerd namespace of a service.
        namespace: Option<String> = "namespace",
    }

    /// A network interface to create or to move into the container.
    Interface as "interface" {
        /// Name of the interface.
        name: Option<String> = "name",
        /// Type of interface to create; absent for one that exists.
        add: Option<String> = "add",
        /// Other end of a `veth` pair, which stays on the host.
        peer: Option<String> = "peer",
        /// Creates the interface on the host first, as `wireguard` needs it.
        create_in_root: bool = "createInRoot",
    }

    /// Paths to bind the namespaces of a container to, by type.
    Namespaces as "namespaces" {
        /// Control group namespace.
        cgroup: Option<String> = "cgroup",
        /// IPC namespace.
        ipc: Option<String> = "ipc",
        /// Mount namespace.
        mnt: Option<String> = "mnt",
        /// Network namespace.
        net: Option<String> = "net",
        /// Process namespace.
        pid: Option<String> = "pid",
        /// User namespace.
        user: Option<String> = "user",
        /// Host name namespace.
        uts: Option<String> = "uts",
    }
}

words! {
    /// The type of a device.
    DeviceKind {
        /// Every type.
        All = "a",
        /// A block device.
        Block = "b",
        /// A character device.
        Character = "c",
        /// An unbuffered character device.
        Unbuffered = "u",
        /// A named pipe.
        Pipe = "p",
    }
}

impl Default for ImageConfig {
    /// Returns the fields of an image without a label: all absent.
    fn default() -> Self {
        empty_record()
    }
}

/// Type, source and destination of a [`Mount`], what was absent being guessed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompleteMount<'a> {
    /// Type of the file system.
    pub kind: &'a str,
    /// What is mounted.
    pub source: &'a str,
    /// Where in the container.
    pub destination: &'a str,
}

impl Mount {
    /// Guesses what is absent as LinuxKit does, or says what cannot be.
    pub fn complete(&self) -> Result<CompleteMount<'_>, Invalid> {
        let kind = text(&self.kind);
        let source = text(&self.source);
        let destination = text(&self.destination);
        let kind = match (kind, source, destination) {
            ("", "mqueue" | "devpts" | "proc" | "sysfs" | "cgroup", _) => source,
            ("", _, "/dev") => "tmpfs",
            ("", ..) => {
                let message = format!("the mount at `{destination}` has no `type`");
                return Err(self.at.invalid(message));
            }
            (kind, ..) => kind,
        };
        let destination = match (destination, kind) {
            ("", "proc") => "/proc",
            ("", "devpts") => "/dev/pts",
            ("", "sysfs") => "/sys",
            ("", "cgroup") => "/sys/fs/cgroup",
            ("", "mqueue") => "/dev/mqueue",
            ("", _) => {
                let message = format!("the mount of type `{kind}` has no `destination`");
                return Err(self.at.invalid(message));
            }
            (destination, _) => destination,
        };
        let source = if source.is_empty() { kind } else { source };
        Ok(CompleteMount { kind, source, destination })
    }
}

fn text(text: &Option<Spanned<String>>) -> &str {
    text.as_ref().map_or("", |text| text.value.as_str())
}

/// Tells what only an image's fields together can show to be wrong.
fn check_image(config: &ImageConfig, decoder: &mut Decoder) {
    for mount in config.mounts.iter().flatten() {
        if let Err(invalid) = mount.complete() {
            decoder.problems.push(invalid);
        }
    }
    for list in [&config.capabilities, &config.capabilities_add, &config.ambient] {
        let list = list.as_deref().unwrap_or_default();
        let is_set = |entry: &&Spanned<Capability>| !matches!(entry.value, Capability::One(_));
        if let Some(set) = list.iter().find(is_set).filter(|_| list.len() > 1) {
            decoder.problems.push(set.at.invalid(format!("`{set}` must stand alone in its list")));
        }
    }
}

fn check_device(device: &Device, decoder: &mut Decoder) {
    let path = text(&device.path);
    if path.is_empty() {
        decoder.problems.push(device.at.invalid("the device has no `path`"));
    } else if path != "all" && device.mode.is_none() {
        let message = format!("the device `{path}` has no `mode`, such as \"0666\"");
        decoder.problems.push(device.at.invalid(message));
    }
}
