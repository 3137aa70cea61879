//! Commands to the running manager: one line to its socket, `ok` or `error: ...` back, and
//! then text until the end.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;

use moby_bundle::path;
use moby_init::console::say;
use moby_init::error::{Error, Result};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::spawn_local;

use crate::manager::Units;
use crate::status::{Phase, table};

/// Answers commands for ever.
pub(crate) async fn serve(units: Rc<Units>) -> Result<()> {
    let fail = |error: std::io::Error| Error::io("listening at", path::SERVICE_SOCKET, &error);
    fs::create_dir_all(path::RUN).map_err(fail)?;
    // Of a manager that died.
    let _absent = fs::remove_file(path::SERVICE_SOCKET);
    let listener = UnixListener::bind(path::SERVICE_SOCKET).map_err(fail)?;
    fs::set_permissions(path::SERVICE_SOCKET, fs::Permissions::from_mode(0o600)).map_err(fail)?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let units = Rc::clone(&units);
                // Whoever hangs up early does not want the answer.
                spawn_local(async move { drop(converse(stream, &units).await) });
            }
            Err(error) => {
                say(fail(error));
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, units: &Units) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    (&mut stream).take(1024).read_line(&mut line).await?;
    let (command, name) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
    let answer = match answer(units, command, name).await {
        Ok(text) => format!("ok\n{text}"),
        Err(reason) => format!("error: {reason}\n"),
    };
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

async fn answer(units: &Units, command: &str, name: &str) -> std::result::Result<String, String> {
    if command == "list" {
        let rows: Vec<_> =
            units.values().map(|unit| (unit.phase(), unit.pid.get(), unit.entry())).collect();
        return Ok(table(&rows));
    }
    let Some(unit) = units.get(name) else {
        return Err(format!("no service {name} in this image"));
    };
    if matches!(command, "stop" | "restart") {
        unit.want(false);
        unit.down().await;
    }
    if matches!(command, "start" | "restart") {
        unit.want(true);
        unit.started().await;
    }
    match (command, unit.phase()) {
        ("start" | "restart", Phase::Failed) => Err(format!("{name} failed: {}", unit.reason())),
        ("start" | "restart" | "stop", _) => Ok(String::new()),
        _ => Err(format!("no command {command}")),
    }
}

/// Sends a command to the manager and prints its answer.
pub(crate) async fn ask(command: &str, name: &str) -> Result<()> {
    let fail = |error: std::io::Error| Error::io("asking", path::SERVICE_SOCKET, &error);
    let mut stream = UnixStream::connect(path::SERVICE_SOCKET).await.map_err(fail)?;
    stream.write_all(format!("{command} {name}\n").as_bytes()).await.map_err(fail)?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.map_err(fail)?;
    match text.split_once('\n') {
        Some(("ok", rest)) => print(rest.as_bytes()),
        Some((reason, _)) => {
            Err(Error::text("asking for", format_args!("{command} {name}"), reason))
        }
        None => Err(Error::text("asking for", format_args!("{command} {name}"), "no answer")),
    }
}

/// Prints a service's log.
pub(crate) fn logs(name: &str) -> Result<()> {
    let log = Path::new(path::LOG).join(format!("{name}.log"));
    let mut file =
        fs::File::open(&log).map_err(|error| Error::io("opening", log.display(), &error))?;
    let copied = std::io::copy(&mut file, &mut std::io::stdout());
    copied.map(drop).map_err(|error| Error::io("printing", log.display(), &error))
}

fn print(bytes: &[u8]) -> Result<()> {
    let printed = std::io::stdout().write_all(bytes);
    printed.map_err(|error| Error::io("printing", "the answer", &error))
}
