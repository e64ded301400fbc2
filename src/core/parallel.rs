//! Work on all cores.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::core::error::Result;

/// What `work` makes of each item, in the order of the items. After the first error no more is started.
pub(crate) fn map_on_all_cores<T: Sync, U: Send>(
    items: &[T],
    work: impl Fn(usize, &T) -> Result<U> + Sync,
) -> Result<Vec<U>> {
    let next = AtomicUsize::new(0);
    let worker = || -> Result<Vec<(usize, U)>> {
        let mut made = vec![];
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(i) else { return Ok(made) };
            made.push((i, work(i, item).inspect_err(|_| next.store(items.len(), Ordering::Relaxed))?));
        }
    };
    let mut made = thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, NonZero::get).min(items.len());
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        let parts = workers.into_iter().map(|worker| worker.join().expect("the work does not panic"));
        parts.collect::<Result<Vec<_>>>().map(|parts| parts.into_iter().flatten().collect::<Vec<_>>())
    })?;
    made.sort_unstable_by_key(|(i, _)| *i);
    Ok(made.into_iter().map(|(_, made)| made).collect())
}
