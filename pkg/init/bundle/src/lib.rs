//! The contract between moby, which writes images, and the init inside them.
//!
//! Everything that both sides must spell alike stands here: the paths of the image
//! ([`path`]), a container's `runtime.json` ([`Runtime`]), the boot report ([`report`]) and
//! the index of kernel modules ([`modules`]). No input or output: callers bring the bytes
//! and the JSON library.
//!
//! What init does with it is told in `pkg/init/README.md`.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails")
)]

pub mod delay;
pub mod modules;
pub mod order;
pub mod path;
pub mod ready;
pub mod report;
pub mod restart;
pub mod runtime;

pub use delay::Delay;
pub use ready::{Probe, Ready};
pub use restart::{Policy, Restart};
pub use runtime::{Interface, Mount, Namespaces, Runtime};
