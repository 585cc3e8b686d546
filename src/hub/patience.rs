//! What is tried again, how often, and after how long; and work that stops when it is told to.

use std::{
    future::Future,
    pin::pin,
    time::{Duration, Instant},
};

use crate::{
    hub::{control::Control, error::HubError},
    progress::Cancelled,
};

/// How long nothing may come before a connection counts as broken.
const IDLE: Duration = Duration::from_secs(30);

/// How often a download looks whether it is told to stop.
const LOOK: Duration = Duration::from_millis(100);

/// Failures one after the other, without a byte in between, before it is given up.
const TRIES: u32 = 6;

/// The first wait; each further one is twice as long.
const FIRST: Duration = Duration::from_millis(250);

/// Longest wait that a server may ask for; for longer nobody waits.
const LONGEST: Duration = Duration::from_secs(120);

/// Why something is tried again.
#[derive(Debug)]
pub struct Again {
    /// In words.
    pub why: String,
    /// How long the server asks to wait.
    pub after: Option<Duration>,
}

/// What became of some work.
pub enum Watched<T> {
    /// It is done.
    Done(T),
    /// Nothing came for too long.
    Idle,
    /// It is told to rest.
    Paused,
}

/// Waits for work; gives it up, by dropping it, when it is told to rest, or when it takes too long.
///
/// # Errors
/// [`Cancelled`].
pub async fn watched<T>(control: &Control, work: impl Future<Output = T>) -> Result<Watched<T>, Cancelled> {
    let mut work = pin!(work);
    let begun = Instant::now();
    loop {
        control.cancel.check()?;
        if control.is_paused() {
            return Ok(Watched::Paused);
        }
        if begun.elapsed() > IDLE {
            return Ok(Watched::Idle);
        }
        tokio::select! {
            biased;
            done = &mut work => return Ok(Watched::Done(done)),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Waits as long as it is told to rest.
///
/// # Errors
/// [`Cancelled`].
pub async fn rest(control: &Control) -> Result<(), Cancelled> {
    loop {
        control.cancel.check()?;
        if !control.is_paused() {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Counts failures.
#[derive(Debug, Default)]
pub struct Patience {
    failures: u32,
}

impl Patience {
    /// Something came: failures before it do not count.
    pub fn renew(&mut self) {
        self.failures = 0;
    }

    /// How long to wait before the next try; `None` where it is given up.
    pub fn next(&mut self, again: &Again) -> Option<Duration> {
        self.failures += 1;
        if self.failures >= TRIES || again.after.is_some_and(|after| after > LONGEST) {
            return None;
        }
        Some(again.after.unwrap_or_else(|| FIRST * 2u32.pow(self.failures - 1)))
    }

    /// Waits before the next try, unless it is told to stop.
    ///
    /// # Errors
    /// [`HubError::Cancelled`].
    pub async fn wait(control: &Control, wait: Duration) -> Result<(), HubError> {
        let begun = Instant::now();
        while let Some(left) = wait.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
            control.cancel.check()?;
            tokio::time::sleep(left.min(LOOK)).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_grows_and_ends_and_is_renewed() {
        let again = |after| Again { why: String::new(), after };
        let mut patience = Patience::default();
        let waits: Vec<_> = std::iter::from_fn(|| patience.next(&again(None))).collect();
        assert_eq!(waits.len(), TRIES as usize - 1);
        assert_eq!((waits[0], waits[1]), (FIRST, 2 * FIRST));
        patience.renew();
        assert_eq!(patience.next(&again(Some(Duration::from_secs(7)))), Some(Duration::from_secs(7)));
        assert_eq!(patience.next(&again(Some(Duration::from_secs(3600)))), None);
    }

    #[test]
    fn work_stops_when_it_is_told_to() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let control = Control::default();
        let never = || std::future::pending::<()>();
        assert!(matches!(runtime.block_on(watched(&control, async { 3 })), Ok(Watched::Done(3))));
        control.pause(true);
        assert!(matches!(runtime.block_on(watched(&control, never())), Ok(Watched::Paused)));
        control.pause(false);
        assert!(runtime.block_on(rest(&control)).is_ok());
        let stop = control.clone();
        let told = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            stop.cancel.cancel();
        });
        assert!(matches!(runtime.block_on(watched(&control, never())), Err(Cancelled)));
        told.join().unwrap();
        assert!(runtime.block_on(rest(&control)).is_err());
    }
}
