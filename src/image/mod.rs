//! Images: the layers of one reference flattened into a tree, and its config.
//!
//! Everything here works on what the store already holds; bringing it there
//! is `source/`'s business.

mod apply;
mod closure;
mod flatten;

pub use apply::{apply, find_folder, make_folder};
pub use closure::closure;
pub use flatten::{Image, flatten, manifest};
