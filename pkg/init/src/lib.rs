//! PID 1 of the images that moby builds, and what it shares with `service`.
//!
//! The boot is a table of named steps ([`step::STEPS`]); everything after it is one loop
//! around poll(2) ([`world::World::turn`]) that reaps, passes on output, keeps containerd and
//! the service manager running, and waits for the signal to go down ([`shutdown`]). One
//! thread, no async, unsafe only in [`sys`]. What it leaves out: services themselves, which
//! the `service` program starts through containerd.
//!
//! The contract with the image stands in the `moby-bundle` crate, the manual in `README.md`.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot go on fails"))]

pub mod cmdline;
pub mod console;
pub mod container;
pub mod daemon;
pub mod error;
pub mod grow;
pub mod module;
pub mod mount;
pub mod netlink;
pub mod order;
pub mod output;
pub mod partition;
pub mod port;
pub mod prepare;
pub mod reactor;
pub mod record;
pub mod shutdown;
pub mod step;
pub mod sys;
pub mod world;

pub use error::{Error, Result};
