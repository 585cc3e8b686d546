//! Progress on stderr.

use indicatif::{ProgressBar, ProgressStyle};
use sightline::progress::{Progress, Stage};

/// A bar on stderr; hidden where stderr is not a terminal.
pub fn bar(len: u64, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:16} {bar:32} {pos}/{len} {elapsed}");
    let bar = ProgressBar::new(len).with_message(what.to_string());
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// One bar after the other for what takes time, as it is told.
#[derive(Default)]
pub struct Bars(Option<(Stage, ProgressBar)>);

impl Bars {
    /// Moves the bar of something, beginning it where it is new and ending it where it is done.
    pub fn tell(&mut self, progress: Progress) {
        let Some(total) = progress.total else { return };
        if self.0.as_ref().is_none_or(|(stage, _)| *stage != progress.stage) {
            self.clear();
            let what = match progress.stage {
                Stage::Load => "loading",
                Stage::Encode => "encoding image",
                Stage::Gradients => "gradients",
                _ => return,
            };
            self.0 = Some((progress.stage, bar(total, what)));
        }
        if let Some((_, bar)) = &self.0 {
            bar.set_position(progress.done);
        }
        if progress.done == total {
            self.clear();
        }
    }

    /// Takes the bar away.
    pub fn clear(&mut self) {
        if let Some((_, bar)) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}
