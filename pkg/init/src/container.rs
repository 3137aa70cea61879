//! Onboot and onshutdown containers: one after the other, through runc.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use moby_bundle::path;
use moby_bundle::report::{Entry, Outcome, What};

use crate::console::{failure, say};
use crate::error::{Error, Result};
use crate::output::Output;
use crate::world::World;
use crate::{order, prepare};

/// Where distributions put runc; LinuxKit's place first.
const RUNC: &[&str] = &["/usr/bin/runc", "/usr/sbin/runc", "/sbin/runc", "/usr/local/bin/runc"];

/// A kind of container that runs to its end.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// What the report calls it.
    pub what: What,
    /// The folder of the bundles.
    pub dir: &'static str,
    /// The folder of the logs.
    pub logs: &'static str,
    /// The word that LinuxKit begins log names with.
    pub word: &'static str,
}

/// Before the services.
pub const ONBOOT: Kind =
    Kind { what: What::Onboot, dir: path::ONBOOT, logs: path::ONBOOT_LOG, word: "onboot" };
/// On the way down.
pub const ONSHUTDOWN: Kind = Kind {
    what: What::Onshutdown,
    dir: path::ONSHUTDOWN,
    logs: path::ONSHUTDOWN_LOG,
    word: "shutdown",
};

/// Runs one container and sets down how it went; gives whether it succeeded.
pub fn run(world: &mut World, kind: Kind, name: &str, bundle: &Path) -> bool {
    let mut entry = world.begin(kind.what, name);
    world.record.put(entry.clone());
    say(format_args!("{} {name}", kind.word));
    let outcome = match attempt(world, kind, name, bundle, &mut entry) {
        Ok(0) => Outcome::Ok,
        Ok(code) => {
            failure(
                &format!("{} {name}", kind.word),
                &format!("failed with exit code {code}"),
                &entry.output,
            );
            Outcome::Failed
        }
        Err(error) => {
            failure(&format!("{} {name}", kind.word), &format!("failed: {error}"), &entry.output);
            entry.error = Some(error.to_string());
            Outcome::Failed
        }
    };
    if outcome == Outcome::Ok {
        // The tail of a success is in its log; the report stays small.
        entry.output.clear();
    }
    prepare::clean(bundle);
    world.end(entry, outcome);
    outcome == Outcome::Ok
}

fn attempt(
    world: &mut World,
    kind: Kind,
    name: &str,
    bundle: &Path,
    entry: &mut Entry,
) -> Result<i32> {
    let runtime = prepare::runtime(bundle)?;
    prepare::files(bundle, &runtime, false)?;
    let runc = Runc::find(world)?;
    let output = log(world, kind, name)?;
    let code = if prepare::has_process(&runtime) {
        let code = create(world, &runc, name, bundle, &output, entry, &runtime)?;
        // A start that failed leaves its state behind; a container of that name may come again.
        world.run(&mut runc.command(&["delete", "--force", name], None), &output)?;
        code
    } else {
        // One program instead of three where nothing is to be done between create and start.
        let mut command = runc.command(&["run", "--bundle"], Some((bundle, name)));
        let child = world.spawn(&mut command, &output)?;
        let code = world.wait_container(child.pid);
        entry.output = world.reactor.close(child);
        code
    };
    entry.exit = Some(code);
    Ok(code)
}

/// Creates the container, prepares its process, starts it and waits for its end.
fn create(
    world: &mut World,
    runc: &Runc,
    name: &str,
    bundle: &Path,
    output: &Output,
    entry: &mut Entry,
    runtime: &moby_bundle::Runtime,
) -> Result<i32> {
    let pid_file = Path::new(path::RUN).join(format!("{name}.pid"));
    let pid_text = pid_file.display().to_string();
    let mut command =
        runc.command(&["create", "--pid-file", &pid_text, "--bundle"], Some((bundle, name)));
    let (code, child) = world.run_parent(&mut command, output)?;
    let created = || -> Result<u32> {
        if code != 0 {
            return Err(Error::text(
                "creating",
                name,
                format_args!("runc ended with exit code {code}"),
            ));
        }
        let text = fs::read_to_string(&pid_file);
        let text = text.map_err(|error| Error::io("reading", pid_file.display(), &error))?;
        text.trim().parse().map_err(|error| Error::text("reading", pid_file.display(), error))
    };
    let started = created().and_then(|pid| {
        world.adopt(pid);
        prepare::process(pid, runtime)?;
        match world.run(&mut runc.command(&["start", name], None), output)? {
            (0, _) => Ok(pid),
            (code, lines) => {
                entry.output = lines;
                Err(Error::text("starting", name, format_args!("runc ended with exit code {code}")))
            }
        }
    });
    world.forget();
    let ended = started.map(|pid| world.wait_container(pid));
    let lines = world.reactor.close(child);
    if entry.output.is_empty() {
        entry.output = lines;
    }
    ended
}

/// Runs every container of a kind, in order. Stops where `go_on` says so after a failure, and
/// when somebody asked to go down meanwhile.
pub fn all(world: &mut World, kind: Kind, mut go_on: impl FnMut(&mut World) -> bool) {
    for (name, bundle) in order::bundles(kind.dir) {
        if world.request.is_some() && !world.leaving {
            break;
        }
        if !run(world, kind, &name, &bundle) && !go_on(world) {
            break;
        }
    }
}

/// Gives where a container's output goes, and LinuxKit's second name of its log.
fn log(world: &World, kind: Kind, name: &str) -> Result<Output> {
    if world.args.value(path::ARG_RUNC_CONSOLE) == Some("1") {
        return Ok(Output::Console);
    }
    let file = format!("{}.{name}.log", kind.word);
    let path = PathBuf::from(kind.logs).join(&file);
    fs::create_dir_all(kind.logs)
        .map_err(|error| Error::io("making the folder", kind.logs, &error))?;
    // LinuxKit has the two outputs in two files; ours keeps them in order in one.
    let other = PathBuf::from(kind.logs).join(format!("{}.{name}.out.log", kind.word));
    let _exists = std::os::unix::fs::symlink(file, other);
    let _exists = std::os::unix::fs::symlink(kind.logs, Path::new(path::LOG).join(kind.word));
    Ok(Output::Log { path, prefix: Some(name.to_owned()) })
}

/// Where runc is and how it is called.
struct Runc {
    program: &'static str,
    debug: bool,
}

impl Runc {
    fn find(world: &World) -> Result<Self> {
        let program = RUNC.iter().find(|program| Path::new(program).exists());
        let program = program
            .ok_or_else(|| Error::text("finding", "runc", format!("it is in none of {RUNC:?}")))?;
        Ok(Self { program, debug: world.args.value(path::ARG_RUNC_DEBUG) == Some("1") })
    }

    fn command(&self, args: &[&str], bundle: Option<(&Path, &str)>) -> Command {
        let mut command = Command::new(self.program);
        if self.debug {
            command.arg("--debug");
        }
        command.args(args);
        if let Some((bundle, name)) = bundle {
            command.arg(bundle).arg(name);
        }
        command
    }
}
