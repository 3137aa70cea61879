//! `service`: starts the services of an image through containerd, keeps them, and takes
//! commands about them.
//!
//! `service system-init` is the manager, which init starts and keeps running; the other
//! commands talk to it through a socket. Its standard output is the row of events that init
//! puts into the boot report. Single-threaded, on tokio; services survive the death of
//! containerd and of the manager itself.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot go on fails"))]

mod containerd;
mod control;
mod manager;
mod probe;
mod status;
mod unit;

use std::process::ExitCode;

use moby_init::console::say;

const USAGE: &str = "usage: service list
       service start|stop|restart|logs NAME
       service system-init";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["system-init"] => run(manager::run()),
        ["list"] => run(control::ask("list", "")),
        [command @ ("start" | "stop" | "restart"), name] => run(control::ask(command, name)),
        ["logs", name] => run(async { control::logs(name) }),
        _ => {
            say(USAGE);
            ExitCode::from(2)
        }
    }
}

fn run(work: impl Future<Output = moby_init::Result<()>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => tokio::task::LocalSet::new().block_on(&runtime, work),
        Err(error) => Err(moby_init::Error::io("starting", "the runtime", &error)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(error);
            ExitCode::FAILURE
        }
    }
}
