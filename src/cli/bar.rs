//! Progress on stderr.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use sightline::{
    hub::download::State,
    progress::{Progress, Stage},
};

/// A bar on stderr; hidden where stderr is not a terminal.
pub fn bar(len: u64, what: &str) -> ProgressBar {
    styled(len, what, "{msg:16} {bar:32} {pos}/{len} {elapsed}")
}

/// The same for what takes long: with the time that is left.
pub fn long_bar(len: u64, what: &str) -> ProgressBar {
    styled(len, what, "{msg:16} {bar:32} {pos}/{len} {elapsed}, {eta} left")
}

fn styled(len: u64, what: &str, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(len).with_message(what.to_string());
    match ProgressStyle::with_template(template) {
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

/// Two bars for a download: the file that comes, and all of them.
pub struct DownloadBars {
    both: MultiProgress,
    /// Which file comes, and its bar.
    file: Option<(usize, ProgressBar)>,
    all: ProgressBar,
    note: Option<String>,
}

impl DownloadBars {
    /// For so many bytes in all.
    pub fn new(size: u64) -> Self {
        let both = MultiProgress::new();
        let all = both.add(bytes_bar(size, "in all"));
        DownloadBars { both, file: None, all, note: None }
    }

    /// Moves them to where a download is, and says what it waits for.
    pub fn tell(&mut self, state: &State) {
        let current = state.files.iter().position(|file| file.done < file.size);
        if self.file.as_ref().map(|(at, _)| *at) != current {
            self.end_file();
            self.file = current.map(|at| {
                let file = &state.files[at];
                (at, self.both.insert_before(&self.all, bytes_bar(file.size, &file.name)))
            });
        }
        if let Some((at, bar)) = &self.file {
            bar.set_position(state.files[*at].done);
        }
        self.all.set_position(state.total().0);
        if self.note != state.note {
            self.note.clone_from(&state.note);
            if let Some(note) = &self.note {
                self.both.suspend(|| eprintln!("{note}"));
            }
        }
    }

    fn end_file(&mut self) {
        if let Some((_, bar)) = self.file.take() {
            bar.finish_and_clear();
        }
    }

    /// Takes them away.
    pub fn clear(&mut self) {
        self.end_file();
        self.all.finish_and_clear();
    }
}

fn bytes_bar(len: u64, what: &str) -> ProgressBar {
    styled(
        len,
        what,
        "{wide_msg} {bar:32} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}",
    )
}
