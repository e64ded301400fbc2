//! Buffer reuse by liveness: slots with disjoint lifetimes share a buffer.

use std::rc::Rc;

use crate::gpu::Dispatch;

/// A slot of a plan.
#[derive(Clone, Debug)]
pub(super) struct SlotInfo {
    pub label: String,
    /// 4-byte elements.
    pub len: usize,
    pub lifetime: Lifetime,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Lifetime {
    /// A buffer of the caller's, by name.
    External(String),
    /// A buffer of its own with this content, never overwritten.
    Constant(Rc<[u32]>),
    /// Keeps its contents after the plan's last dispatch.
    Kept,
    /// May share memory with others.
    Transient,
}

/// Buffer of each slot: an index into the plan's own buffers (`None` for external slots and constants), and those
/// buffers' lengths.
#[derive(Clone, Debug, Default)]
pub(super) struct Assignment {
    pub buffer: Vec<Option<usize>>,
    pub lens: Vec<usize>,
}

/// Iterates over the dispatches in order; a transient slot takes the smallest fitting buffer that is free when it is
/// first used, and frees it after its last use. Slots that no dispatch uses get no memory.
pub(super) fn assign(slots: &[SlotInfo], dispatches: &[Dispatch]) -> Assignment {
    let mut first = vec![usize::MAX; slots.len()];
    let mut last = vec![0; slots.len()];
    for (at, d) in dispatches.iter().enumerate() {
        for (_, view) in &d.bindings {
            let i = view.slot.0 as usize;
            first[i] = first[i].min(at);
            last[i] = last[i].max(at);
        }
    }
    let mut out = Assignment { buffer: vec![None; slots.len()], lens: vec![] };
    let mut order: Vec<usize> = (0..slots.len()).filter(|&i| first[i] != usize::MAX).collect();
    order.sort_by_key(|&i| first[i]);
    let mut free: Vec<usize> = vec![];
    let mut busy: Vec<(usize, usize)> = vec![];
    for i in order {
        match slots[i].lifetime {
            Lifetime::External(_) | Lifetime::Constant(_) => continue,
            Lifetime::Kept => {
                out.lens.push(slots[i].len);
                out.buffer[i] = Some(out.lens.len() - 1);
            }
            Lifetime::Transient => {
                busy.retain(|&(until, buffer)| {
                    let over = until < first[i];
                    if over {
                        free.push(buffer);
                    }
                    !over
                });
                let fitting = free.iter().enumerate().filter(|(_, b)| out.lens[**b] >= slots[i].len);
                let buffer = match fitting.min_by_key(|(_, b)| out.lens[**b]).map(|(at, _)| at) {
                    Some(at) => free.swap_remove(at),
                    None => {
                        // Growing the largest free buffer wastes less than leaving it idle beside a new one.
                        match free.iter().enumerate().max_by_key(|(_, b)| out.lens[**b]).map(|(at, _)| at) {
                            Some(at) => {
                                let buffer = free.swap_remove(at);
                                out.lens[buffer] = slots[i].len;
                                buffer
                            }
                            None => {
                                out.lens.push(slots[i].len);
                                out.lens.len() - 1
                            }
                        }
                    }
                };
                busy.push((last[i], buffer));
                out.buffer[i] = Some(buffer);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Grid, Pass, Shader, Slot, View};

    static NONE: Shader = Shader::new("none.wgsl", "");

    /// A dispatch that uses these slots.
    fn uses(slots: &[u32]) -> Dispatch {
        let bindings = slots.iter().map(|&s| ("x", View { slot: Slot(s), offset: 0, len: 1 })).collect();
        Dispatch {
            op: "test",
            pass: Pass::Forward,
            shader: &NONE,
            entry: "test",
            constants: vec![],
            bindings,
            params: vec![],
            fields: &[],
            launch: Grid::folded(1, 1).no_loops(),
        }
    }

    fn slots(lens: &[usize], lifetime: Lifetime) -> Vec<SlotInfo> {
        lens.iter().map(|&len| SlotInfo { label: String::new(), len, lifetime: lifetime.clone() }).collect()
    }

    #[test]
    fn a_chain_needs_two_buffers_that_grow_with_it() {
        let chain: Vec<Dispatch> = (0..4).map(|i| uses(&[i, i + 1])).collect();
        let out = assign(&slots(&[10, 20, 30, 5, 40], Lifetime::Transient), &chain);
        assert_eq!(out.lens.len(), 2);
        assert!(out.buffer.iter().zip([10, 20, 30, 5, 40]).all(|(buffer, len)| out.lens[buffer.unwrap()] >= len));
        assert!((0..4).all(|i| out.buffer[i] != out.buffer[i + 1]), "neighbours are alive together");
    }

    #[test]
    fn what_is_alive_together_never_shares() {
        // Slot 0 is needed again at the end, as a saved activation is by backward.
        let out = assign(
            &slots(&[8; 5], Lifetime::Transient),
            &[uses(&[0, 1]), uses(&[1, 2]), uses(&[2, 3]), uses(&[3, 0, 4])],
        );
        assert!((1..5).all(|i| out.buffer[i] != out.buffer[0]));
        assert_eq!(out.buffer[1], out.buffer[3]);
    }

    #[test]
    fn kept_and_external_slots_are_left_alone() {
        let mut infos = slots(&[8; 4], Lifetime::Transient);
        infos[0].lifetime = Lifetime::External("data".into());
        infos[1].lifetime = Lifetime::Kept;
        let out = assign(&infos, &[uses(&[0, 1]), uses(&[2]), uses(&[3])]);
        assert_eq!(out.buffer[0], None);
        assert!(out.buffer[1] != out.buffer[2] && out.buffer[2] == out.buffer[3]);
    }

    #[test]
    fn unused_slots_get_no_memory() {
        let out = assign(&slots(&[8; 2], Lifetime::Transient), &[uses(&[1])]);
        assert_eq!((out.buffer[0], out.lens.len()), (None, 1));
    }
}
