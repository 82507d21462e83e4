//! What the best scheduler reaches that is bound as devourd is: it reads messages in one order, holds so many that are
//! not finished, does so many at once, those of a key one after the other, and loses no time. Pure.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

/// What it is bound by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Messages that are done at once.
    pub at_once: usize,
    /// Messages that were read and are not finished.
    pub held: usize,
    /// What each takes, nanoseconds.
    pub wait: u64,
}

/// The time between the end of the first message and that of the `last`-th, where `keys` are the keys of all in the
/// order in which they are read, numbered from 0. The oldest that may be done is done first. `None` if there are fewer.
pub(crate) fn span(keys: &[u32], bounds: Bounds, last: usize) -> Option<u64> {
    let distinct = keys.iter().max().map_or(0, |most| *most as usize + 1);
    // Messages of a key that wait, and whether one of it is at work.
    let mut waiting: Vec<VecDeque<usize>> = vec![VecDeque::new(); distinct];
    let mut busy = vec![false; distinct];
    let mut ready: BinaryHeap<Reverse<usize>> = BinaryHeap::new();
    // All take the same time, so they end in the order in which they began.
    let mut at_work: VecDeque<(u64, usize)> = VecDeque::new();
    let (mut now, mut next, mut held, mut ended) = (0, 0, 0, 0);
    let mut first = None;
    loop {
        while next < keys.len() && held < bounds.held {
            let key = keys[next] as usize;
            if !busy[key] && waiting[key].is_empty() {
                ready.push(Reverse(next));
            }
            waiting[key].push_back(next);
            held += 1;
            next += 1;
        }
        while at_work.len() < bounds.at_once
            && let Some(Reverse(message)) = ready.pop()
        {
            let key = keys[message] as usize;
            waiting[key].pop_front();
            busy[key] = true;
            at_work.push_back((now + bounds.wait, key));
        }
        now = at_work.front()?.0;
        // All that end now, before anything begins: the oldest of what they let go is next.
        while let Some((end, key)) = at_work.front().copied()
            && end == now
        {
            at_work.pop_front();
            held -= 1;
            ended += 1;
            busy[key] = false;
            if let Some(message) = waiting[key].front() {
                ready.push(Reverse(*message));
            }
            let first = *first.get_or_insert(now);
            if ended == last {
                return Some(now - first);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(at_once: usize, held: usize) -> Bounds {
        Bounds {
            at_once,
            held,
            wait: 10,
        }
    }

    #[test]
    fn different_keys_are_done_as_many_at_once_as_may_be() {
        let keys: Vec<u32> = (0..100).collect();
        assert_eq!(span(&keys, bounds(10, 1000), 100), Some(90));
        assert_eq!(span(&keys, bounds(10, 5), 100), Some(190));
        assert_eq!(span(&keys, bounds(1000, 1000), 100), Some(0));
    }

    #[test]
    fn one_key_is_done_one_after_the_other() {
        assert_eq!(span(&[0; 10], bounds(10, 1000), 10), Some(90));
        assert_eq!(span(&[0; 10], bounds(10, 1000), 5), Some(40));
        assert_eq!(span(&[0; 10], bounds(10, 1000), 11), None);
        assert_eq!(span(&[], bounds(10, 1000), 1), None);
    }

    #[test]
    fn what_cannot_be_held_hides_what_comes_behind_it() {
        let keys = [0, 0, 0, 0, 1, 2, 3];
        // 0 and 1 first, then 0 and 2, 0 and 3, 0.
        assert_eq!(span(&keys, bounds(2, 100), 7), Some(30));
        // Two zeros at a time: the others are seen when the third zero has begun.
        assert_eq!(span(&keys, bounds(2, 2), 7), Some(40));
    }

    #[test]
    fn the_oldest_goes_first() {
        // One at once: in the order in which they were read.
        assert_eq!(span(&[0, 1, 0, 2], bounds(1, 100), 3), Some(20));
        // Behind 0 and 1 come the second 0 and 2, not 2 and 3: the third 0 is the last.
        assert_eq!(span(&[0, 1, 0, 2, 3, 0], bounds(2, 100), 6), Some(20));
    }
}
