//! PID 1, and by other names the programs that talk to it: `poweroff`, `reboot`, `halt`,
//! `modprobe`. The boot is told in `moby_init::step`.

use std::path::Path;
use std::process::ExitCode;

use moby_init::console::say;
use moby_init::world::{Action, World, kill};
use moby_init::{module, shutdown, step};
use rustix::process::Signal;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let name = args.first().and_then(|name| name.rsplit('/').next()).unwrap_or_default();
    if std::process::id() == 1 {
        return init();
    }
    match name {
        "poweroff" | "shutdown" => ask(Action::Poweroff),
        "reboot" => ask(Action::Reboot),
        "halt" => ask(Action::Halt),
        "modprobe" => code(module::modprobe(&args[1..])),
        // The kernel calls us so where the image has no /sbin/modprobe.
        _ if args.get(1).is_some_and(|arg| arg == "-q") => code(module::modprobe(&args[1..])),
        _ => {
            say("I am PID 1's program; call me as poweroff, reboot, halt or modprobe");
            ExitCode::from(2)
        }
    }
}

fn code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Asks PID 1 to go down.
fn ask(action: Action) -> ExitCode {
    let signal = Signal::from_named_raw(action.signal()).expect("each action has a named signal");
    match kill(1, signal) {
        Ok(()) => ExitCode::SUCCESS,
        Err(errno) => {
            say(format_args!("{}: signalling PID 1: {errno}", action.name()));
            ExitCode::FAILURE
        }
    }
}

/// Boots, waits for the wish to go down, goes down.
fn init() -> ExitCode {
    // Where /proc is there already, somebody else made the machine: a container.
    let contained = Path::new("/proc/self").exists();
    let mut world = match World::new(contained) {
        Ok(world) => world,
        Err(error) => {
            say(error);
            return ExitCode::FAILURE;
        }
    };
    // Ctrl-alt-del becomes SIGINT for us; refused where init is in a container.
    let _refused = rustix::system::reboot(rustix::system::RebootCommand::CadOff);
    rustix::process::umask(rustix::fs::Mode::from_bits_truncate(0o022));
    step::all(&mut world);
    world.record.save();
    loop {
        while world.request.is_none() {
            world.turn(None);
        }
        if let Some(action) = world.request.take() {
            shutdown::run(&mut world, action);
        }
    }
}
