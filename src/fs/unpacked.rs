//! The pieces of an image that were unpacked last: several files share one, and
//! a file is read in smaller pieces than it is packed in.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

/// How many pieces are kept.
const KEPT: usize = 16;

/// Where a piece stands in the image, and how long it is there.
pub(crate) type Place = (u64, u64);

/// Pieces by where they stand.
#[derive(Debug, Default)]
pub(crate) struct Unpacked {
    pieces: Mutex<VecDeque<(Place, Arc<[u8]>)>>,
}

impl Unpacked {
    /// Returns the piece at a place, unpacked by `unpack` unless it is kept.
    pub(crate) fn get(
        &self,
        place: Place,
        unpack: impl FnOnce() -> Result<Vec<u8>>,
    ) -> Result<Arc<[u8]>> {
        let lock = || self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = lock().iter().find(|piece| piece.0 == place) {
            return Ok(Arc::clone(bytes));
        }
        // Others read on meanwhile.
        let bytes: Arc<[u8]> = unpack()?.into();
        let mut pieces = lock();
        if pieces.len() == KEPT {
            pieces.pop_front();
        }
        pieces.push_back((place, Arc::clone(&bytes)));
        Ok(bytes)
    }
}
