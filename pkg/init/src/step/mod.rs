//! The boot, a table of named steps in their order.
//!
//! A step that fails is told at the console and set down in the report; the next one is done
//! all the same, for a system that half works can be looked at.

mod clock;
mod data;
mod disk;
mod filesystem;
mod network;
mod root;
mod script;
mod service;
mod volume;

use std::fs;
use std::path::Path;

use moby_bundle::path;
use moby_bundle::report::{Outcome, What};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::console::{line, say};
use crate::error::{Error, Result};
use crate::module::Modules;
use crate::world::{Action, World};
use crate::{container, order};

/// A step that had something to do, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// It did its work.
    Yes,
    /// There was nothing to do.
    Nothing,
}

/// One step of the boot.
#[derive(Debug)]
pub struct Step {
    /// Its name in the report.
    pub name: &'static str,
    /// What it does, in a few words.
    pub about: &'static str,
    /// It is the machine's: left out where init runs in a container.
    pub machine: bool,
    /// Does it.
    pub run: fn(&mut World) -> Result<Done>,
}

const fn machine(
    name: &'static str,
    about: &'static str,
    run: fn(&mut World) -> Result<Done>,
) -> Step {
    Step { name, about, machine: true, run }
}

const fn any(name: &'static str, about: &'static str, run: fn(&mut World) -> Result<Done>) -> Step {
    Step { name, about, machine: false, run }
}

/// The boot.
pub const STEPS: &[Step] = &[
    machine(
        "disk-root",
        "with root=, hands over from a small initrd to the disk's init",
        disk::run,
    ),
    machine("root", "makes an initramfs a root that runc can pivot away from", root::run),
    machine(
        "mounts",
        "proc, sys, dev, run, tmp, var and the kernel's other file systems",
        filesystem::mounts,
    ),
    machine("devices", "the links and nodes in /dev that programs expect", filesystem::devices),
    machine("cgroups", "control groups v2, or v1 by kernel argument", filesystem::cgroups),
    machine("modules", "kernel modules that the devices and the configuration ask for", modules),
    machine("data", "with moby.data=, /var from a partition that grows", data::run),
    machine(
        "root-read-only",
        "nothing writes to the root, but with the kernel argument rw",
        filesystem::read_only,
    ),
    machine("clock", "the system clock from the hardware's", clock::run),
    machine("loopback", "the loopback interface", network::loopback),
    any("limits", "open files and processes", limits),
    any(
        "hostname",
        "from /etc/hostname, the kernel argument, or the first network card",
        network::hostname,
    ),
    any("resolv.conf", "the file that /etc/resolv.conf links to", network::resolver),
    any("scripts", "LinuxKit's /etc/init.d, those before 010", script::early),
    any("volumes", "the volumes of the image", volume::run),
    any("onboot", "onboot containers, one after the other", onboot),
    any("scripts-late", "LinuxKit's /etc/init.d, the others", script::late),
    any("containerd", "containerd, and kept running", service::containerd),
    any("services", "the service manager, and kept running", service::services),
];

/// Does all steps; stops when somebody asks to go down.
pub fn all(world: &mut World) {
    for step in STEPS {
        if world.request.is_some() {
            return;
        }
        if step.machine && world.contained {
            continue;
        }
        let mut entry = world.begin(What::Step, step.name);
        world.record.put(entry.clone());
        let outcome = match (step.run)(world) {
            Ok(Done::Yes) => Outcome::Ok,
            Ok(Done::Nothing) => Outcome::Skipped,
            Err(error) => {
                say(format_args!("{}: {error}", step.name));
                entry.error = Some(error.to_string());
                Outcome::Failed
            }
        };
        world.end(entry, outcome);
    }
    if !world.daemons.iter().any(|daemon| daemon.name == service::NAME) {
        // Nobody will tell that the services are up.
        world.record.finish();
    }
}

/// Runs LinuxKit's `/etc/shutdown.d`.
pub fn scripts_down(world: &mut World) -> Result<Done> {
    script::down(world)
}

/// Does every one of a step's works, telling what fails; the first failure is the step's.
fn each<T>(
    works: impl IntoIterator<Item = T>,
    mut work: impl FnMut(T) -> Result<()>,
) -> Result<Done> {
    let mut first = None;
    for item in works {
        if let Err(error) = work(item) {
            match &first {
                None => first = Some(error),
                Some(_) => say(error),
            }
        }
    }
    first.map_or(Ok(Done::Yes), Err)
}

fn modules(world: &mut World) -> Result<Done> {
    // The kernel asks for file systems and netfilter extensions by this path; init answers
    // where no modprobe is in the image.
    if !Path::new("/sbin/modprobe").exists() && Path::new("/proc/sys/kernel/modprobe").exists() {
        write("/proc/sys/kernel/modprobe", "/init")?;
    }
    world.modules = Modules::open()?;
    if world.modules.is_empty() {
        return Ok(Done::Nothing);
    }
    world.modules.survey();
    world.reactor.listen(network::device_events()?);
    world.modules.devices();
    let wanted = wanted_modules(world.args.value(path::ARG_MODULES).unwrap_or_default());
    each(wanted, |name| world.modules.load_named(&name))
}

/// Lists the modules that somebody wrote down: the kernel argument's, then the files'.
fn wanted_modules(argument: &str) -> Vec<String> {
    let mut wanted: Vec<String> = argument.split(',').map(str::to_owned).collect();
    let files = order::files(Path::new(path::MODULES_LOAD));
    for file in
        files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "conf"))
    {
        let text = fs::read_to_string(file).unwrap_or_default();
        wanted.extend(module_names(&text));
    }
    wanted.retain(|name| !name.is_empty());
    wanted
}

/// Reads modules-load.d(5): a name a line, `#` and `;` begin a remark.
fn module_names(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with(['#', ';']))
        .map(str::to_owned)
        .collect()
}

fn limits(_: &mut World) -> Result<Done> {
    let files = Rlimit { current: Some(1_048_576), maximum: Some(1_048_576) };
    let processes = Rlimit { current: None, maximum: None };
    let limits =
        [("open files", Resource::Nofile, files), ("processes", Resource::Nproc, processes)];
    each(limits, |(name, resource, limit)| {
        setrlimit(resource, limit).map_err(|errno| Error::new("setting the limit of", name, errno))
    })
}

fn onboot(world: &mut World) -> Result<Done> {
    if order::bundles(path::ONBOOT).is_empty() {
        return Ok(Done::Nothing);
    }
    // A container that fails has an entry of its own, which says more.
    container::all(world, container::ONBOOT, |world| match world.args.value(path::ARG_ONFAILURE) {
        Some("poweroff") => {
            world.request.get_or_insert(Action::Poweroff);
            false
        }
        Some("shell") => {
            shell(world);
            true
        }
        _ => true,
    });
    Ok(Done::Yes)
}

/// Gives whoever sits at the console a shell and goes on when it ends.
fn shell(world: &mut World) {
    line("moby: a shell at your service; the boot goes on when it ends");
    let mut command = std::process::Command::new("/bin/sh");
    match world.reactor.spawn_interactive(&mut command) {
        Ok(child) => {
            world.watch(child);
            world.wait(child.pid, None);
        }
        Err(error) => say(error),
    }
}

/// Writes a short text into a file that is there.
fn write(path: &str, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|error| Error::io("writing", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), STEPS.len());
    }

    #[test]
    fn reads_module_lists() {
        assert_eq!(module_names("# x\nloop\n\n ; y\n br_netfilter \n"), ["loop", "br_netfilter"]);
        assert_eq!(wanted_modules("a,,b")[..2], ["a", "b"]);
    }

    #[test]
    fn the_first_failure_is_the_steps() {
        let result = each([1, 2, 3], |number| match number {
            1 => Ok(()),
            other => Err(Error::text("counting", other, "enough")),
        });
        assert_eq!(result.unwrap_err().path, "2");
        assert_eq!(each([1], |_| Ok(())), Ok(Done::Yes));
    }
}
