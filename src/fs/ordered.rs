//! Runs jobs on all processors and gives their results back in the order in
//! which the jobs came, so that what is made of them does not depend on the
//! number of processors. The number of jobs under way is bounded.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::time::Duration;

use crate::store;

/// How much memory the jobs under way may hold, in bytes.
const MEMORY: usize = 48 << 20;

/// Jobs under way, the oldest first.
#[derive(Debug)]
pub(crate) struct Ordered<T> {
    pending: VecDeque<Receiver<T>>,
    limit: usize,
}

impl<T: Send + 'static> Ordered<T> {
    /// Makes an empty queue for jobs that each hold about `each` bytes.
    pub(crate) fn new(each: usize) -> Self {
        debug_assert!(store::may_be_lent(), "a maker that waits for jobs works in parallel");
        let threads = rayon::current_num_threads();
        let wanted = 4 * threads + 4;
        let limit = wanted.min(MEMORY / each.max(1)).max(threads.min(64) + 1);
        Self { pending: VecDeque::new(), limit }
    }

    /// Starts a job. Gives the oldest job's result once too many are under way.
    pub(crate) fn push(&mut self, job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let oldest = if self.pending.len() >= self.limit { self.next() } else { None };
        let (sender, receiver) = sync_channel(1);
        rayon::spawn_fifo(move || {
            // The receiver is gone only where an error ended the writing.
            drop(sender.send(job()));
        });
        self.pending.push_back(receiver);
        oldest
    }

    /// Waits for the oldest job; `None` when there is none.
    pub(crate) fn next(&mut self) -> Option<T> {
        let receiver = self.pending.pop_front()?;
        Some(wait(&receiver))
    }
}

/// Waits for a result. On one of rayon's own threads it works off other jobs
/// meanwhile: were all threads to wait, nobody would run the jobs.
fn wait<T>(receiver: &Receiver<T>) -> T {
    const SENT: &str = "a job sends its result";
    if rayon::current_thread_index().is_none() {
        return receiver.recv().expect(SENT);
    }
    loop {
        match receiver.try_recv() {
            Ok(value) => return value,
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => unreachable!("{SENT}"),
        }
        if rayon::yield_now() == Some(rayon::Yield::Executed) {
            continue;
        }
        match receiver.recv_timeout(Duration::from_millis(1)) {
            Ok(value) => return value,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => unreachable!("{SENT}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doubled(count: u64) -> Vec<u64> {
        let mut jobs = Ordered::new(1 << 20);
        let mut all = Vec::new();
        for n in 0..count {
            all.extend(jobs.push(move || n * 2));
        }
        while let Some(value) = jobs.next() {
            all.push(value);
        }
        all
    }

    #[test]
    fn keeps_the_order_on_any_thread() {
        let expected: Vec<u64> = (0..500).map(|n| n * 2).collect();
        assert_eq!(doubled(500), expected);
        for threads in [1, 2, 4] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(|| doubled(500)), expected, "{threads} threads");
        }
    }
}
