//! One program for all fuzz targets, so that the readers are linked once.
//!
//! `fuzz --target=NAME ...` is libFuzzer's program for one of them, with all of
//! its options; `fuzz --seeds=FOLDER` writes what they start from and ends. It
//! is libFuzzer that has `main`, and options of two dashes it leaves to others.

#![no_main]

mod input;
mod seeds;
mod target;

use std::path::Path;
use std::process::exit;
use std::sync::OnceLock;

static TARGET: OnceLock<target::Run> = OnceLock::new();

/// Obeys the options of two dashes.
///
/// # Panics
/// If they are wrong: there is nobody to give an error to.
fn set_up() {
    for word in std::env::args() {
        if let Some(folder) = word.strip_prefix("--seeds=") {
            seeds::write(Path::new(folder)).unwrap_or_else(|error| panic!("{error:#}"));
            exit(0);
        }
        if let Some(name) = word.strip_prefix("--target=") {
            let run = target::find(name).unwrap_or_else(|| panic!("no target is called {name}"));
            TARGET.get_or_init(|| run);
        }
    }
}

libfuzzer_sys::fuzz_target!(init: set_up(), |data: &[u8]| {
    TARGET.get().expect("an option --target=NAME")(data);
});
