//! A hand that rests on what is being changed: while it does, new answers wait.
//!
//! Set by the window's end, waited for by the thread's; knows nothing of either.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

use crate::progress::Cancel;

/// How often a wait looks whether it was cancelled.
const LOOK: Duration = Duration::from_millis(10);

/// See the module.
#[derive(Debug, Default)]
pub struct Hold {
    rests: Mutex<bool>,
    changed: Condvar,
}

impl Hold {
    /// Says whether the hand rests.
    pub fn set(&self, rests: bool) {
        *self.rests.lock().unwrap_or_else(PoisonError::into_inner) = rests;
        self.changed.notify_all();
    }

    /// Waits until the hand lets go, or the work is cancelled.
    pub fn wait(&self, cancel: &Cancel) {
        let mut rests = self.rests.lock().unwrap_or_else(PoisonError::into_inner);
        while *rests && !cancel.is_cancelled() {
            (rests, _) = self.changed.wait_timeout(rests, LOOK).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    #[test]
    fn a_wait_ends_when_the_hand_lets_go_or_the_work_is_cancelled() {
        let hold = Arc::new(Hold::default());
        hold.wait(&Cancel::default());
        for let_go in [true, false] {
            hold.set(true);
            let cancel = Cancel::default();
            let waits = {
                let (hold, cancel) = (hold.clone(), cancel.clone());
                thread::spawn(move || hold.wait(&cancel))
            };
            thread::sleep(5 * LOOK);
            assert!(!waits.is_finished());
            if let_go {
                hold.set(false)
            } else {
                cancel.cancel()
            }
            waits.join().unwrap();
        }
    }
}
