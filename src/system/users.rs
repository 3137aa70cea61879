//! Users by name: each container has a number of its own, which others may
//! name as `uid` or `gid`.
//!
//! Follows LinuxKit: numbered from 100 over onboot, onshutdown and services;
//! a repeated name keeps the last number; `""` and `root` are 0.

use std::collections::BTreeMap;

use crate::manifest::{Id, Invalid, Manifest, Spanned};

const FIRST: u32 = 100;

/// The numbers of the containers' names.
#[derive(Clone, Debug, Default)]
pub(super) struct Users(BTreeMap<String, u32>);

impl Users {
    /// Numbers the containers of a manifest.
    pub(super) fn of(manifest: &Manifest) -> Self {
        let names = manifest.containers().map(|container| container.name.value.clone());
        Self(names.zip(FIRST..).collect())
    }

    /// Returns the number of an id; an absent one is root's.
    pub(super) fn id(&self, id: Option<&Spanned<Id>>) -> Result<u32, Invalid> {
        let Some(id) = id else {
            return Ok(0);
        };
        match &id.value {
            Id::Number(number) => Ok(*number),
            Id::Name(name) if name.is_empty() || name == "root" => Ok(0),
            Id::Name(name) => self.0.get(name).copied().ok_or_else(|| {
                id.at.invalid(format!("expected a number or a container's name, got `{name}`"))
            }),
        }
    }
}
