//! containerd and the service manager, both kept running.

use std::fs;
use std::path::{Path, PathBuf};

use moby_bundle::path;

use super::Done;
use crate::daemon::{ContainerdOptions, Daemon};
use crate::error::{Error, Result};
use crate::order;
use crate::output::Output;
use crate::world::World;

const CONTAINERD: &[&str] =
    &["/usr/bin/containerd", "/bin/containerd", "/usr/local/bin/containerd"];
const SERVICE: &[&str] = &["/usr/bin/service", "/bin/service"];

/// The name of the daemon that manages services.
pub(super) const NAME: &str = "service";

fn find(places: &[&str]) -> Option<PathBuf> {
    places.iter().map(PathBuf::from).find(|place| place.exists())
}

pub(super) fn containerd(world: &mut World) -> Result<Done> {
    let Some(program) = find(CONTAINERD) else {
        if order::bundles(path::SERVICES).is_empty() {
            return Ok(Done::Nothing);
        }
        return Err(Error::text(
            "finding",
            "containerd",
            "the image has services but no /usr/bin/containerd",
        ));
    };
    let text = fs::read_to_string(path::CONTAINERD_OPTIONS).unwrap_or_default();
    let options = ContainerdOptions::parse(&text);
    let output = options.output();
    world.daemons.push(Daemon::new("containerd", program, options.args, output));
    Ok(Done::Yes)
}

pub(super) fn services(world: &mut World) -> Result<Done> {
    if order::bundles(path::SERVICES).is_empty() {
        return Ok(Done::Nothing);
    }
    let Some(program) = find(SERVICE) else {
        return Err(Error::text(
            "finding",
            "service",
            format_args!("it is in none of {SERVICE:?}"),
        ));
    };
    if !Path::new(CONTAINERD[0]).exists() && find(CONTAINERD).is_none() {
        return Ok(Done::Nothing);
    }
    let args = vec!["system-init".to_owned()];
    world.daemons.push(Daemon::new(NAME, program, args, Output::Events));
    Ok(Done::Yes)
}
