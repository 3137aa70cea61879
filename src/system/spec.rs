//! The OCI runtime configuration, `config.json`, as far as moby writes it.
//!
//! Follows OCI Runtime Specification 1.2.1. What is empty is left out, key by
//! key as LinuxKit's JSON has it, so that its golden cases stay equal.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// The version of the specification that is written.
pub(super) const VERSION: &str = "1.2.1";

/// The whole of `config.json`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    pub(super) oci_version: &'static str,
    pub(super) process: Process,
    pub(super) root: Root,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) hostname: String,
    pub(super) mounts: Vec<Mount>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) linux: Linux,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Process {
    pub(super) user: User,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) args: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) env: Vec<String>,
    pub(super) cwd: String,
    pub(super) capabilities: Capabilities,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) rlimits: Vec<Rlimit>,
    #[serde(skip_serializing_if = "is_false")]
    pub(super) no_new_privileges: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) oom_score_adj: Option<i32>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) additional_gids: Vec<u32>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Capabilities {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) bounding: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) effective: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) inheritable: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) permitted: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) ambient: Vec<&'static str>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Rlimit {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) hard: u64,
    pub(super) soft: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Root {
    pub(super) path: &'static str,
    #[serde(skip_serializing_if = "is_false")]
    pub(super) readonly: bool,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Mount {
    pub(super) destination: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) source: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) options: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) uid_mappings: Vec<IdMapping>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) gid_mappings: Vec<IdMapping>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Linux {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) uid_mappings: Vec<IdMapping>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) gid_mappings: Vec<IdMapping>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) sysctl: BTreeMap<String, String>,
    pub(super) resources: Value,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) cgroups_path: String,
    pub(super) namespaces: Vec<Namespace>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) devices: Vec<Device>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) rootfs_propagation: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) masked_paths: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) readonly_paths: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct IdMapping {
    #[serde(rename = "containerID")]
    pub(super) container_id: u32,
    #[serde(rename = "hostID")]
    pub(super) host_id: u32,
    pub(super) size: u32,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Namespace {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) path: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Device {
    pub(super) path: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) major: i64,
    pub(super) minor: i64,
    pub(super) file_mode: u16,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !*value
}
