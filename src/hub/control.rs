//! What a download obeys from outside: stop for good, or for a while.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::progress::Cancel;

/// Two flags. Clones are the same flags.
#[derive(Clone, Debug, Default)]
pub struct Control {
    /// Stops it; what came so far stays, and is gone on with the next time.
    pub cancel: Cancel,
    paused: Arc<AtomicBool>,
}

impl Control {
    /// Lets it rest, or go on.
    pub fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    /// Whether it rests.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }
}
