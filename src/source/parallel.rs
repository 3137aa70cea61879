//! Work on several things at once, and how many.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

use anyhow::Result;

/// Does `work` on each item with at most `workers` threads, and returns the
/// results in the order of the items. After an error nothing more is begun;
/// of several errors, that of the first item is returned.
pub(super) fn each<T: Sync, R: Send>(
    workers: usize,
    items: &[T],
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    if items.len() <= 1 || workers <= 1 {
        return items.iter().map(work).collect();
    }
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let results: Vec<Mutex<Option<Result<R>>>> = items.iter().map(|_| Mutex::new(None)).collect();
    thread::scope(|scope| {
        for _ in 0..workers.min(items.len()) {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { return };
                    let result = work(item);
                    failed.fetch_or(result.is_err(), Ordering::Relaxed);
                    *results[at].lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                }
            });
        }
    });
    // Items are begun in order: what was not begun comes after an error.
    let results =
        results.into_iter().map(|cell| cell.into_inner().unwrap_or_else(PoisonError::into_inner));
    results.map_while(|result| result).collect()
}

/// How many may do something at once.
#[derive(Debug)]
pub(super) struct Permits {
    free: Mutex<usize>,
    returned: Condvar,
}

impl Permits {
    pub(super) fn new(count: usize) -> Self {
        Self { free: Mutex::new(count.max(1)), returned: Condvar::new() }
    }

    /// Waits for a permit and holds it until it is dropped.
    pub(super) fn take(&self) -> Permit<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self
            .returned
            .wait_while(free, |free| *free == 0)
            .unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Permit(self)
    }
}

/// A permit, given back when dropped.
#[derive(Debug)]
pub(super) struct Permit<'a>(&'a Permits);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_and_the_first_error() {
        let items: Vec<u32> = (0..100).collect();
        assert_eq!(each(4, &items, |n| Ok(n * 2)).unwrap()[99], 198);
        let permits = Permits::new(2);
        let failed = each(4, &items, |n| {
            let _permit = permits.take();
            anyhow::ensure!(*n < 50, "item {n}");
            Ok(())
        });
        let text = failed.unwrap_err().to_string();
        assert!(text.starts_with("item 5"), "{text}");
    }
}
