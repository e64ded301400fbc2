//! Which dispatches of a plan wait for those before them. Between two barriers a GPU runs dispatches side by side.

use std::collections::HashMap;

use crate::core::error::Result;
use crate::gpu::{Dispatch, Reflections, Slot, View};

/// Barriers between the dispatches of a replay. Each waits for all dispatches before it. Those of copies, of which
/// kernels for software adapters have some, are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Barriers {
    /// As wgpu places them: before a dispatch with a buffer that it or the buffer's last user writes.
    pub placed: usize,
    /// If it looked at the bound ranges of buffers: before a dispatch that writes in a range which another since the
    /// last barrier binds, or binds one in which it writes.
    pub needed: usize,
}

#[derive(Clone, Copy)]
struct Access {
    buffer: usize,
    view: View,
    written: bool,
}

/// `buffer` numbers the memory of a slot.
pub(super) fn count(dispatches: &[Dispatch], buffer: &dyn Fn(Slot) -> usize) -> Result<Barriers> {
    let (mut known, mut accesses) = (Reflections::default(), vec![]);
    for d in dispatches {
        let of_entry = known.bindings(d.shader, d.entry)?;
        let access = |(name, view): &(&str, View)| {
            let written = of_entry.iter().any(|b| b.name == *name && b.written);
            Access { buffer: buffer(view.slot), view: *view, written }
        };
        accesses.push(d.bindings.iter().map(access).collect::<Vec<_>>());
    }
    Ok(Barriers { placed: placed(&accesses), needed: needed(&accesses) })
}

fn placed(accesses: &[Vec<Access>]) -> usize {
    let mut written = HashMap::new();
    let waits = |own: &&Vec<Access>| {
        let changes = |a: &&Access| written.get(&a.buffer).is_some_and(|before| *before || a.written);
        let waits = own.iter().any(|a| changes(&a));
        written.extend(own.iter().map(|a| (a.buffer, a.written)));
        waits
    };
    accesses.iter().filter(waits).count()
}

fn needed(accesses: &[Vec<Access>]) -> usize {
    let meet = |a: &Access, b: &Access| {
        let (x, y) = (a.view, b.view);
        a.buffer == b.buffer && x.offset < y.offset + y.len && y.offset < x.offset + x.len
    };
    let (mut barriers, mut since): (usize, Vec<Access>) = (0, vec![]);
    for own in accesses {
        if own.iter().any(|a| since.iter().any(|b| (a.written || b.written) && meet(a, b))) {
            barriers += 1;
            since.clear();
        }
        since.extend(own);
    }
    barriers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(buffer: usize, offset: usize, written: bool) -> Access {
        Access { buffer, view: View { slot: Slot(0), offset, len: 10 }, written }
    }

    fn both(accesses: &[&[Access]]) -> (usize, usize) {
        let accesses: Vec<Vec<Access>> = accesses.iter().map(|own| own.to_vec()).collect();
        (placed(&accesses), needed(&accesses))
    }

    #[test]
    fn a_dispatch_waits_for_what_is_written_and_before_it_writes() {
        let [read, write] = [false, true].map(|written| access(0, 0, written));
        assert_eq!(both(&[&[read], &[read], &[read]]), (0, 0));
        assert_eq!(both(&[&[write], &[read], &[read]]), (1, 1));
        assert_eq!(both(&[&[read], &[write], &[write]]), (2, 2));
        assert_eq!(both(&[&[write, access(1, 0, false)], &[access(1, 0, false)]]), (0, 0));
    }

    #[test]
    fn neighbouring_ranges_of_a_buffer_need_no_barrier_but_get_one() {
        let [low, high] = [0, 10].map(|offset| access(0, offset, true));
        assert_eq!(both(&[&[low], &[high]]), (1, 0));
        // The barrier of one buffer is also one for the others, but is placed again for each.
        let other = |written| access(1, 0, written);
        assert_eq!(both(&[&[low, other(true)], &[low], &[other(false)]]), (2, 1));
    }
}
