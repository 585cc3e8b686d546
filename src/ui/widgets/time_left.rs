//! How long something that goes on will take, from how long its steps took so far.
//!
//! Time is that of the window's frames, in seconds. Knows steps; not what they are.

use crate::worker::protocol::RunId;

/// See the module.
#[derive(Debug, Default)]
pub struct TimeLeft {
    /// Of what, since when it is watched, and how many steps were done by then.
    since: Option<(RunId, f64, usize)>,
    /// Steps that were done when the estimate was made, and the estimate.
    known: Option<(usize, String)>,
}

impl TimeLeft {
    /// In words, once a step was seen to be done; made anew with every step.
    pub fn text(&mut self, now: f64, id: RunId, (done, all): (usize, usize)) -> Option<&str> {
        if self.since.is_none_or(|(of, ..)| of != id) {
            (self.since, self.known) = (Some((id, now, done)), None);
        }
        let (_, since, before) = self.since?;
        if done > before && done < all && self.known.as_ref().is_none_or(|(at, _)| *at != done) {
            let each = (now - since) / (done - before) as f64;
            self.known = Some((done, words(each * (all - done) as f64)));
        }
        self.known.as_ref().filter(|_| done < all).map(|(_, text)| text.as_str())
    }
}

fn words(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("about {:.0} s left", s.max(1.0)),
        s if s < 90.0 * 60.0 => format!("about {:.0} min left", s / 60.0),
        s => format!("about {:.1} h left", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_takes_as_long_as_what_was_done() {
        let mut left = TimeLeft::default();
        assert_eq!(left.text(5.0, 1, (3, 103)), None);
        assert_eq!(left.text(9.0, 1, (3, 103)), None, "no step was seen");
        assert_eq!(left.text(15.0, 1, (5, 103)), Some("about 8 min left"));
        assert_eq!(left.text(95.0, 1, (5, 103)), Some("about 8 min left"), "nothing new is known");
        assert_eq!(left.text(105.0, 1, (103, 103)), None);
        assert_eq!(left.text(105.0, 2, (5, 10)), None, "another");
        assert_eq!([1.2, 5400.0].map(words), ["about 1 s left", "about 1.5 h left"]);
    }
}
