//! Which dispatches of a plan wait for those before them. Between two barriers a GPU runs dispatches side by side.

use std::collections::HashMap;

use crate::core::error::Result;
use crate::gpu::{Dispatch, Slot, View, bindings_of};

/// Barriers of one replay. Each waits for all dispatches before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Barriers {
    /// As wgpu places them: before a dispatch with a buffer that it or the buffer's last user writes.
    pub placed: usize,
    /// The least: before a dispatch that writes an element which another since the last barrier reads or writes, or
    /// reads one that it writes.
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
    let mut known = HashMap::new();
    let mut accesses = vec![];
    for d in dispatches {
        if !known.contains_key(d.shader) {
            known.insert(*d.shader, bindings_of(d.shader)?);
        }
        let of_entry = &known[d.shader][d.entry];
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
