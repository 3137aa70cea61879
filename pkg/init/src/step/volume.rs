//! The volumes of the image: `merged` shows `lower`, with a tmpfs above it where `tmp` is.

use std::fs;
use std::path::Path;

use moby_bundle::{Mount, path};

use super::{Done, each};
use crate::error::{Error, Result};
use crate::world::World;
use crate::{mount, order};

pub(super) fn run(_: &mut World) -> Result<Done> {
    let volumes = order::bundles(path::VOLUMES);
    if volumes.is_empty() {
        return Ok(Done::Nothing);
    }
    each(volumes, |(_, dir)| volume(&dir))
}

fn volume(dir: &Path) -> Result<()> {
    let part = |name: &str| dir.join(name);
    for name in ["lower", "merged"] {
        if !part(name).is_dir() {
            return Err(Error::text(
                "mounting the volume",
                dir.display(),
                format_args!("it has no folder {name}"),
            ));
        }
    }
    let text = |path: &Path| path.display().to_string();
    let merged = part("merged");
    if !part("tmp").is_dir() {
        // LinuxKit lays a read-only overlay; a bind shows the same and needs no overlay.
        let options = vec!["bind".to_owned(), "ro".to_owned()];
        let bind = Mount { source: text(&part("lower")), options, ..Mount::default() };
        return mount::make(&bind, &merged);
    }
    let (upper, work) = (part("tmp/upper"), part("tmp/work"));
    mount::simple("tmpfs", &text(&part("tmp")), "relatime")?;
    for dir in [&upper, &work] {
        fs::create_dir(dir)
            .map_err(|error| Error::io("making the folder", dir.display(), &error))?;
    }
    let overlay = Mount {
        kind: "overlay".to_owned(),
        source: "overlay".to_owned(),
        options: vec![
            "relatime".to_owned(),
            format!("lowerdir={}", part("lower").display()),
            format!("upperdir={}", upper.display()),
            format!("workdir={}", work.display()),
        ],
        ..Mount::default()
    };
    mount::make(&overlay, &merged)
}
