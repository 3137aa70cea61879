//! `runtime.json`: what init prepares around a container, beside its OCI `config.json`.
//!
//! The first six keys are LinuxKit's and always written, in its order and shape. `restart`,
//! `after` and `ready` are ours and written only when set, so that a manifest without them
//! gives LinuxKit's JSON. Reading is lenient: a missing or null key is its default, an
//! unknown key is passed over.

use serde::{Deserialize, Deserializer, Serialize};

use crate::{Ready, Restart};

/// What init prepares for one container, and how it keeps it running.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Runtime {
    /// Control groups to make, paths below the cgroup root.
    #[serde(deserialize_with = "nullable")]
    pub cgroups: Vec<String>,
    /// Mounts to make in the root name space, in order, before [`Runtime::mkdir`].
    #[serde(deserialize_with = "nullable")]
    pub mounts: Vec<Mount>,
    /// Folders to make, mode 0755; a relative one is below the container's rootfs.
    #[serde(deserialize_with = "nullable")]
    pub mkdir: Vec<String>,
    /// Network interfaces to make in or move into the container.
    #[serde(deserialize_with = "nullable")]
    pub interfaces: Vec<Interface>,
    /// Where to bind the container's name spaces, so that others can join them.
    #[serde(rename = "bindNS", deserialize_with = "nullable")]
    pub bind_ns: Namespaces,
    /// The containerd namespace of the service; empty is LinuxKit's `services.linuxkit`.
    #[serde(deserialize_with = "nullable")]
    pub namespace: String,
    /// When to start the service again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// Services that must be ready (or have failed) before this one starts.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub after: Vec<String>,
    /// How to tell that the service is ready; without it, it is ready once started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<Ready>,
}

/// A mount, as in the OCI runtime specification ("Mounts").
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Where; a relative path is below the container's rootfs.
    #[serde(deserialize_with = "nullable")]
    pub destination: String,
    /// The file system's type.
    #[serde(
        rename = "type",
        skip_serializing_if = "String::is_empty",
        deserialize_with = "nullable"
    )]
    pub kind: String,
    /// What: a device, a path, or any word.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub source: String,
    /// Options as mount(8) spells them.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub options: Vec<String>,
}

/// A network interface to make in or move into a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub name: String,
    /// The kind to make (`veth`, `dummy`, ...); empty moves an existing one.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub add: String,
    /// The other end of a veth pair, which stays outside.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub peer: String,
    /// Makes it in the root name space first and moves it then.
    #[serde(rename = "createInRoot", deserialize_with = "nullable")]
    pub create_in_root: bool,
}

/// Paths to bind a container's name spaces to; empty ones are not bound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "each is the path for the name space of its name")]
pub struct Namespaces {
    #[serde(deserialize_with = "nullable")]
    pub cgroup: String,
    #[serde(deserialize_with = "nullable")]
    pub ipc: String,
    #[serde(deserialize_with = "nullable")]
    pub mnt: String,
    #[serde(deserialize_with = "nullable")]
    pub net: String,
    #[serde(deserialize_with = "nullable")]
    pub pid: String,
    #[serde(deserialize_with = "nullable")]
    pub user: String,
    #[serde(deserialize_with = "nullable")]
    pub uts: String,
}

impl Namespaces {
    /// Lists (name under `/proc/PID/ns`, path) for each name space to bind.
    pub fn bound(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("cgroup", self.cgroup.as_str()),
            ("ipc", &self.ipc),
            ("mnt", &self.mnt),
            ("net", &self.net),
            ("pid", &self.pid),
            ("user", &self.user),
            ("uts", &self.uts),
        ]
        .into_iter()
        .filter(|(_, path)| !path.is_empty())
    }
}

/// Reads a null as the default.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Delay, Policy, Probe};

    #[test]
    fn empty_has_linuxkits_shape() {
        let text = serde_json::to_string(&Runtime::default()).unwrap();
        assert_eq!(
            text,
            r#"{"cgroups":[],"mounts":[],"mkdir":[],"interfaces":[],"bindNS":{"cgroup":"","ipc":"","mnt":"","net":"","pid":"","user":"","uts":""},"namespace":""}"#
        );
    }

    #[test]
    fn nulls_and_missing_keys_are_defaults() {
        for text in [
            "{}",
            r#"{"mounts":null,"cgroups":null,"mkdir":null,"interfaces":null,"bindNS":null,"namespace":null,"restart":null,"ready":null,"after":null}"#,
            r#"{"bindNS":{"net":null},"unknown":1}"#,
        ] {
            assert_eq!(
                serde_json::from_str::<Runtime>(text).unwrap(),
                Runtime::default(),
                "{text}"
            );
        }
    }

    #[test]
    fn ours_are_additive() {
        let text = r#"{"restart":"always","after":["db"],"ready":{"tcp":80,"timeout":"5s"}}"#;
        let runtime: Runtime = serde_json::from_str(text).unwrap();
        assert_eq!(runtime.restart.unwrap().policy, Policy::Always);
        let ready = runtime.ready.clone().unwrap();
        assert_eq!(ready.probe, Probe::Tcp("127.0.0.1:80".into()));
        assert_eq!(ready.timeout, Delay::seconds(5));
        let again = serde_json::to_string(&runtime).unwrap();
        assert_eq!(serde_json::from_str::<Runtime>(&again).unwrap(), runtime);
    }

    /// LinuxKit's own files, when the recorded cases are beside the repository.
    #[test]
    fn golden_cases_survive_a_round_trip() {
        let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let cases = here.ancestors().map(|dir| dir.join("shared/linuxkit/golden/cases"));
        let Some(cases) = cases.filter_map(|dir| std::fs::read_dir(dir).ok()).next() else {
            eprintln!("skipped: the recorded LinuxKit cases are not here");
            return;
        };
        let mut seen = 0;
        for case in cases {
            let json = case.unwrap().path().join("json/containers");
            for section in ["onboot", "onshutdown", "services"] {
                let Ok(bundles) = std::fs::read_dir(json.join(section)) else { continue };
                for bundle in bundles {
                    let Ok(text) =
                        std::fs::read_to_string(bundle.unwrap().path().join("runtime.json"))
                    else {
                        continue;
                    };
                    let runtime: Runtime = serde_json::from_str(&text).unwrap();
                    let was: serde_json::Value = serde_json::from_str(&text).unwrap();
                    assert_eq!(serde_json::to_value(&runtime).unwrap(), was);
                    seen += 1;
                }
            }
        }
        assert!(seen > 0, "no runtime.json in the recorded cases");
    }
}
