//! One value out of layers: the manifest's, else the label's, else a default.
//! All of LinuxKit's merging rules come down to these few functions.

use crate::manifest::{ImageConfig, Spanned};

/// What says how a container is run: the manifest above the image's label.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layered<'a> {
    /// The manifest's entry.
    pub(super) manifest: &'a ImageConfig,
    /// The image's label `org.mobyproject.config`.
    pub(super) label: &'a ImageConfig,
}

impl<'a> Layered<'a> {
    /// Returns what the upper layer gives, even if empty, else the lower.
    pub(super) fn get<T: ?Sized>(
        &self,
        field: impl Fn(&'a ImageConfig) -> Option<&'a T>,
    ) -> Option<&'a T> {
        field(self.manifest).or_else(|| field(self.label))
    }

    /// Returns a list as [`Layered::get`] does; none is an empty one.
    pub(super) fn list<T>(&self, field: impl Fn(&'a ImageConfig) -> &'a Option<Vec<T>>) -> &'a [T] {
        self.get(|config| field(config).as_deref()).unwrap_or_default()
    }

    /// Returns a list of the manifest's, else the label's and what the
    /// manifest's `.add` adds to it, each value once.
    pub(super) fn added<T: PartialEq>(
        &self,
        field: impl Fn(&'a ImageConfig) -> &'a Option<Vec<T>>,
        add: impl Fn(&'a ImageConfig) -> &'a Option<Vec<T>>,
    ) -> Vec<&'a T> {
        if let Some(own) = field(self.manifest) {
            return own.iter().collect();
        }
        let mut all: Vec<&T> = Vec::new();
        for value in [field(self.label), add(self.manifest)].into_iter().flatten().flatten() {
            if !all.contains(&value) {
                all.push(value);
            }
        }
        all
    }

    /// Returns a word as [`Layered::get`] does, an empty one counting as none.
    pub(super) fn word(
        &self,
        field: impl Fn(&'a ImageConfig) -> &'a Option<Spanned<String>>,
    ) -> Option<&'a str> {
        let given = |config| field(config).as_ref().filter(|word| !word.is_empty());
        given(self.manifest).or_else(|| given(self.label)).map(|word| word.value.as_str())
    }
}
