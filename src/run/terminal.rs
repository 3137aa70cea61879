//! The terminal in raw mode while a guest has it, and as it was afterwards.

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::process::ChildStdin;
use std::sync::mpsc::Sender;
use std::task::Poll;
use std::thread;

use anyhow::{Context, Result};
use rustix::termios::{self, OptionalActions, Termios};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::session::Event;

/// Gives the terminal back as it was when dropped.
#[derive(Debug)]
pub struct Raw {
    terminal: File,
    before: Termios,
}

/// Says whether standard input is a terminal.
pub fn is_terminal() -> bool {
    io::stdin().is_terminal()
}

impl Raw {
    /// Sets the terminal of standard input to raw mode; `None` if there is none.
    pub fn set() -> Result<Option<Self>> {
        if !is_terminal() {
            return Ok(None);
        }
        let terminal = io::stdin().as_fd().try_clone_to_owned().context("opening the terminal")?;
        let before = termios::tcgetattr(&terminal).context("reading the terminal's settings")?;
        let mut raw = before.clone();
        raw.make_raw();
        // Lines of ours still have to begin at the left.
        raw.output_modes = before.output_modes;
        termios::tcsetattr(&terminal, OptionalActions::Now, &raw)
            .context("setting the terminal to raw mode")?;
        Ok(Some(Self { terminal: terminal.into(), before }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal may be gone, and then nobody sees it.
        let _ = termios::tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

/// Passes standard input to the guest until either ends. The thread is left
/// behind: a read from a terminal cannot be called off.
pub fn forward(mut guest: ChildStdin) {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        let mut input = io::stdin().lock();
        loop {
            match input.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    if guest.write_all(&buffer[..count]).and_then(|()| guest.flush()).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
}

/// Reports the signals that ask us to end, so that guest and terminal are left in order.
pub fn signals(events: Sender<Event>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("preparing for signals")?;
    thread::spawn(move || {
        runtime.block_on(async {
            let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
            // A signal that cannot be listened for keeps its own effect.
            let mut heard: Vec<(SignalKind, Signal)> =
                kinds.into_iter().filter_map(|kind| Some((kind, signal(kind).ok()?))).collect();
            let kind = poll_fn(|context| {
                let came = heard
                    .iter_mut()
                    .find_map(|(kind, heard)| heard.poll_recv(context).is_ready().then_some(*kind));
                came.map_or(Poll::Pending, Poll::Ready)
            })
            .await;
            // Nobody listens any more once the guest has ended.
            let _ = events.send(Event::Signal(kind.as_raw_value()));
        });
    });
    Ok(())
}
