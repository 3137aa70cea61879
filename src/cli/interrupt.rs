//! Ctrl-C and a polite kill: what is half-written goes, one line is said,
//! exit code 1.

use std::process;
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

use super::ui;
use crate::format;

/// Waits for a signal beside the program's work. Where that cannot be had,
/// a signal ends the program as signals do.
pub(super) fn end_cleanly() {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else {
        return;
    };
    thread::spawn(move || {
        if let Some(name) = runtime.block_on(next()) {
            format::abandon();
            ui::error(&anyhow::anyhow!("ended by {name}: nothing was written"));
            process::exit(1);
        }
    });
}

async fn next() -> Option<&'static str> {
    let mut interrupt = signal(SignalKind::interrupt()).ok()?;
    let mut terminate = signal(SignalKind::terminate()).ok()?;
    tokio::select! {
        _ = interrupt.recv() => Some("an interrupt"),
        _ = terminate.recv() => Some("a request to terminate"),
    }
}
