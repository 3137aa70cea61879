//! `--virtiofs`: folders of the host in the guest, each by a virtiofsd of its own.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::process::{self, Program, Streams};
use crate::error::WithHint;

/// Where distributions put the program; none has it in the search path.
const PLACES: &[&str] =
    &["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/lib/virtiofsd"];
/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(5);

/// The programs that serve the folders, ended when dropped.
#[derive(Debug, Default)]
pub struct Shares {
    children: Vec<Child>,
    /// The sockets that they listen on, in the order of the folders.
    pub sockets: Vec<PathBuf>,
}

/// Serves `folders` on sockets in `state`.
pub fn serve(
    folders: &[PathBuf],
    program: Option<&Path>,
    state: &Path,
    search: &str,
) -> Result<Shares> {
    let mut shares = Shares::default();
    if folders.is_empty() {
        return Ok(shares);
    }
    let places = || PLACES.iter().map(PathBuf::from).find(|place| place.is_file());
    let program = program.map(Path::to_owned).or_else(places);
    let program = program
        .or_else(|| process::find("virtiofsd", search))
        .ok_or_else(|| anyhow!("the program `virtiofsd` is not installed"))
        .hint(|| "install the Debian package virtiofsd, or name it with --virtiofsd FILE".into())?;
    for (index, folder) in folders.iter().enumerate() {
        if !folder.is_dir() {
            bail!("{} is not a folder", folder.display());
        }
        let socket = state.join(format!("virtiofs{index}"));
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", socket.display()));
            }
            _ => {}
        }
        let args = vec![
            format!("--socket-path={}", socket.display()),
            "-o".to_owned(),
            format!("source={}", folder.display()),
        ];
        let child = Program::new(&program, args).spawn(Streams::ErrorsShown)?;
        shares.children.push(child);
        shares.await_socket(&socket)?;
        shares.sockets.push(socket);
    }
    Ok(shares)
}

impl Shares {
    fn await_socket(&mut self, socket: &Path) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !socket.exists() {
            let child = self.children.last_mut().expect("one was just started");
            if let Some(status) = child.try_wait().context("waiting for virtiofsd")? {
                bail!("virtiofsd ended with {status}");
            }
            if Instant::now() > end {
                bail!("virtiofsd does not listen on {}", socket.display());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Shares {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It ends by itself with QEMU, and may have.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
