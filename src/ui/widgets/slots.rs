//! What maps keep between frames, and for how long.
//!
//! Plain bookkeeping: which maps were drawn lately, and which of their buffers still hold what is to be
//! drawn. Knows nothing of graphics devices.

use std::collections::HashMap;

/// Frames after which what is not drawn any more is dropped.
pub const KEPT_FRAMES: u64 = 60;

/// One value a map on screen, dropped once the map is not drawn for a while.
#[derive(Debug)]
pub struct Slots<T> {
    held: HashMap<u64, (u64, T)>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots { held: HashMap::new() }
    }
}

impl<T: Default> Slots<T> {
    /// The value of a map that is drawn in `frame`.
    pub fn drawn(&mut self, slot: u64, frame: u64) -> &mut T {
        let (last, value) = self.held.entry(slot).or_default();
        *last = frame;
        value
    }

    /// The value of a map, if there is one.
    pub fn get(&self, slot: u64) -> Option<&T> {
        self.held.get(&slot).map(|(_, value)| value)
    }

    /// Drops what was not drawn for [`KEPT_FRAMES`] frames.
    pub fn prune(&mut self, frame: u64) {
        self.held.retain(|_, (last, _)| frame.saturating_sub(*last) <= KEPT_FRAMES);
    }
}

/// A buffer, and what it was filled from.
#[derive(Debug)]
pub struct Filled<K, B> {
    held: Option<(K, B)>,
}

impl<K, B> Default for Filled<K, B> {
    fn default() -> Self {
        Filled { held: None }
    }
}

impl<K: Clone + PartialEq, B> Filled<K, B> {
    /// Fills a new buffer unless the one at hand holds just that. Returns whether it did.
    pub fn hold(&mut self, from: &K, fill: impl FnOnce(&K) -> B) -> bool {
        if self.held.as_ref().is_some_and(|(held, _)| held == from) {
            return false;
        }
        self.held = Some((from.clone(), fill(from)));
        true
    }

    /// The buffer at hand.
    pub fn buffer(&self) -> Option<&B> {
        self.held.as_ref().map(|(_, buffer)| buffer)
    }

    /// Drops the buffer.
    pub fn clear(&mut self) {
        self.held = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_drawn_for_a_while_is_dropped() {
        let mut slots: Slots<u32> = Slots::default();
        *slots.drawn(7, 1) = 70;
        *slots.drawn(8, 1) = 80;
        for frame in 2..=KEPT_FRAMES + 2 {
            assert_eq!(*slots.drawn(8, frame), 80, "what is drawn is kept");
            slots.prune(frame);
        }
        assert_eq!((slots.get(7), slots.get(8)), (None, Some(&80)));
    }

    #[test]
    fn a_buffer_is_filled_once_for_the_same_data() {
        let mut filled: Filled<Vec<u32>, u32> = Filled::default();
        let sum = |data: &Vec<u32>| data.iter().sum();
        let (a, b) = (vec![1, 2], vec![1, 3]);
        assert!(filled.hold(&a, sum) && !filled.hold(&a.clone(), |_| panic!("filled twice")));
        assert!(filled.hold(&b, sum));
        assert_eq!(filled.buffer(), Some(&4));
        filled.clear();
        assert!(filled.buffer().is_none() && filled.hold(&b, sum));
    }
}
