//! Containers as bundles in the tree: their files, `config.json` for runC,
//! `runtime.json` for init.
//!
//! A writable root is an overlay over `lower`, a read-only one a bind of
//! `rootfs` onto itself. The files of an image lie in the tree once, at its
//! first user; the others mount them from there.

use anyhow::{Context, Result};
use moby_bundle::path::{CONFIG_JSON, ROOTFS, RUNTIME_JSON};
use moby_bundle::{Interface, Mount, Namespaces, Runtime};

use super::layered::Layered;
use super::rootfs::{Resolver, prepare};
use super::volume::indented;
use super::{Assembly, Named, config};
use crate::manifest::{self, Container, ImageConfig, Service, Spanned};

/// The indentation of LinuxKit's JSON.
const INDENT: &[u8] = b"    ";

/// Which list of the manifest a container stands in.
#[derive(Clone, Copy)]
enum Section {
    Onboot,
    Onshutdown,
    Services,
}

impl Section {
    fn name(self) -> &'static str {
        match self {
            Self::Onboot => "onboot",
            Self::Onshutdown => "onshutdown",
            Self::Services => "services",
        }
    }

    /// The folder of a bundle: numbered where the order counts.
    fn folder(self, index: usize, name: &str) -> String {
        match self {
            Self::Services => format!("containers/services/{name}"),
            _ => format!("containers/{}/{index:03}-{name}", self.name()),
        }
    }
}

impl<'a> Assembly<'a> {
    /// Adds the containers of all sections.
    pub(super) fn add_containers(&mut self) -> Result<()> {
        let manifest = self.manifest;
        for (section, containers) in
            [(Section::Onboot, &manifest.onboot), (Section::Onshutdown, &manifest.onshutdown)]
        {
            for (index, container) in containers.iter().enumerate() {
                self.add_container(section, index, container, None)?;
            }
        }
        for (index, service) in manifest.services.iter().enumerate() {
            self.add_container(Section::Services, index, &service.container, Some(service))?;
        }
        Ok(())
    }

    fn add_container(
        &mut self,
        section: Section,
        index: usize,
        container: &Container,
        service: Option<&Service>,
    ) -> Result<()> {
        let named = self.image(&container.image)?;
        let label = config::label(&named.image.config, &named.name)?;
        let layered = Layered { manifest: &container.config, label: &label };
        let volumes = |name: &str| self.volume_path(name);
        let spec = config::spec(layered, &named.image.config.config, &volumes, &self.users)
            .with_context(|| format!("configuring {} {}", section.name(), container.name))?;
        let folder = section.folder(index, &container.name);
        let part = self.part(&named.name, format!("{}[{index}]", section.name()));
        self.add_folders(&folder, part)?;
        let readonly = spec.root.readonly;
        let files = self.add_files_of(named, &folder, readonly, part)?;
        let mut runtime = runtime(layered)?;
        let mounts = root_mounts(&folder, &files, readonly);
        runtime.mounts.splice(0..0, mounts);
        if let Some(service) = service {
            runtime.restart = service.restart.as_ref().map(|restart| restart.0);
            runtime.after = service.after.iter().map(|name| name.value.clone()).collect();
            runtime.ready = service.ready.as_ref().map(manifest::Ready::contract);
        }
        self.add_bytes(&format!("{folder}/{CONFIG_JSON}"), indented(&spec, INDENT)?, part)?;
        self.add_bytes(&format!("{folder}/{RUNTIME_JSON}"), indented(&runtime, INDENT)?, part)
    }

    /// Puts an image's files into a bundle, unless they are in the tree
    /// already; returns where they are.
    fn add_files_of(
        &mut self,
        named: &'a Named,
        folder: &str,
        readonly: bool,
        part: u32,
    ) -> Result<String> {
        if !readonly {
            self.add_folders(&format!("{folder}/tmp"), part)?;
        }
        self.add_folders(&format!("{folder}/{ROOTFS}"), part)?;
        if let Some(known) = self.stored.get(&named.name) {
            return Ok(known.clone());
        }
        let files = format!("{folder}/{}", if readonly { ROOTFS } else { "lower" });
        self.add_folders(&files, part)?;
        let tree = prepare(&named.image.tree, Resolver::Nobody)?;
        self.tree.graft(files.as_bytes(), &tree, part)?;
        self.stored.insert(named.name.clone(), files.clone());
        self.inventory.push((files.clone(), named));
        Ok(files)
    }
}

/// The mounts that make a container's root out of an image's files.
fn root_mounts(folder: &str, files: &str, readonly: bool) -> Vec<Mount> {
    let rootfs = format!("/{folder}/{ROOTFS}");
    let mount = |destination: &str, kind: &str, source: &str, options: &[String]| Mount {
        destination: destination.to_owned(),
        kind: kind.to_owned(),
        source: source.to_owned(),
        options: options.to_vec(),
    };
    if readonly {
        return vec![mount(&rootfs, "", &format!("/{files}"), &["bind".to_owned()])];
    }
    let tmp = format!("/{folder}/tmp");
    let layers = [
        format!("lowerdir=/{files}"),
        format!("upperdir={tmp}/upper"),
        format!("workdir={tmp}/work"),
    ];
    vec![
        mount(&tmp, "tmpfs", "tmpfs", &[]),
        // Nothing else should see the writable layer.
        mount(&tmp, "", "", &["remount".to_owned(), "private".to_owned()]),
        mount(&rootfs, "overlay", "overlay", &layers),
    ]
}

/// What the manifest or the label wants init to prepare.
fn runtime(layered: Layered<'_>) -> Result<Runtime> {
    let list = |field: fn(&manifest::Runtime) -> Option<&Vec<String>>| {
        of(layered, field).cloned().unwrap_or_default()
    };
    let mounts = of(layered, |runtime| runtime.mounts.as_ref()).map_or(&[][..], Vec::as_slice);
    let interfaces = of(layered, |runtime| runtime.interfaces.as_ref());
    Ok(Runtime {
        cgroups: list(|runtime| runtime.cgroups.as_ref()),
        mounts: mounts.iter().map(host_mount).collect(),
        mkdir: list(|runtime| runtime.mkdir.as_ref()),
        interfaces: interfaces.into_iter().flatten().map(interface).collect(),
        bind_ns: namespaces(layered),
        namespace: of(layered, |runtime| runtime.namespace.as_ref()).cloned().unwrap_or_default(),
        ..Runtime::default()
    })
}

/// Returns a field of `runtime`, each field for itself: the manifest's, else
/// the label's.
fn of<'a, T>(
    layered: Layered<'a>,
    field: impl Fn(&'a manifest::Runtime) -> Option<&'a T>,
) -> Option<&'a T> {
    layered.get(|config: &'a ImageConfig| config.runtime.as_ref().and_then(&field))
}

fn host_mount(mount: &manifest::Mount) -> Mount {
    let text = |text: &Option<Spanned<String>>| {
        text.as_ref().map(|text| text.value.clone()).unwrap_or_default()
    };
    Mount {
        destination: text(&mount.destination),
        kind: text(&mount.kind),
        source: text(&mount.source),
        options: mount.options.clone().unwrap_or_default(),
    }
}

fn interface(interface: &manifest::Interface) -> Interface {
    Interface {
        name: interface.name.clone().unwrap_or_default(),
        add: interface.add.clone().unwrap_or_default(),
        peer: interface.peer.clone().unwrap_or_default(),
        create_in_root: interface.create_in_root,
    }
}

fn namespaces(layered: Layered<'_>) -> Namespaces {
    let path = |field: fn(&manifest::Namespaces) -> Option<&String>| {
        of(layered, |runtime| runtime.bind_ns.as_ref().and_then(field)).cloned().unwrap_or_default()
    };
    Namespaces {
        cgroup: path(|ns| ns.cgroup.as_ref()),
        ipc: path(|ns| ns.ipc.as_ref()),
        mnt: path(|ns| ns.mnt.as_ref()),
        net: path(|ns| ns.net.as_ref()),
        pid: path(|ns| ns.pid.as_ref()),
        user: path(|ns| ns.user.as_ref()),
        uts: path(|ns| ns.uts.as_ref()),
    }
}
